"""How good a fit is, also on what it has not seen: families and devices left out in turn."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from benchmarks.time_sets.intervals import deviation, stated
from benchmarks.time_sets.left_out import Predicted

FILE = Path(__file__).with_name("agreement.csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Errors of one set of measurements, under one way of fitting. Shares, not percent."""

    set: str
    fit: str
    left_out: str = ""
    rows: int
    median: float
    p90: float
    mean: float
    bias: float
    """The median with its sign."""
    spearman: float
    stated: float
    """The median of the errors that the predictions state."""
    covered: float
    """Share of the rows whose true time is within what their prediction states."""


def agreements(found: Iterable[Predicted], errors: dict[str, float]) -> Iterator[Agreement]:
    """Yield how predictions agree with what was measured: set by set, then GPU by GPU left out."""
    groups: dict[tuple[str, str, str], list[Predicted]] = {}
    for item in found:
        for label in {item.left_out, ""}:
            groups.setdefault((item.set, item.fit, label), []).append(item)
    for (name, fit, left_out), items in groups.items():
        error = torch.cat([item.error for item in items])
        claimed = torch.cat([stated(item, errors) for item in items])
        inside = torch.cat([deviation(item) for item in items]) <= claimed
        measured = torch.cat([_speed(item) for item in items])
        size = error.abs()
        yield Agreement(
            set=name,
            fit=fit,
            left_out=left_out,
            rows=len(size),
            median=float(size.median()),
            p90=float(size.quantile(0.9)),
            mean=float(size.mean()),
            bias=float(error.median()),
            spearman=_spearman(measured / (1 + error), measured),
            stated=float(claimed.median()),
            covered=float(inside.double().mean()),
        )


def _speed(item: Predicted) -> torch.Tensor:
    """Return the measured samples per second."""
    batch = torch.tensor([float(item.table.cases[int(row)].batch) for row in item.rows])
    return batch / item.table.seconds[item.rows]


def _spearman(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the rank correlation."""
    ranks = torch.stack([_ranks(first), _ranks(second)])
    return float(torch.corrcoef(ranks)[0, 1]) if len(first) > 1 else 1.0


def _ranks(values: torch.Tensor) -> torch.Tensor:
    return values.argsort().argsort().double()


# --------------------------------------------------------------------------- the file


def line(row: Agreement) -> str:
    """Write a row for people."""
    return (
        f"{row.set:44} {row.fit:32} {row.left_out:32} {row.rows:4d} rows  median {row.median:6.1%}"
        f"  p90 {row.p90:6.1%}  mean {row.mean:6.1%}  bias {row.bias:+6.1%}"
        f"  stated {row.stated:6.1%}  covered {row.covered:4.0%}"
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
