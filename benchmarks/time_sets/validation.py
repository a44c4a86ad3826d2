"""How good a fit is on what it has not seen: families and devices left out in turn."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import torch

from benchmarks.time_sets.calibrate import Fit
from benchmarks.time_sets.features import Table

FOLDS = 5


def cross_validated(fit: Fit) -> dict[str, torch.Tensor]:
    """Return errors of each set, every family predicted by a fit without it."""
    found = {name: torch.zeros(len(table.cases)) for name, table in fit.tables.items()}
    for fold in range(FOLDS):
        out = {
            name: torch.tensor([_fold(case.family) == fold for case in table.cases])
            for name, table in fit.tables.items()
        }
        x = fit.run({name: ~mask for name, mask in out.items()})
        for name, table in fit.tables.items():
            found[name][out[name]] = fit.errors(table, x)[out[name]]
    return found


def without_device(fit: Fit, name: str, devices: Iterable[str]) -> torch.Tensor:
    """Return the errors of a set's rows on devices that the fit has not seen at all."""
    left = set(devices)
    masks = {
        label: torch.tensor([case.gpu not in left for case in table.cases])
        for label, table in fit.tables.items()
    }
    x = fit.run(masks)
    return fit.errors(fit.tables[name], x)[~masks[name]]


def _fold(family: str) -> int:
    return hashlib.sha256(family.encode()).digest()[0] % FOLDS


def line(error: torch.Tensor) -> str:
    """Return median, 90th percentile and mean of the absolute errors."""
    size = error.abs()
    return (
        f"{len(size):4d} rows  median {size.median():6.1%}  p90 {size.quantile(0.9):6.1%}  "
        f"mean {size.mean():6.1%}  bias {error.median():+6.1%}"
    )


def spearman(table: Table, error: torch.Tensor) -> float:
    """Return the rank correlation of predicted and measured samples per second."""
    batch = torch.tensor([float(case.batch) for case in table.cases])
    measured = batch / table.seconds
    ranks = torch.stack([_ranks(measured / (1 + error)), _ranks(measured)])
    return float(torch.corrcoef(ranks)[0, 1])


def _ranks(values: torch.Tensor) -> torch.Tensor:
    return values.argsort().argsort().double()


def print_agreement(fit: Fit, x: torch.Tensor, *, check: bool) -> None:
    """Print how well a fit agrees with its data, and with data that it has not seen."""
    errors: Mapping[str, torch.Tensor] = {
        name: fit.errors(table, x) for name, table in fit.tables.items()
    }
    _print("fitted", fit, errors)
    if not check:
        return
    _print("families left out", fit, cross_validated(fit))
    if "neusight" in fit.tables:
        names = fit.tables["neusight"].device_names
        for left in [*([name] for name in names), [n for n in names if n.startswith("A100")]]:
            found = without_device(fit, "neusight", left)
            print(f"{'device left out':18} {' and '.join(left):32} {line(found)}")


def _print(what: str, fit: Fit, errors: Mapping[str, torch.Tensor]) -> None:
    for name, error in errors.items():
        rank = spearman(fit.tables[name], error)
        print(f"{what:18} {name:32} {line(error)}  Spearman {rank:.4f}")
