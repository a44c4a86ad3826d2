"""The errors that predictions state: what four of five rows not seen stay within.

A kernel's stated error is that of its kind's formula, more in training and in compiled steps, and
that of the device's rate, by its evidence: none where the rate was measured, and a datasheet's is
never known better than a sibling's. The two are independent, so their squares add. A step's is the
mean of its kernels', by time. All are fitted by the pinball loss of the wanted quantile, whose
minimum has four of five rows inside (Koenker and Bassett, Regression Quantiles, Econometrica 46,
1978), on rows that the prediction's fit had not seen. Then those of kernels are scaled so that just
four of five rows of other families are inside, and those of rates so that four of five rows of
other GPUs are, with siblings and without (split-conformal prediction: Lei et al., arXiv
1604.04173).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch

from benchmarks.time_sets.left_out import COLUMNS, DEVICE, FAMILIES, FITTED, KIN, Predicted
from torchgauge.devices.evidence import Evidence, Rate
from torchgauge.estimate.time.gpu.device_model import ERROR_GROUPS, combined
from torchgauge.facts.scenario import Mode

SHARE = 0.8
"""Of the rows that a stated error covers."""
_STEPS, _RATE, _PULL = 500, 0.04, 0.0005
_FULL = {True: 60, False: 5}
"""Rows with which a set counts as much as any other, and a GPU."""
_UNMEASURED = (Evidence.SIBLING, Evidence.DATASHEET)
_FACTORS = ("error.training", "error.compiled")


def stated_errors(found: Sequence[Predicted]) -> dict[str, float]:
    """Return the coefficients ``error.*`` from predictions of rows left out."""
    unseen = [item for item in found if item.fit != FITTED]
    values = _quantiles(unseen)
    kernels = [f"error.{group}" for group in ERROR_GROUPS]
    families = [item for item in unseen if item.fit == FAMILIES]
    values = _scaled(families, values, kernels)
    for evidence, fit in zip(_UNMEASURED, (DEVICE, KIN), strict=True):
        others = [item for item in unseen if item.fit == fit]
        if others:
            values = _scaled(others, values, [f"error.{evidence}.{rate}" for rate in Rate])
    for rate in Rate:
        sibling, datasheet = (f"error.{evidence}.{rate}" for evidence in _UNMEASURED)
        values[datasheet] = values[datasheet].maximum(values[sibling])
    return {name: round(float(value), 3) for name, value in values.items()}


def stated(item: Predicted, errors: Mapping[str, float]) -> torch.Tensor:
    """Return the error that each row's prediction states."""
    return _stated(item, {name: torch.tensor(value) for name, value in errors.items()})


def deviation(item: Predicted) -> torch.Tensor:
    """Return how far the true time is from the prediction, as a share of the prediction."""
    return (1.0 / (1.0 + item.error) - 1.0).abs()


def _stated(item: Predicted, errors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    none = torch.zeros(())
    rates = torch.stack([errors.get(f"error.{evidence}.{rate}", none)
                         for _, evidence, rate in COLUMNS])  # fmt: skip
    kernels = torch.stack([errors[f"error.{group}"] for group, _, _ in COLUMNS])
    cases = [item.table.cases[row] for row in item.rows.tolist()]
    is_training = torch.tensor([case.scenario.mode is Mode.TRAINING for case in cases])
    training, compiled = (errors[name] for name in _FACTORS)
    factor = torch.where(is_training, training, 1.0)
    factor = factor * compiled if item.table.is_compiled else factor
    return (item.shares * combined(factor[:, None] * kernels, rates)).sum(dim=1)


def _quantiles(found: Sequence[Predicted]) -> dict[str, torch.Tensor]:
    kernels = torch.full((len(ERROR_GROUPS),), 0.1).log().requires_grad_(True)
    factors = torch.zeros(len(_FACTORS), requires_grad=True)
    rates = torch.full((len(_UNMEASURED), len(Rate)), 0.06).log().requires_grad_(True)
    size = [deviation(item) for item in found]
    weight = [_weights(item, found) for item in found]
    optimizer = torch.optim.Adam([kernels, factors, rates], lr=_RATE)
    for _ in range(_STEPS):
        errors = _named(kernels.exp(), factors.exp(), rates.exp().cumsum(dim=0))
        loss = _PULL * (kernels.var() + rates.var(dim=1).sum())
        for item, true, each in zip(found, size, weight, strict=True):
            beyond = true - _stated(item, errors)
            loss = loss + (each * torch.maximum(SHARE * beyond, (SHARE - 1.0) * beyond)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return _named(kernels.exp(), factors.exp(), rates.exp().cumsum(dim=0))


def _named(
    kernels: torch.Tensor, factors: torch.Tensor, rates: torch.Tensor
) -> dict[str, torch.Tensor]:
    by_group = {f"error.{group}": kernels[i] for i, group in enumerate(ERROR_GROUPS)}
    by_rate = {
        f"error.{evidence}.{rate}": rates[i, j]
        for i, evidence in enumerate(_UNMEASURED)
        for j, rate in enumerate(Rate)
    }
    return by_group | dict(zip(_FACTORS, factors, strict=True)) | by_rate


def _weights(item: Predicted, found: Sequence[Predicted]) -> torch.Tensor:
    """Return a weight per row; those of families left out sum to 1, those of GPUs left out too.

    Families: each set counts the same. GPUs: each GPU does, because its rows share the error of its
    rates. Small groups count by their rows.
    """
    alike: dict[tuple[object, ...], int] = {}
    for other in found:
        alike[_group(other)] = alike.get(_group(other), 0) + len(other.rows)
    own, full = alike[_group(item)], _FULL[item.fit == FAMILIES]
    total = sum(min(rows, full) for key, rows in alike.items() if key[0] == (item.fit == FAMILIES))
    return torch.full((len(item.rows),), min(own, full) / own / total)


def _group(item: Predicted) -> tuple[object, ...]:
    if item.fit == FAMILIES:
        return True, item.set, item.table.is_compiled
    return False, item.fit, item.left_out


def _scaled(
    found: Sequence[Predicted], errors: Mapping[str, torch.Tensor], names: Collection[str]
) -> dict[str, torch.Tensor]:
    """Return the errors, some of them scaled so that just four of five rows are inside."""
    least, most = 0.2, 5.0
    weight = torch.cat([_weights(item, found) for item in found])
    size = torch.cat([deviation(item) for item in found])
    for _ in range(30):
        factor = (least * most) ** 0.5
        tried = {name: value * (factor if name in names else 1.0) for name, value in errors.items()}
        inside = size <= torch.cat([_stated(item, tried) for item in found])
        if float((weight * inside).sum()) < SHARE:
            least = factor
        else:
            most = factor
    return {name: value * (most if name in names else 1.0) for name, value in errors.items()}
