"""Predict the published measurements of time and print how far off that is.

``python -m benchmarks.time_sets.run --set neusight --limit 20 --cache .memory_traces``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.memory_sets.run import sample
from benchmarks.time_sets.cases import DATA, NotPredicted, TimeCase
from benchmarks.time_sets.features import fresh_bytes
from benchmarks.time_sets.results import HEAD, Result, row
from benchmarks.time_sets.sets import FILES, SETS
from benchmarks.time_sets.tracing import trace_of
from torchgauge.devices import find_device
from torchgauge.estimate.time.gpu import predict
from torchgauge.estimate.time.gpu.device_model import model_of
from torchgauge.facts.trace import Phase, Trace


def predicted(case: TimeCase, trace: Trace) -> Result:
    """Return the time of a case: that of its step, and of asking the driver for memory."""
    model = model_of(find_device(case.gpu), case.scenario)
    prediction = predict(trace, model, compiled=case.compiled)
    by_phase = prediction.phase_seconds()
    forward = sum(by_phase.get(phase, 0.0) for phase in (Phase.FORWARD, Phase.LOSS)) * 1e3
    asking = 0.0
    if case.empties_cache:
        per_gib = model.coefficients["driver.allocation_ms_per_gib"]
        asking = per_gib * fresh_bytes(trace) / 2**30
    return Result(
        case=case,
        predicted_ms=prediction.total_seconds * 1e3 + asking,
        stated_error=prediction.error,
        forward_ms=forward + asking,
    )


def results(
    cases: Iterable[TimeCase], cache: Path | None, *, quiet: bool = True
) -> tuple[list[Result], list[str]]:
    """Predict cases one after the other; return with them what failed and why."""
    found: list[Result] = []
    failed: list[str] = []
    for case in cases:
        try:
            result = predicted(case, trace_of(case, cache))
        except Exception as error:  # one that fails is a line of the output
            reason = str(error).splitlines()[0][:100] if str(error) else ""
            failed.append(f"{case.id}: {type(error).__name__}: {reason}")
            continue
        found.append(result)
        if not quiet:
            print(f"{result.error:+8.1%} {result.predicted_ms:10.2f} "
                  f"{case.measured_ms:10.2f}  {case.id}", flush=True)  # fmt: skip
    return found, failed


def of_set(
    name: str, data: Path, limit: int | None, cache: Path | None, *, quiet: bool = True
) -> tuple[list[Result], list[str]]:
    """Predict a set, or an even sample of it."""
    everything = list(SETS[name](data))
    wanted = [case for case in everything if isinstance(case, TimeCase)]
    missing = [f"{case.id}: {case.why}" for case in everything if isinstance(case, NotPredicted)]
    found, failed = results(sample_of(wanted, limit), cache, quiet=quiet)
    return found, [*missing, *failed]


def sample_of(cases: Sequence[TimeCase], limit: int | None) -> list[TimeCase]:
    """Return at most so many cases, evenly spread over the list."""
    return sample(cases, limit)


def main(arguments: list[str] | None = None) -> int:
    """Print a line per case and a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--set", choices=sorted(SETS), action="append", help="default: all")
    parser.add_argument("--data", type=Path, default=DATA, help="where the data files lie")
    parser.add_argument("--limit", type=int, help="at most so many cases of each set")
    parser.add_argument("--cache", type=Path, help="keep traces in this directory")
    parser.add_argument("--quiet", action="store_true", help="no line per case")
    options = parser.parse_args(arguments)
    rows = []
    for name in options.set or SETS:
        if not (options.data / FILES[name]).is_file():
            print(f"skipped: {options.data / FILES[name]} is not there")
            continue
        found, failed = of_set(
            name, options.data, options.limit, options.cache, quiet=options.quiet
        )
        rows.append(row(name, found))
        for line in failed:
            print(f"not predicted: {line}")
    print(*HEAD, *rows, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
