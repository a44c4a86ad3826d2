"""The errors that predictions state: what four of five rows not seen stay within.

A step's stated error is the mean over its kernels, by time, of an error for each evidence of a rate
and kind of kernel. Those are fitted by the pinball loss of that quantile, whose minimum has four of
five rows inside (Koenker and Bassett, Regression Quantiles, Econometrica 46, 1978), on rows that
the prediction's fit had not seen; then all of one evidence are scaled so that just four of five
are inside (split-conformal prediction: Lei et al., arXiv 1604.04173). Each set counts the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmarks.time_sets.left_out import COLUMNS, FITTED, Predicted
from torchgauge.devices.evidence import Evidence
from torchgauge.estimate.time.gpu.device_model import ERROR_GROUPS

SHARE = 0.8
"""Of the rows that a stated error covers."""
_LEAST, _STEPS, _RATE, _PULL = 0.02, 600, 0.03, 0.02


def stated_errors(found: Sequence[Predicted]) -> dict[str, float]:
    """Return the coefficients ``error.*`` from predictions of rows left out."""
    unseen = [item for item in found if item.fit != FITTED]
    eager = [item for item in unseen if not item.table.is_compiled]
    values = _quantiles(eager)
    for evidence in Evidence:
        of_it = [item for item in eager if _main_evidence(item) is evidence]
        columns = torch.tensor([column[0] is evidence for column in COLUMNS])
        if of_it:
            values = torch.where(columns, values * _scale(of_it, values), values)
    by_evidence = values.view(len(Evidence), len(ERROR_GROUPS))  # the best first
    values = by_evidence.maximum(by_evidence[:1]).flatten()  # none is narrower than measured
    compiled = [item for item in unseen if item.table.is_compiled]
    names = [f"error.{evidence}.{group}" for evidence, group in COLUMNS]
    errors = dict(zip(names, values.tolist(), strict=True))
    if compiled:
        errors["error.compiled"] = _scale(compiled, values)
    return {name: round(value, 3) for name, value in errors.items()}


def stated(item: Predicted, errors: dict[str, float]) -> torch.Tensor:
    """Return the error that each row's prediction states."""
    values = torch.tensor([errors[f"error.{evidence}.{group}"] for evidence, group in COLUMNS])
    factor = errors.get("error.compiled", 1.0) if item.table.is_compiled else 1.0
    return item.shares @ values * factor


def deviation(item: Predicted) -> torch.Tensor:
    """Return how far the true time is from the prediction, as a share of the prediction."""
    return (1.0 / (1.0 + item.error) - 1.0).abs()


def _quantiles(found: Sequence[Predicted]) -> torch.Tensor:
    shares = torch.cat([item.shares for item in found])
    size = torch.cat([deviation(item) for item in found])
    weight = torch.cat([_weights(item, found) for item in found])
    x = torch.full((len(COLUMNS),), 0.12).log().requires_grad_(True)
    optimizer = torch.optim.Adam([x], lr=_RATE)
    for _ in range(_STEPS):
        beyond = size - shares @ (x.exp() + _LEAST)
        pinball = torch.maximum(SHARE * beyond, (SHARE - 1.0) * beyond)
        loss = (weight * pinball).sum()
        means = x.view(len(Evidence), len(ERROR_GROUPS)).mean(dim=1, keepdim=True)
        pull = _PULL * 0.1 * ((x.view_as(x).view(len(Evidence), -1) - means) ** 2).mean()
        optimizer.zero_grad()
        (loss + pull).backward()
        optimizer.step()
    return x.detach().exp() + _LEAST


def _weights(item: Predicted, found: Sequence[Predicted]) -> torch.Tensor:
    """Return a weight per row, so that sets and ways of leaving out count the same."""
    alike = sum(len(other.rows) for other in found
                if (other.set, other.fit) == (item.set, item.fit))  # fmt: skip
    groups = len({(other.set, other.fit) for other in found})
    return torch.full((len(item.rows),), 1.0 / alike / groups)


def _main_evidence(item: Predicted) -> Evidence:
    by_evidence = item.shares.sum(dim=0).view(len(Evidence), len(ERROR_GROUPS)).sum(dim=1)
    return list(Evidence)[int(by_evidence.argmax())]


def _scale(found: Sequence[Predicted], values: torch.Tensor) -> float:
    """Return the factor with which four of five rows are inside, each set counting the same."""
    ratio = torch.cat([deviation(item) / (item.shares @ values) for item in found])
    weight = torch.cat([_weights(item, found) for item in found])
    order = ratio.argsort()
    reached = weight[order].cumsum(0) / weight.sum()
    return float(ratio[order][int((reached < SHARE).sum().clamp(max=len(order) - 1))])
