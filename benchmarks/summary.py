"""The first page on accuracy: one screen on how far to trust which figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median

from benchmarks.time_sets import validation
from benchmarks.time_sets.left_out import DEVICE, FAMILIES, FITTED, KIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one set of measurements says of one prediction. Errors are shares, not percent."""

    what: str
    against: str
    figures: int
    median: float
    ninth: float
    worst: float

    def __str__(self) -> str:
        return (
            f"| {self.what} | {self.against} | {self.figures:,} | {self.median:.1%} | "
            f"{self.ninth:.1%} | {self.worst:+.1%} |"
        )


def line_of(what: str, against: str, errors: Sequence[float]) -> Line:
    """Return the line of a set's errors, of which there is at least one."""
    sizes = sorted(map(abs, errors))
    return Line(
        what=what,
        against=against,
        figures=len(sizes),
        median=median(sizes),
        ninth=sizes[max(0, ceil(0.9 * len(sizes)) - 1)],
        worst=max(errors, key=abs),
    )


HEAD = (
    "| figure | against | figures | median | 90th percentile | worst |",
    "|---|---|--:|--:|--:|--:|",
)
_TRUST = """\
What follows from it:

- *Parameters, shapes and multiply-adds* are exact. Where a published figure differs, the table
  says why.
- *Memory on the CPU* is exact for almost every operator.
- *Memory on a GPU*: for a step of today's PyTorch, trust the interval that is printed. Old software
  adds a context of unknown size, and `cudnn.benchmark` takes workspaces that only cuDNN knows.
- *Time on a GPU*: trust the printed interval, which is wider for a GPU of which nothing was
  measured. To rank layers or two variants of a model is safer than the milliseconds. Steps that
  wait for Python are predicted least well.
- *Nothing was compared with a GPU of ours.* All figures on GPUs are published measurements.
"""


def summary(found: Sequence[Line], notes: Sequence[str] = ()) -> Iterator[str]:
    """Yield the lines of the page below its head; times are those of the last calibration."""
    yield from (*HEAD, *map(str, found), "")
    for note in notes:
        yield from (note, "")
    yield from (*_TRUST.splitlines(), "", *_times())
    yield "[Every table](accuracy-tables.md) has each set, family and bad case."


def _times() -> Iterator[str]:
    rows = {(row.set, row.fit, row.left_out): row for row in validation.read()}
    names = list(dict.fromkeys(name for name, fit, _ in rows if fit == FITTED))
    if not names:
        return
    yield from ("## Time on GPUs: on rows that were fitted, and on rows left out", "")
    yield (
        "By `make calibrate`. Median and 90th percentile of the error. *Family left out*: all "
        "models of an architecture are predicted by a fit without them. *GPU left out*: by a fit "
        "without any row of that GPU. *Siblings too*: nor of a GPU with the same multiprocessors. "
        "Nearly all compiled steps are of one GPU: without it, the ratios of compiled kernels to "
        "eager ones come from fits without the row's family, and rates from a fit without the GPU. "
        "*Inside* is the share of the rows left out whose true time lies within the interval that "
        "the prediction states; it should be four of five."
    )
    yield ""
    yield (
        "| set | figures | fitted | family left out | inside | GPU left out | inside | "
        "siblings too | inside |"
    )
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    for name in names:
        fitted = rows[name, FITTED, ""]
        cells = [f"| {name} | {fitted.rows} | {_errors(fitted)} "]
        for fit in (FAMILIES, DEVICE, KIN):
            row = rows.get((name, fit, ""))
            cells.append(f"| {_errors(row)} | {row.covered:.0%} " if row else "| – | – ")
        yield "".join(cells) + "|"
    yield ""


def _errors(row: validation.Agreement) -> str:
    return f"{row.median:.1%} / {row.p90:.1%}"
