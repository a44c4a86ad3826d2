"""Which runs it takes to get a trace: readings of the inputs, simulated first, real if need be."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from torchgauge.report.guess import Guess
from torchgauge.report.model import Execution
from torchgauge.trace.accelerators import names_accelerator
from torchgauge.trace.inputs import InputPlan
from torchgauge.trace.isolation import unheard
from torchgauge.trace.kernel_memory import one_thread
from torchgauge.trace.missing_data import needs_values
from torchgauge.trace.packed import holds_packed
from torchgauge.trace.session import Outcome, Request, Session

_MEMORY_SHARE = 0.6
"""Share of the free memory that a real run's parameters, gradients and states may take."""
_CHANGE_A_RUN = ("torch._dynamo", "torch.nn.attention.flex_attention")
_GRADIENT_MARKS = ("does not require grad", "doesn't require gradient", "has requires_grad=False")
"""What ``autograd.grad``, ``backward``, ``register_hook`` and ``retain_grad`` say without it."""


def run(request: Request) -> Outcome:
    """Return the outcome of the first run that succeeds, else that of the first one that failed.

    Order: the planned reading of the inputs, then the other reading, each with inputs turned to
    integers where an embedding wants them; then, if the model asked for values that a simulation
    does not have, the same on real CPU tensors.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in request.model.modules()):
        reason = "scripted code runs on real tensors only"
        outcome = _run_for_real(request, reason, asks_for_values=False)
        if outcome is not None:
            return outcome
    if holds_packed(request.model):
        outcome = _run_packed(request)
        if outcome is not None:
            return outcome
    first: Outcome | None = None
    for plan in (request.plan, *request.plan.alternatives):
        outcome = _simulate(replace(request, plan=plan))
        if outcome.error is not None and names_accelerator(outcome.error):
            request = replace(request, ignore_devices=True)
            outcome = _simulate(replace(request, plan=plan))
        if outcome.error is not None and lacks_gradients(request, outcome.error):
            request = replace(request, gradients=True)
            outcome = _simulate(replace(request, plan=plan))
        if outcome.error is None:
            return outcome
        if needs_values(outcome.error):
            reason = str(outcome.error).splitlines()[0]
            real = _run_for_real(replace(request, plan=plan), reason)
            if real is not None and lacks_gradients(request, real.error):
                request = replace(request, gradients=True)
                real = _run_for_real(replace(request, plan=plan), reason)
            if real is not None and real.error is None:
                return real
            outcome = real or outcome
        first = first or outcome
    assert first is not None
    return first


def lacks_gradients(request: Request, error: BaseException | None) -> bool:
    """Return whether an inference failed because its forward differentiates, which was off."""
    off = not (request.scenario.is_training or request.gradients)
    return off and isinstance(error, RuntimeError) and any(m in str(error) for m in _GRADIENT_MARKS)


def _run_packed(request: Request) -> Outcome | None:
    """Run a quantized model for real, in the first reading of its inputs that it takes."""
    for plan in (request.plan, *request.plan.alternatives):
        with one_thread():  # how a backend lays out its copy depends on their number
            outcome = _run_for_real(
                replace(request, plan=plan),
                "the kernels of quantized weights run on real tensors only",
            )
        if outcome is None or outcome.error is None:
            return outcome
    return None


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
        with unheard():  # it ran before
            outcome = Session(request, Execution.SIMULATED).run()
    return outcome


def _run_for_real(request: Request, reason: str, *, asks_for_values: bool = True) -> Outcome | None:
    """Return the outcome of a real run, ``None`` when that is not allowed or memory is short."""
    if request.simulated_only or _bytes_needed(request) > _free_memory() * _MEMORY_SHARE:
        return None
    if request.on_progress is not None:
        request.on_progress("real run on the CPU")
    outcome = Session(request, Execution.REAL).run()
    note = f"run for real on the CPU, because a simulated run is not enough: {reason}"
    is_made_up = asks_for_values and bool(request.plan.tensors_to_make())
    if is_made_up or request.target.type != "cpu":  # made-up values, or another device's kernels
        note = Guess(note)
    trace = replace(outcome.trace, assumptions=(*outcome.trace.assumptions, note))
    return replace(outcome, trace=trace)


def _bytes_needed(request: Request) -> int:
    factor = 4 if request.scenario.is_training else 1
    return factor * sum(p.numel() * p.element_size() for p in _parameters(request.model))


def _parameters(model: nn.Module) -> Iterator[torch.Tensor]:
    return (p for p in model.parameters() if not torch.nn.parameter.is_lazy(p))


def _free_memory() -> int:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 1 << 62
