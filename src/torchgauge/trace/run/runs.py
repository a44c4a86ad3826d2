"""Which runs it takes to get a trace: readings of the inputs, simulated first, real if need be."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import import_module

import torch

from torchgauge.facts.guess import Guess
from torchgauge.facts.trace import Execution
from torchgauge.trace.copy.accelerators import names_accelerator
from torchgauge.trace.failures.missing_data import needs_values
from torchgauge.trace.inputs.plan import InputPlan
from torchgauge.trace.inputs.tried_dtypes import (
    has_doubtful,
    looks_nothing_up,
    other_plans,
    speaks_of_dtypes,
)
from torchgauge.trace.inspect.modules import modules_of, tensors_of
from torchgauge.trace.inspect.packed_objects import holds_packed
from torchgauge.trace.isolate.isolation import unheard
from torchgauge.trace.record.kernel_memory import one_thread
from torchgauge.trace.run.real_run import (
    Demand,
    allowed_bytes,
    decided_by_stand_ins,
    demand,
    refused,
    too_large,
)
from torchgauge.trace.run.run_plan import Outcome, RunPlan
from torchgauge.trace.run.session import Session

_CHANGE_A_RUN = ("torch._dynamo", "torch.nn.attention.flex_attention")
_GRADIENT_MARKS = ("does not require grad", "doesn't require gradient", "has requires_grad=False")
"""What ``autograd.grad``, ``backward``, ``register_hook`` and ``retain_grad`` say without it."""


def run(run_plan: RunPlan) -> Outcome:
    """Return the outcome of the first run that succeeds, else that of the first one that failed.

    Order: the planned reading of the inputs, then the other reading, each with inputs turned to
    integers where an embedding wants them; then, if the model asked for values that a simulation
    does not have, the same on real CPU tensors.
    """
    if run_plan.recording.calls_only:
        outcome, run_plan = _calls_alone(run_plan), run_plan.recorded(calls_only=False)
        if outcome is not None and outcome.error is None and not outcome.branches_on_choice:
            return outcome
        if outcome is not None and (outcome.error is None or not needs_values(outcome.error)):
            with unheard():  # it ran, and said so
                return run(run_plan)
    if not run_plan.simulated_only:
        if any(isinstance(module, torch.jit.ScriptModule) for module in modules_of(run_plan.model)):
            reason = "scripted code runs on real tensors only"
            return _run_for_real(run_plan, reason, asks_for_values=False)
        if holds_packed(run_plan.model):
            outcome = _run_packed(run_plan)
            if outcome is not None:
                return outcome
    first: Outcome | None = None
    for plan in (run_plan.plan, *run_plan.plan.alternatives):
        outcome = _simulate(replace(run_plan, plan=plan))
        if outcome.error is not None and names_accelerator(outcome.error):
            run_plan = replace(run_plan, ignore_devices=True)
            outcome = _simulate(replace(run_plan, plan=plan))
        if outcome.error is not None and lacks_gradients(run_plan, outcome.error):
            run_plan = replace(run_plan, gradients=True)
            outcome = _simulate(replace(run_plan, plan=plan))
        plan, outcome = _in_other_dtypes(replace(run_plan, plan=plan), outcome)
        if outcome.error is None:
            return _checked(replace(run_plan, plan=plan), outcome)
        if outcome.lost_index and needs_values(outcome.error):
            run_plan = replace(run_plan, list_indices=True)
            outcome = _simulate(replace(run_plan, plan=plan))
        if outcome.error is None:
            return _checked(replace(run_plan, plan=plan), outcome)
        may_be_wrong = outcome.is_guess and not run_plan.simulated_only
        if needs_values(outcome.error) or may_be_wrong:
            outcome = _instead(replace(run_plan, plan=plan), outcome)
            if outcome.error is None:
                return outcome
        first = first or outcome
    assert first is not None
    return first


def _calls_alone(run_plan: RunPlan) -> Outcome | None:
    """Return the first simulated run, ``None`` where it would not be the only one."""
    if any(isinstance(module, torch.jit.ScriptModule) for module in modules_of(run_plan.model)):
        return None
    if holds_packed(run_plan.model) or has_doubtful(run_plan.plan):
        return None
    return _simulate(run_plan)


def _in_other_dtypes(run_plan: RunPlan, outcome: Outcome) -> tuple[InputPlan, Outcome]:
    """Return a run with inputs of other dtypes, where the guessed ones are wrong, and its plan."""
    plan = outcome.plan or run_plan.plan
    if outcome.error is None and not looks_nothing_up(plan, outcome.trace):
        return plan, outcome
    if outcome.error is not None and needs_values(outcome.error):
        return plan, outcome
    for other in other_plans(plan, outcome.error):
        with unheard():
            tried = _simulate(replace(run_plan, plan=other))
        is_cured = not speaks_of_dtypes(tried.error) and speaks_of_dtypes(outcome.error)
        if tried.error is None or needs_values(tried.error) or is_cured:
            return other, tried
    return plan, outcome


def lacks_gradients(run_plan: RunPlan, error: BaseException | None) -> bool:
    """Return whether an inference failed because its forward differentiates, which was off."""
    off = not (run_plan.scenario.is_training or run_plan.gradients)
    return off and isinstance(error, RuntimeError) and any(m in str(error) for m in _GRADIENT_MARKS)


def _run_packed(run_plan: RunPlan) -> Outcome | None:
    """Run a quantized model for real, in the first reading of its inputs that it takes."""
    for plan in (run_plan.plan, *run_plan.plan.alternatives):
        with one_thread():  # how a backend lays out its copy depends on their number
            outcome = _run_for_real(
                replace(run_plan, plan=plan, memory_limit=allowed_bytes()),
                "the kernels of quantized weights run on real tensors only",
            )
        if outcome.error is None:
            return outcome
    return None


def _simulate(run_plan: RunPlan) -> Outcome:
    outcome = _session(run_plan)
    while outcome.error is not None and outcome.float_index_inputs:
        plan: InputPlan | None = run_plan.plan
        for name in outcome.float_index_inputs:
            plan = plan.with_integer(name) if plan is not None else None
        if plan is None:
            return outcome
        run_plan = replace(run_plan, plan=plan)
        outcome = _session(run_plan)
    return outcome


def _session(run_plan: RunPlan) -> Outcome:
    """Run once, or twice when the first run imported parts of torch that change a run.

    Importing the compiler keeps the frames that are running, and with them tensors, alive for
    longer than the step would. FlexAttention is prepared only once it is there. The second run is
    like every later one. PyTorch's optimizers import the compiler: it is there before they are.
    """
    if run_plan.scenario.is_training and run_plan.scenario.optimizer not in (None, "none"):
        import_module(_CHANGE_A_RUN[0])
    before = [name in sys.modules for name in _CHANGE_A_RUN]
    session = Session(run_plan, Execution.SIMULATED, may_stand_in=True)
    outcome = session.run()
    if session.gave_up or (session.stood_in and outcome.error is not None):
        with unheard():  # it ran before
            outcome = Session(run_plan, Execution.SIMULATED).run()
    if before != [name in sys.modules for name in _CHANGE_A_RUN]:
        with unheard():  # it ran before
            outcome = Session(run_plan, Execution.SIMULATED).run()
    return outcome


def _instead(run_plan: RunPlan, simulated: Outcome) -> Outcome:
    """Return the outcome of a real run, where that is allowed and fits, else the simulated one."""
    if run_plan.simulated_only:
        return refused(simulated, "a real run would know it, but is not allowed")
    wanted = demand(run_plan, simulated.trace)
    allowed = allowed_bytes()
    why = too_large(wanted, allowed)
    if why:
        return refused(simulated, why)
    reason = str(simulated.error).splitlines()[0]
    run_plan = replace(run_plan, memory_limit=allowed)
    real = _run_for_real(run_plan, reason, wanted)
    if lacks_gradients(run_plan, real.error):
        real = _run_for_real(replace(run_plan, gradients=True), reason, wanted)
    return real


def _checked(run_plan: RunPlan, simulated: Outcome) -> Outcome:
    """Return a simulated outcome, or a real one where a branch hung on an even split.

    How many tokens an expert gets may be taken to be even; whether a loop ends may not. Weights
    without values decide nothing, and a run that does not fit is not made: then the split stays.
    """
    if not simulated.branches_on_choice or run_plan.simulated_only:
        return simulated
    if any(parameter.is_meta for parameter in run_plan.model.parameters()):
        return simulated
    allowed = allowed_bytes()
    if too_large(demand(run_plan, simulated.trace), allowed):
        return simulated
    real = _run_for_real(
        replace(run_plan, memory_limit=allowed), "a branch depends on what the model chooses"
    )
    return real if real.error is None else simulated


def _run_for_real(
    run_plan: RunPlan, reason: str, wanted: Demand | None = None, *, asks_for_values: bool = True
) -> Outcome:
    """Return the outcome of a real run; ``wanted`` says which values a simulation asked for."""
    if run_plan.on_progress is not None:
        run_plan.on_progress(f"real run on the CPU: {reason}")
    outcome = Session(run_plan, Execution.REAL).run()
    note = f"run for real on the CPU: {reason}"
    is_made_up = asks_for_values and bool(run_plan.plan.tensors_to_make())
    if is_made_up or run_plan.target.type != "cpu":  # made-up values, or another device's kernels
        note = Guess(note)
    notes = [note]
    if any(parameter.is_meta for parameter in tensors_of(run_plan.model).parameters):
        notes.append(Guess(decided_by_stand_ins(wanted.asked if wanted else (), reason)))
    trace = replace(outcome.trace, assumptions=(*outcome.trace.assumptions, *notes))
    return replace(outcome, trace=trace)
