"""Predict the published measurements of GPU memory and print how far off that is.

``python -m benchmarks.memory_sets.run --set xmem --limit 20 --cache .memory_traces``
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.memory_sets import peft, published, schedtune, timm_a100, xmem
from benchmarks.memory_sets.cases import DATA, MIB, Measured, MemoryCase, NotPredicted
from benchmarks.memory_sets.gpus import gpu_of, platform_of
from benchmarks.memory_sets.tracing import trace_of
from torchgauge.estimate.memory.intervals import exact_bytes, kind_of
from torchgauge.estimate.memory.lifetimes import live_bytes
from torchgauge.estimate.memory.pipeline import estimate_memory, estimate_on_gpu
from torchgauge.estimate.memory.workspaces import workspaces_for
from torchgauge.facts.fit import Verdict
from torchgauge.facts.trace import Trace

SETS: dict[str, Callable[[Path], Iterator[MemoryCase | NotPredicted]]] = {
    "xmem": xmem.cases,
    "timm": timm_a100.cases,
    "schedtune": schedtune.cases,
    "peft": peft.cases,
    "published": published.cases,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A case and what was predicted for it."""

    case: MemoryCase
    predicted_bytes: int
    fits: bool | None = None
    """Whether it was predicted to run; ``None`` where the GPU's memory is not known."""
    verdict: Verdict | None = None
    kind: str = ""
    """Of the step: what its interval depends on."""
    exact_bytes: int = 0
    """What no kernel decides about."""

    def error(self, constant: float = 0.0) -> float:
        """Return predicted ÷ measured − 1, with a constant added to the prediction."""
        return (self.predicted_bytes + constant) / self.case.measured_bytes - 1


_PREFETCHED = 1.25
"""Bytes of a batch that waits on the GPU, for each of its own: floats, and bytes beside them."""


def predict(case: MemoryCase, trace: Trace) -> Result:
    """Return the bytes that this case's figure should show, and whether it runs."""
    platform = platform_of(case)
    tensors = estimate_memory(trace, live_bytes(trace, workspaces_for(platform)))
    memory = estimate_on_gpu(trace, gpu_of(case), tensors)
    assert memory.peak_reserved_bytes is not None and memory.device_bytes is not None
    predicted = {
        Measured.ACTIVE: memory.peak_allocated_bytes,
        Measured.DEVICE: memory.device_bytes,
    }.get(case.measured, memory.peak_reserved_bytes)
    waiting = int(_PREFETCHED * case.prefetched_inputs * case.input_bytes)
    return Result(
        case=case,
        predicted_bytes=predicted + waiting,
        fits=memory.fits,
        verdict=memory.verdict,
        kind=kind_of(trace, platform, memory.peak_reserved_bytes),
        exact_bytes=exact_bytes(trace),
    )


def sample(cases: Sequence[MemoryCase], limit: int | None) -> list[MemoryCase]:
    """Return at most so many cases, evenly spread over the list."""
    if limit is None or limit >= len(cases):
        return list(cases)
    step = len(cases) / limit
    return [cases[int(index * step)] for index in range(limit)]


def results(cases: Iterable[MemoryCase], cache: Path | None, quiet: bool) -> list[Result]:
    """Predict the cases one after the other, printing a line for each."""
    found = []
    for case in cases:
        begin = time.perf_counter()
        try:
            trace = trace_of(case, cache)
            result = predict(case, trace)
        except Exception as error:  # one that fails is a line of the output
            print(f"{case.id}: {type(error).__name__}: {error}".splitlines()[0])
            continue
        found.append(result)
        if not quiet:
            print(_line(result, time.perf_counter() - begin), flush=True)
    return found


def _line(result: Result, seconds: float) -> str:
    case = result.case
    oom = "  ran out of memory" if case.out_of_memory else ""
    return (
        f"{case.id:52} {case.measured_bytes / MIB:9.0f} {result.predicted_bytes / MIB:9.0f} "
        f"{result.error():+7.1%}  {seconds:5.1f} s{oom}"
    )


def table(found: Sequence[Result]) -> list[str]:
    """Return lines of errors, raw and with the one constant that suits the whole set best."""
    counted = [r for r in found if not r.case.out_of_memory]
    if not counted:
        return ["no results"]
    constant = best_constant(counted)
    lines = [
        f"best constant {constant / MIB:.0f} MiB",
        f"{'family':24} {'n':>4}  {'raw: median, p90, worst':>28}  {'with constant':>28}",
    ]
    families = sorted({r.case.family for r in counted})
    groups = [("all", counted)]
    if any(r.case.implausible for r in counted):
        groups.append(("without implausible rows", [r for r in counted if not r.case.implausible]))
    groups += [(f, [r for r in counted if r.case.family == f]) for f in families]
    for name, group in groups:
        raw, moved = _summary(group, 0.0), _summary(group, constant)
        lines.append(f"{name:24} {len(group):4}  {raw:>28}  {moved:>28}")
    return lines


def best_constant(found: Sequence[Result]) -> float:
    """Return the constant, in bytes, for which the median absolute error is least."""
    candidates = [r.case.measured_bytes - r.predicted_bytes for r in found]
    return min(candidates, key=lambda c: statistics.median(abs(r.error(c)) for r in found))


def _summary(group: Sequence[Result], constant: float) -> str:
    errors = sorted(abs(r.error(constant)) for r in group)
    worst = max((r.error(constant) for r in group), key=abs)
    ninth = errors[max(0, math.ceil(0.9 * len(errors)) - 1)]
    return f"{statistics.median(errors):7.1%} {ninth:7.1%} {worst:+8.1%}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--set", choices=SETS, action="append", help="all of them by default")
    parser.add_argument("--data", type=Path, default=DATA, help="where the data files lie")
    parser.add_argument("--limit", type=int, help="predict so many cases of each set")
    parser.add_argument("--cache", type=Path, help="keep traces in this directory")
    parser.add_argument("--match", default="", help="only cases whose name contains this")
    parser.add_argument("--quiet", action="store_true", help="the tables alone")
    options = parser.parse_args(arguments)
    for name in options.set or SETS:
        print(f"## {name}")
        try:
            everything = list(SETS[name](options.data))
        except FileNotFoundError as error:
            print(f"skipped: {error.filename} is not there")
            continue
        cases = [c for c in everything if isinstance(c, MemoryCase) and options.match in c.id]
        found = results(sample(cases, options.limit), options.cache, options.quiet)
        print(*table(found), sep="\n")
        for other in everything:
            if isinstance(other, NotPredicted):
                print(f"not predicted: {other.id}: {other.why}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
