"""Whose time it was: a profiled step, its events given to module calls and operators.

The profiler and the wrappers around modules cost time themselves, so only shares are taken from
here. They are scaled, phase by phase, to the medians of the undisturbed step.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from torchgauge.facts.time import OpTime
from torchgauge.facts.trace import Phase, Trace
from torchgauge.measure.marks import CallMarks
from torchgauge.measure.profile import Reading, Shares, events_of, ignore, recorded_name
from torchgauge.measure.step import RealStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """The step's time, given away: parts and remainder sum to its median."""

    calls: Mapping[tuple[str, int], tuple[float, float]]
    """Self time in milliseconds, forward and backward, by path and number of the call."""
    outside_ms: float
    ops: tuple[OpTime, ...]
    between_ops_ms: float


def profile_steps(
    step: RealStep, marks: CallMarks, trace: Trace, steps: int, progress: Callable[[str], None]
) -> Shares:
    """Run steps under the profiler; ``step`` was built with ``marks.wrap``."""
    recorded = {_profiled_name(op.name) for op in trace.ops}
    step.run(ignore)  # the optimizer makes its states
    shares, single = Shares(), []
    for number in range(steps):
        progress(f"profiling, step {number + 1} of {steps}")
        events = events_of(step, marks)
        reading = Reading(events, marks, recorded, on_gpu=step.device.type == "cuda")
        single.append(Shares())
        reading.add_to(shares, single[-1])
        shares.steps += 1
    shares.calls = _typical(single, shares.phases)
    return shares


def _typical(
    steps: Sequence[Shares], phases: Mapping[Phase, float]
) -> defaultdict[tuple[str, int, Phase], float]:
    """Return what each call takes of its phase in the median of the steps.

    A single step may be disturbed in any of its layers. Together they never take more than the
    phases, whose milliseconds over all steps are given.
    """
    keys = dict.fromkeys(key for step in steps for key in step.calls)
    shares = {
        key: median(
            step.calls.get(key, 0.0) / step.phases[key[2]] if step.phases[key[2]] else 0.0
            for step in steps
        )
        for key in keys
    }
    sums: defaultdict[Phase, float] = defaultdict(float)
    for (_, _, phase), share in shares.items():
        sums[phase] += share
    found: defaultdict[tuple[str, int, Phase], float] = defaultdict(float)
    for key, share in shares.items():
        found[key] = share * phases[key[2]] / max(1.0, sums[key[2]])
    return found


def attribute(shares: Shares, medians: Mapping[Phase, float], total: float) -> Attribution:
    """Scale shares to the medians of the phases, and these to the median of the whole step."""
    whole = sum(medians.values())
    scale = {
        phase: (medians.get(phase, 0.0) / profiled) * (total / whole) if profiled and whole else 0.0
        for phase, profiled in shares.phases.items()
    }
    calls: defaultdict[tuple[str, int], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for (path, number, phase), spent in shares.calls.items():
        calls[path, number][phase is Phase.BACKWARD] += spent * scale[phase]
    ops = _op_times(shares, scale)
    inside = sum(map(sum, calls.values()))
    return Attribution(
        calls={key: (forward, backward) for key, (forward, backward) in calls.items()},
        outside_ms=max(0.0, total - inside),
        ops=tuple(ops),
        between_ops_ms=max(0.0, total - sum(op.time_ms for op in ops)),
    )


def _op_times(shares: Shares, scale: Mapping[Phase, float]) -> list[OpTime]:
    """Return one entry per operator, kernel and phase, the slowest first."""
    spent: defaultdict[tuple[str, str, Phase], float] = defaultdict(float)
    calls: Counter[tuple[str, str, Phase]] = Counter()
    for (name, phase, _), path in shares.ops.items():
        key = recorded_name(name), path.kernel(name), phase
        spent[key] += path.spent * scale[phase]
        calls[key] += path.calls
    ops = [
        OpTime(
            name=name,
            kernel=kernel,
            phase=phase,
            calls=max(1, round(calls[name, kernel, phase] / shares.steps)),
            time_ms=milliseconds,
        )
        for (name, kernel, phase), milliseconds in spent.items()
    ]
    return sorted(ops, key=lambda op: (-op.time_ms, op.name))


def _profiled_name(recorded: str) -> str:
    """Return what the profiler calls an operator.

    >>> _profiled_name("aten.convolution.default")
    'aten::convolution'
    """
    namespace, _, rest = recorded.partition(".")
    return f"{namespace}::{rest.partition('.')[0]}"
