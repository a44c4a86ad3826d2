"""Predictions of rows that a fit has not seen: families, devices and architectures left out.

Nearly all compiled steps were measured on one GPU. Without it nothing says what compiling changes,
which is a question of its own: so the ratios of compiled kernels to eager ones come from fits
without the row's family, and what the GPU sustains from a fit without any row of that GPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch

from benchmarks.time_sets.features import Table
from benchmarks.time_sets.fit import Fit
from torchgauge.devices import find_device
from torchgauge.devices.evidence import Evidence, Rate, evidence_of
from torchgauge.devices.power import family_of
from torchgauge.estimate.time.gpu.device_model import (
    COMPILED,
    ERROR_GROUPS,
    error_group,
    rate_of,
)

FITTED, FAMILIES, DEVICE, KIN = (
    "fitted", "families left out", "device left out", "device and its siblings left out",
)  # fmt: skip
FOLDS = 5
COLUMNS = tuple(product(ERROR_GROUPS, Evidence, Rate))


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """Some rows of a set, predicted by one fit. Errors are shares, not percent."""

    set: str
    fit: str
    left_out: str = ""
    table: Table
    rows: torch.Tensor
    """Which rows of the table: indices."""
    error: torch.Tensor
    """Predicted ÷ measured − 1."""
    shares: torch.Tensor
    """``[rows, COLUMNS]``: of the step's time, by kind of kernel, evidence of its rate and rate."""


def fitted(fit: Fit, x: torch.Tensor) -> Iterator[Predicted]:
    """Yield the rows that a fit was made from."""
    for name in fit.tables:
        yield _predicted(fit, x, name, FITTED)


def left_out(fit: Fit) -> Iterator[Predicted]:
    """Yield each row as predicted by fits without its family, its device, and its device's kin."""
    by_fold = [fit.run(_others(fit, fold)) for fold in range(FOLDS)]
    yield from _families(fit, by_fold)
    kin: dict[str, list[str]] = {}
    for name in fit.devices:
        kin.setdefault(family_of(find_device(name)), []).append(name)
    for members in kin.values():
        if len(members) > 1:
            for name in members:
                yield from _without(fit, DEVICE, [name], by_fold)
        yield from _without(fit, KIN, members, by_fold)


def _others(fit: Fit, fold: int) -> dict[str, torch.Tensor]:
    """Return which rows are of families outside of a fold."""
    return {name: _folds(table) != fold for name, table in fit.tables.items()}


def _folds(table: Table) -> torch.Tensor:
    return torch.tensor([_fold(case.family) for case in table.cases])


def _families(fit: Fit, by_fold: Sequence[torch.Tensor]) -> Iterator[Predicted]:
    for fold, x in enumerate(by_fold):
        for name, table in fit.tables.items():
            rows = _folds(table) == fold
            if bool(rows.any()):
                yield _predicted(fit, x, name, FAMILIES, rows)


def _without(
    fit: Fit, how: str, devices: Collection[str], by_fold: Sequence[torch.Tensor]
) -> Iterator[Predicted]:
    out = {
        name: torch.tensor([case.gpu in devices for case in table.cases])
        for name, table in fit.tables.items()
    }
    x = fit.run({name: ~mask for name, mask in out.items()})
    is_ratio = torch.tensor([name.startswith(f"{COMPILED}.") for name in fit.names])
    for name, mask in out.items():
        table = fit.tables[name]
        if not table.is_compiled and bool(mask.any()):
            yield _predicted(fit, x, name, how, mask, devices)
        for fold, ratios in enumerate(by_fold if table.is_compiled else ()):
            rows = mask & (_folds(table) == fold)
            if bool(rows.any()):
                yield _predicted(fit, torch.where(is_ratio, ratios, x), name, how, rows, devices)


def _predicted(
    fit: Fit,
    x: torch.Tensor,
    name: str,
    how: str,
    mask: torch.Tensor | None = None,
    without: Collection[str] = (),
) -> Predicted:
    table = fit.tables[name]
    rows = torch.arange(len(table.cases)) if mask is None else mask.nonzero()[:, 0]
    with torch.no_grad():
        c = fit.values(x, without)
        total = fit.predict(table, c)
        shares = _shares(fit, table, c) / total[:, None]
    return Predicted(
        set=name,
        fit=how,
        left_out=" and ".join(without),
        table=table,
        rows=rows,
        error=(total / table.seconds - 1)[rows],
        shares=shares[rows],
    )


def _shares(fit: Fit, table: Table, c: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the seconds of each case by kind of kernel, evidence of its rate and rate."""
    found = torch.zeros(len(table.cases), len(COLUMNS))
    numbers = {name: float(value) for name, value in c.items()}
    evidence = {
        (device, rate): evidence_of(device, rate, numbers)
        for device, _, _ in table.rates
        for rate in Rate
    }
    for group, seconds in fit.times(table, c):
        kind = error_group(group.kind)
        rates = [(device, rate_of(group.kind, arithmetic)) for device, arithmetic, _ in table.rates]
        columns = torch.tensor([COLUMNS.index((kind, evidence[key], key[1])) for key in rates])
        found.index_put_((group.case, columns[group.rate[group.which]]), seconds, accumulate=True)
    return found


def _fold(family: str) -> int:
    return hashlib.sha256(family.encode()).digest()[0] % FOLDS
