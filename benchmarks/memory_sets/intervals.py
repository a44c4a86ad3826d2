"""Between which bytes published figures lie: the intervals of the package, and whether they hold.

``python -m benchmarks.memory_sets.intervals --cache .memory_traces --write``

Split-conformal: the score of a figure is *(measured − exact) ÷ (predicted − exact)*, all without
the CUDA context; ``torchgauge.estimate.memory.intervals`` says what is exact and what the kinds
are. The ends of a kind are the 10th and the 90th percentile of its scores, with the finite-sample
correction. Coverage is that of figures whose family, or whose GPU, was left out.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.memory_sets.cases import DATA, Measured, MemoryCase
from benchmarks.memory_sets.run import SETS, Result, results, sample
from torchgauge.devices.tables import MEMORY_INTERVALS, rows

SHARE = 0.8
"""Of the figures that an interval is to hold."""
FEWEST = 10
"""Figures that a kind needs for an interval of its own."""
_HEAD = """\
# Between which shares of the prediction four of five published figures of GPU memory lie, by the kind of a step.
# Of what is not known exactly, without the CUDA context. coverage: share of the figures within it whose family was
# left out. Written by `python -m benchmarks.memory_sets.intervals --write`; nothing in it is set by hand.
kind,lower,upper,figures,coverage
"""  # noqa: E501


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One published figure against its prediction."""

    set: str
    kind: str
    family: str
    gpu: str
    share: float
    """Measured ÷ predicted, of what is not known exactly."""


Ends = tuple[float, float]


def scores(found: Iterable[Result]) -> list[Score]:
    """Return the figures that say how far off a prediction is; runs that died are left out."""
    return [
        _score(result)
        for result in found
        if not (result.case.out_of_memory or result.case.implausible)
    ]


def _score(result: Result) -> Score:
    case = result.case
    context = case.context_bytes or 0 if case.measured is Measured.DEVICE else 0
    predicted = result.predicted_bytes - context
    exact = min(result.exact_bytes, predicted - 1)
    return Score(
        set=case.set,
        kind=result.kind,
        family=case.family,
        gpu=case.gpu,
        share=(case.measured_bytes - context - exact) / (predicted - exact),
    )


def ends(shares: Sequence[float]) -> Ends:
    """Return the interval of a kind; it holds 1, the prediction itself.

    Raises:
        ValueError: there are fewer shares than ``FEWEST``.

    >>> ends([0.8 + 0.02 * step for step in range(19)])
    (0.82, 1.14)
    """
    if len(shares) < FEWEST:
        raise ValueError(f"{len(shares)} figures are too few for an interval")
    ordered, count = sorted(shares), len(shares)
    tail = (1 - SHARE) / 2
    low = ordered[max(math.floor((count + 1) * tail), 1) - 1]
    high = ordered[min(math.ceil((count + 1) * (1 - tail)), count) - 1]
    return round(min(low, 1.0), 4), round(max(high, 1.0), 4)


def left_out(found: Sequence[Score], group: Callable[[Score], str]) -> list[tuple[Score, bool]]:
    """Return each figure and whether the interval holds it that its group had no part in.

    A kind that is too small without the group takes the widest interval of all others.
    """
    judged = []
    for name in sorted({group(score) for score in found}):
        rest = [score for score in found if group(score) != name]
        known = intervals(rest)
        widest = (min((low for low, _ in known.values()), default=1.0),
                  max((high for _, high in known.values()), default=1.0))  # fmt: skip
        for score in found:
            if group(score) == name:
                low, high = known.get(score.kind, widest)
                judged.append((score, low <= score.share <= high))
    return judged


def intervals(found: Iterable[Score]) -> dict[str, Ends]:
    """Return the ends of each kind that has enough figures."""
    by_kind: defaultdict[str, list[float]] = defaultdict(list)
    for score in found:
        by_kind[score.kind].append(score.share)
    return {kind: ends(shares) for kind, shares in by_kind.items() if len(shares) >= FEWEST}


def table(found: Sequence[Score]) -> str:
    """Return the table of the package."""
    judged = left_out(found, lambda score: score.family)
    lines = []
    for kind, (low, high) in sorted(intervals(found).items()):
        held = [is_held for score, is_held in judged if score.kind == kind]
        lines.append(f'"{kind}",{low},{high},{len(held)},{sum(held) / len(held):.2f}')
    return _HEAD + "\n".join(lines) + "\n"


def section(found: Sequence[Score]) -> Iterator[str]:
    """Yield the lines of the page: the intervals, and their coverage by kind and by set."""
    yield from ("### Intervals of the memory", "")
    yield (
        "The interval of a prediction is meant to hold four of five figures. It is a share of what "
        "is not known exactly: parameters, gradients and optimizer states are. The CUDA context "
        "has an interval of its own, which is added. A step of a kind without figures gets the "
        "widest interval, and the report says so."
    )
    yield from ("", "| kind of step | figures | from | to |", "|---|--:|--:|--:|")
    for row in rows(MEMORY_INTERVALS):
        low, high = float(row["lower"]) - 1, float(row["upper"]) - 1
        yield f"| {row['kind']} | {row['figures']} | {low:+.1%} | {high:+.1%} |"
    yield from ("", "Figures within it, when the interval was made without them:", "")
    yield "| | figures | family left out | GPU left out |"
    yield "|---|--:|--:|--:|"
    by_family = left_out(found, lambda score: score.family)
    by_gpu = left_out(found, lambda score: score.gpu)
    for name in ("all", *SETS, *sorted({score.kind for score in found})):
        columns = [
            [held for score, held in judged if name in ("all", score.set, score.kind)]
            for judged in (by_family, by_gpu)
        ]
        if columns[0]:
            shares = " | ".join(f"{sum(held) / len(held):.0%}" for held in columns)
            yield f"| {name} | {len(columns[0])} | {shares} |"
    yield ""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=DATA, help="where the data files lie")
    parser.add_argument("--limit", type=int, help="take so many cases of each set")
    parser.add_argument("--cache", type=Path, help="keep traces in this directory")
    parser.add_argument("--write", action="store_true", help="write the table of the package")
    options = parser.parse_args(arguments)
    predicted: list[Result] = []
    for cases in SETS.values():
        with suppress(FileNotFoundError):
            known = [case for case in cases(options.data) if isinstance(case, MemoryCase)]
            predicted += results(sample(known, options.limit), options.cache, quiet=True)
    found = scores(predicted)
    if options.write:
        MEMORY_INTERVALS.write_text(table(found), encoding="utf-8")
    print(table(found))
    print("\n".join(section(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
