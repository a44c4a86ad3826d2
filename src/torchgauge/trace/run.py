"""Which runs it takes to get a trace: readings of the inputs, simulated first, real if need be."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import torch

from torchgauge.report.model import Execution
from torchgauge.trace.accelerators import names_accelerator
from torchgauge.trace.inputs import InputPlan
from torchgauge.trace.real_run import (
    Demand,
    allowed_bytes,
    decided_by_stand_ins,
    demand,
    refused,
    too_large,
)
from torchgauge.trace.session import Outcome, Request, Session
from torchgauge.trace.values import DataDependentError

_CHANGE_A_RUN = ("torch._dynamo", "torch.nn.attention.flex_attention")
_META_MARKS = ("meta tensor", "meta device", "'meta'", "on meta", "Meta", "is_meta", "data pointer",
               "data_ptr", "no data", " meta ", "unallocated storage",
               "data is not allocated", "fake impl")  # fmt: skip


def run(request: Request) -> Outcome:
    """Return the outcome of the first run that succeeds, else that of the first one that failed.

    Order: the planned reading of the inputs, then the other reading, each with inputs turned to
    integers where an embedding wants them; then, if the model asked for values that a simulation
    does not have, the same on real CPU tensors.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in request.model.modules()):
        wanted = Demand(needed_bytes=0, asked=())
        if not request.simulated_only:
            return _run_for_real(request, "scripted code runs on real tensors only", wanted)
    first: Outcome | None = None
    for plan in (request.plan, *request.plan.alternatives):
        outcome = _simulate(replace(request, plan=plan))
        if outcome.error is not None and names_accelerator(outcome.error):
            request = replace(request, ignore_devices=True)
            outcome = _simulate(replace(request, plan=plan))
        if outcome.error is None:
            return outcome
        may_be_wrong = outcome.is_guess and not request.simulated_only
        if needs_values(outcome.error) or may_be_wrong:
            outcome = _instead(replace(request, plan=plan), outcome)
            if outcome.error is None:
                return outcome
        first = first or outcome
    assert first is not None
    return first


def needs_values(error: BaseException) -> bool:
    """Return whether a run failed because meta tensors have no data."""
    for link in _chain(error):
        if isinstance(link, (DataDependentError, NotImplementedError)):
            return True
        if isinstance(link, (RuntimeError, ValueError, TypeError)) and any(
            mark in str(link) for mark in _META_MARKS
        ):
            return True
    return False


def _simulate(request: Request) -> Outcome:
    outcome = _session(request)
    while outcome.error is not None and outcome.float_index_inputs:
        plan: InputPlan | None = request.plan
        for name in outcome.float_index_inputs:
            plan = plan.with_integer(name) if plan is not None else None
        if plan is None:
            return outcome
        request = replace(request, plan=plan)
        outcome = _session(request)
    return outcome


def _session(request: Request) -> Outcome:
    """Run once, or twice when the first run imported parts of torch that change a run.

    Importing the compiler keeps the frames that are running, and with them tensors, alive for
    longer than the step would. FlexAttention is prepared only once it is there. The second run is
    like every later one.
    """
    before = [name in sys.modules for name in _CHANGE_A_RUN]
    outcome = Session(request, Execution.SIMULATED).run()
    if before != [name in sys.modules for name in _CHANGE_A_RUN]:
        outcome = Session(request, Execution.SIMULATED).run()
    return outcome


def _instead(request: Request, simulated: Outcome) -> Outcome:
    """Return the outcome of a real run, where that is allowed and fits, else the simulated one."""
    if request.simulated_only:
        return refused(simulated, "a real run, which would know it, was ruled out")
    wanted = demand(request, simulated.trace)
    allowed = allowed_bytes()
    why = too_large(wanted, allowed)
    if why:
        return refused(simulated, why)
    reason = str(simulated.error).splitlines()[0]
    return _run_for_real(replace(request, memory_limit=allowed), reason, wanted)


def _run_for_real(request: Request, reason: str, wanted: Demand) -> Outcome:
    """Return the outcome of a real run."""
    if request.on_progress is not None:
        request.on_progress(f"real run on the CPU, a simulated run is not enough: {reason}")
    outcome = Session(request, Execution.REAL).run()
    notes = [f"run for real on the CPU, because a simulated run is not enough: {reason}"]
    if any(parameter.is_meta for parameter in request.model.parameters()):
        notes.append(decided_by_stand_ins(wanted, reason))
    trace = replace(outcome.trace, assumptions=(*outcome.trace.assumptions, *notes))
    return replace(outcome, trace=trace)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
