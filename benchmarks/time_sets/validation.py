"""How good a fit is, also on what it has not seen: families and devices left out in turn."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from benchmarks.time_sets.features import Table
from benchmarks.time_sets.fit import Fit

FILE = Path(__file__).with_name("agreement.csv")
FOLDS = 5
FITTED, FAMILIES, DEVICE = "fitted", "families left out", "device left out"
_SHARE = 0.8
"""Of the rows that an uncertainty covers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Errors of one set of measurements, under one way of fitting. Shares, not percent."""

    set: str
    fit: str
    left_out: str = ""
    rows: int
    median: float
    p80: float
    p90: float
    mean: float
    spearman: float


def agreement(fit: Fit, x: torch.Tensor) -> Iterator[Agreement]:
    """Yield how a fit agrees with the rows that it was made from."""
    for name, table in fit.tables.items():
        yield _agreement(name, FITTED, table, fit.errors(table, x))


def validated(fit: Fit) -> Iterator[Agreement]:
    """Yield how fits without a family, or a device, agree with the rows left out."""
    for name, error in cross_validated(fit).items():
        yield _agreement(name, FAMILIES, fit.tables[name], error)
    a100 = [name for name in fit.devices if name.startswith("A100")]
    for left in [*([name] for name in fit.devices), *([a100] if len(a100) > 1 else [])]:
        yield from _without(fit, left)


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


def stated_errors(found: Iterable[Agreement]) -> dict[str, float]:
    """Return the uncertainties that predictions state: what most rows not seen stay within."""
    rows = list(found)
    known = max(row.p80 for row in rows if row.fit == FAMILIES)
    others = [row.p80 for row in rows if row.fit == DEVICE]
    return {
        "error.known_device": round(known, 3),
        "error.other_device": round(max([known, *others]), 3),
    }


def _without(fit: Fit, devices: Sequence[str]) -> Iterator[Agreement]:
    """Yield how a fit that has not seen a row of some devices predicts them, set by set."""
    masks = {
        label: torch.tensor([case.gpu not in devices for case in table.cases])
        for label, table in fit.tables.items()
    }
    x = fit.run(masks)
    for name, table in fit.tables.items():
        out = ~masks[name]
        if bool(out.any()):
            error = fit.errors(table, x)
            yield _agreement(name, DEVICE, table, error, out, " and ".join(devices))


def _fold(family: str) -> int:
    return hashlib.sha256(family.encode()).digest()[0] % FOLDS


def _agreement(
    name: str,
    how: str,
    table: Table,
    error: torch.Tensor,
    mask: torch.Tensor | None = None,
    left_out: str = "",
) -> Agreement:
    keep = torch.ones(len(error), dtype=torch.bool) if mask is None else mask
    size = error[keep].abs()
    return Agreement(
        set=name,
        fit=how,
        left_out=left_out,
        rows=len(size),
        median=float(size.median()),
        p80=float(size.quantile(_SHARE)),
        p90=float(size.quantile(0.9)),
        mean=float(size.mean()),
        spearman=_spearman(table, error, keep),
    )


def _spearman(table: Table, error: torch.Tensor, keep: torch.Tensor) -> float:
    """Return the rank correlation of predicted and measured samples per second."""
    batch = torch.tensor([float(case.batch) for case in table.cases])
    measured = (batch / table.seconds)[keep]
    ranks = torch.stack([_ranks(measured / (1 + error[keep])), _ranks(measured)])
    return float(torch.corrcoef(ranks)[0, 1])


def _ranks(values: torch.Tensor) -> torch.Tensor:
    return values.argsort().argsort().double()


# --------------------------------------------------------------------------- the file


def line(row: Agreement) -> str:
    """Write a row for people."""
    return (
        f"{row.set:24} {row.fit:18} {row.left_out:32} {row.rows:4d} rows  median {row.median:6.1%}"
        f"  p90 {row.p90:6.1%}  mean {row.mean:6.1%}  Spearman {row.spearman:.4f}"
    )


_NAMES = tuple(item.name for item in fields(Agreement))


def write(rows: Iterable[Agreement], path: Path = FILE) -> None:
    """Write what ``docs/accuracy.md`` shows."""
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write("# How the predicted times agree with what was measured. Written by "
                   "make calibrate.\n")  # fmt: skip
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_NAMES)
        for row in rows:
            values = [getattr(row, name) for name in _NAMES]
            writer.writerow([f"{v:.4f}" if isinstance(v, float) else v for v in values])


def read(path: Path = FILE) -> tuple[Agreement, ...]:
    """Read what ``write`` wrote; nothing where the file is not there."""
    if not path.is_file():
        return ()
    kinds: Mapping[str, Callable[[str], object]] = {
        "set": str,
        "fit": str,
        "left_out": str,
        "rows": int,
    }
    with path.open(newline="", encoding="utf-8") as file:
        found = csv.DictReader(text for text in file if not text.startswith("#"))
        return tuple(
            Agreement(**{name: kinds.get(name, float)(row[name]) for name in _NAMES})  # type: ignore[arg-type]
            for row in found
        )
