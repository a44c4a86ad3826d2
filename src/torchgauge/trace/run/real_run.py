"""When a real run takes the place of a simulated one: what it would take, and what it may take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from torchgauge.facts.trace import Execution, Trace
from torchgauge.trace.failures.out_of_memory import free_bytes
from torchgauge.trace.isolate.isolation import unheard
from torchgauge.trace.run.run_plan import Outcome, RunPlan
from torchgauge.trace.run.session import Session
from torchgauge.units import format_bytes

_SHARE = 0.8
"""Share of the free memory that a real run may take: kernels need room for themselves."""
_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""Where Linux says how much memory a container may use, and how much it does (versions 2, 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a real run would take, as far as a simulation with stand-ins for values can tell."""

    needed_bytes: int
    asked: tuple[str, ...]
    """The unknown values that were asked for."""


def demand(run_plan: RunPlan, failed: Trace) -> Demand:
    """Simulate once more with 1 for every unknown value, and weigh what was alive at its peak.

    Where that fails too, what was alive until then counts, and four times the parameters in
    training: gradients and two states of an optimizer.
    """
    session = Session(
        replace(run_plan, on_progress=None).recorded(on_call=None), Execution.SIMULATED
    )
    asked = session.go_on_with_stand_ins()
    with unheard():
        outcome = session.run()
    factor = 4 if run_plan.scenario.is_training else 1
    parameters = factor * sum(p.numel() * p.element_size() for p in _parameters(run_plan.model))
    return Demand(
        needed_bytes=max(_peak(outcome.trace), _peak(failed), parameters),
        asked=tuple(dict.fromkeys(asked)),
    )


def allowed_bytes() -> int | None:
    """Return how much a real run may take, ``None`` where the free memory is unknown."""
    known = [size for size in (free_bytes(torch.device("cpu")), _left_in_group()) if size]
    return int(min(known) * _SHARE) if known else None


def too_large(wanted: Demand, allowed: int | None) -> str:
    """Return why a real run cannot be done, ``""`` if it can."""
    if allowed is None or wanted.needed_bytes <= allowed:
        return ""
    return (
        f"a real run would need about {format_bytes(wanted.needed_bytes)}, and "
        f"{format_bytes(allowed)} of memory are usable"
    )


def refused(outcome: Outcome, why: str) -> Outcome:
    """Return the outcome of a simulation that a real run could have replaced, with what to do."""
    failure = outcome.trace.failure
    assert failure is not None
    hint = failure.hint
    if "run for real" not in hint:  # what needs more than values says so itself
        hint = "pass real values with input_data=… if an input decides it"
        hint += (
            "; or use a smaller batch or input" if "memory" in why else "; or allow the real run"
        )
    failure = replace(failure, error=f"{failure.error}; {why}", hint=hint)
    return replace(outcome, trace=replace(outcome.trace, failure=failure))


def decided_by_stand_ins(asked: tuple[str, ...], reason: str) -> str:
    """Return the assumption of a real run whose weights have no values."""
    asked = asked or (reason,)
    more = f" and {len(asked) - 1} more" if len(asked) > 1 else ""
    return (
        "the weights are stand-ins, so what depends on their values may differ from a trained "
        f"model's (here: {asked[0]}{more})"
    )


def _peak(trace: Trace) -> int:
    alive = peak = 0
    for event in trace.events:
        nbytes = trace.storages[event.storage].nbytes
        alive += -nbytes if event.is_free else nbytes
        peak = max(peak, alive)
    return peak


def _parameters(model: nn.Module) -> Iterator[torch.Tensor]:
    return (p for p in model.parameters() if not torch.nn.parameter.is_lazy(p))


def _left_in_group() -> int | None:
    for limit, used in _GROUPS:
        with suppress(OSError, ValueError):
            return max(0, int(Path(limit).read_text()) - int(Path(used).read_text()))
    return None
