"""One run: the copy is made and called under the recorder, and the trace is frozen."""

from __future__ import annotations

import contextvars
from collections import Counter, defaultdict
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from torchgauge.facts.choices.checkpointing import Place
from torchgauge.facts.trace import Execution, Failure, Trace
from torchgauge.trace.copy.meta_copy import ModelCopy
from torchgauge.trace.copy.restored import plain_means_replicated
from torchgauge.trace.inspect.bitsandbytes import has_bitsandbytes
from torchgauge.trace.inspect.describe import call_inputs, parameter_names
from torchgauge.trace.inspect.irregular import refuse
from torchgauge.trace.inspect.packed_objects import holds_packed
from torchgauge.trace.inspect.subclasses import has_special_parameters
from torchgauge.trace.inspect.wrappers import unwrap
from torchgauge.trace.isolate.isolation import constants_on_cpu, neutral, untouched
from torchgauge.trace.isolate.left_behind import Outside
from torchgauge.trace.kernels.autocast import autocast_installed
from torchgauge.trace.python.list_indices import ListIndicesKnown
from torchgauge.trace.record.generator_states import generator_states_noted
from torchgauge.trace.record.inside_kernels import native_autocast
from torchgauge.trace.record.outside import OutsideWork
from torchgauge.trace.record.recorder import Recorder
from torchgauge.trace.run.context import RunContext
from torchgauge.trace.run.phases import Phases
from torchgauge.trace.run.prepared import Prepared
from torchgauge.trace.run.result import failure_of, freeze
from torchgauge.trace.run.roles import Roles
from torchgauge.trace.run.run_plan import Outcome, RunPlan
from torchgauge.trace.run.watched import WatchedModules
from torchgauge.trace.step.checkpointing import (
    check_places,
    checkpoint_blocks,
    checkpoint_stretches,
)
from torchgauge.trace.step.lost_gradients import LostGradients
from torchgauge.trace.step.parameter_hooks import ParameterHooks
from torchgauge.trace.step.selective import KeptCalls, never_kept
from torchgauge.trace.torch_internals.higher_order import (
    flex_attention_kernel,
    higher_order_kernels,
    higher_order_operators,
)
from torchgauge.trace.torch_internals.kernels import attention_fused_on_meta, meta_kernels
from torchgauge.trace.torch_internals.modes import without_modes
from torchgauge.trace.torch_internals.tensors import meta_answers_as, new_sparse_on_meta
from torchgauge.trace.values.control_flow import control_flow
from torchgauge.trace.values.higher_order import flex_attention, flex_attention_without_gradients


class Session:
    """One execution of a plan, simulated or real."""

    def __init__(
        self,
        run_plan: RunPlan,
        execution: Execution,
        *,
        keep_ops: bool = True,
        may_stand_in: bool = False,
    ) -> None:
        self._context = context = RunContext(
            run_plan, execution, keep_ops=keep_ops, may_stand_in=may_stand_in
        )
        self._run_plan = run_plan
        self._simulation = context.simulation
        self._outside = OutsideWork(context.recorder)
        self._roles = Roles(context)

    def go_on_with_stand_ins(self) -> list[str]:
        """Answer unknown values by 1 from now on; return the list of what is asked for."""
        assert self._simulation is not None
        asked: list[str] = []
        self._simulation.values.asked = asked
        return asked

    @property
    def stood_in(self) -> bool:
        """Return whether layers of a training step were noted from equal ones."""
        return self._context.recorder.stood_in

    @property
    def gave_up(self) -> bool:
        """Return whether what came of that is not to be relied on."""
        return self._context.recorder.gave_up

    def run(self) -> Outcome:
        """Run every phase; an exception of the model is part of the outcome.

        What the model gives context variables lasts as long as the run.
        """
        return contextvars.copy_context().run(self._run_watched)

    # ------------------------------------------------------------------ surroundings

    def _run_watched(self) -> Outcome:
        context = self._context
        with (
            neutral(),
            untouched(),
            meta_kernels(context.target.kernels, context.target.fused),
            higher_order_operators(),
            higher_order_kernels(control_flow(self._decide, context.assume)),
            plain_means_replicated(),
            context.stay if self._run_plan.ignore_devices else nullcontext(),
            self._autocast_installed(),
            self._outside.watched(),
            generator_states_noted(context.recorder),
        ):
            if self._simulation is not None:
                with (
                    constants_on_cpu(),
                    attention_fused_on_meta(),
                    new_sparse_on_meta(),
                    ListIndicesKnown(self._simulation.values)
                    if self._run_plan.list_indices
                    else nullcontext(),
                    flex_attention_kernel(flex_attention, any_device=True),
                    self._answers(),
                ):
                    return self._run()
            with flex_attention_kernel(flex_attention_without_gradients, any_device=False):
                return self._run()

    def _answers(self) -> AbstractContextManager[Any]:
        """Let the classes of quantized weights find the CPU where the CPU is simulated."""
        context = self._context
        if context.target.type != "cpu" or not has_special_parameters(self._run_plan.model):
            return nullcontext()
        return meta_answers_as(
            torch.device("cpu"),
            unless=lambda: context.running is None or context.running.is_inside_operator,
        )

    def _decide(self, tensor: torch.Tensor, what: str) -> Any:
        """Return the value, of a tensor of one element, that ``what`` depends on."""
        if self._simulation is None and self._run_plan.plan.tensors_to_make():
            self._context.assume(
                f"{what} followed values of inputs that were made from their sizes"
            )
        with without_modes():  # to look is not part of the run
            if self._simulation is not None:
                tensor = self._simulation.values.decide(tensor, what)
            return tensor.item()

    def _autocast_installed(self) -> AbstractContextManager[None]:
        """Return a context in which regions of autocast act as on the target device.

        A real run on the target itself has PyTorch's own.
        """
        context = self._context
        device = context.device.type
        if not context.is_simulated and device == context.autocast_device:
            return native_autocast(device, context.recorder.autocast)
        return autocast_installed(
            context.target.autocast,
            target=context.target.type,
            aliases=("meta" if context.is_simulated else device,),
            note=context.warnings.append,
            assume=context.assume,
            inside=context.recorder.autocast,
        )

    # ------------------------------------------------------------------ the run

    def _run(self) -> Outcome:
        context, run_plan = self._context, self._run_plan
        recorder, scenario = context.recorder, context.scenario
        prepared = Prepared(context)
        root, args, kwargs = prepared.root, prepared.args, prepared.kwargs
        context.running = recorder
        lost = LostGradients(recorder.place)
        if has_bitsandbytes(root) or (not context.is_simulated and holds_packed(root)):
            self._settle(root, args, kwargs)
        self._roles.register(prepared.copy, args, kwargs)
        hooks = self._parameter_hooks(prepared.copy)
        phases = Phases(context, self._roles, lost, hooks)
        scripted = isinstance(root, torch.jit.ScriptModule)
        names = () if scripted else parameter_names(type(root).forward)
        inputs = call_inputs(names, args, kwargs, recorder.specs)
        kind = scenario.checkpointing_kind
        places = tuple(map(Place.read, scenario.checkpointed))
        kept_calls: KeptCalls = defaultdict(Counter)
        if kind is not None:
            check_places(root, places)
            checkpoint_stretches(root, kind, places, kept_calls)
        modules = WatchedModules(context, root)
        if kind is not None and checkpoint_blocks(root, kind, places, kept_calls) == 0:
            context.warnings.append("checkpointing: the model has no repeated blocks to checkpoint")
        error: Exception | None = None
        failure: Failure | None = None
        held: list[Any] = []
        functions = (*(() if run_plan.loss is None else (run_plan.loss,)), *hooks.originals)
        outside = Outside(unwrap(run_plan.model), functions, prepared.copy.shared)
        try:
            try:
                if prepared.irregular is not None:
                    refuse(nested=prepared.irregular.is_nested)
                phases.run(root, modules.call, args, kwargs, held)
            except Exception as raised:
                error = lost.explained(recorder.threads.failure or raised)
            except SystemExit as stop:  # it must not end the caller's process without a word
                error = RuntimeError(f"the model called sys.exit({stop.code!r})")
            if error is not None:
                failure = failure_of(context, prepared, phases, inputs, error)
            elif kind is not None:
                context.warnings += never_kept(places, kept_calls)
            recorder.storages.stop()
        finally:
            context.warnings += outside.put_back(root, simulated=context.is_simulated)
        del held
        trace = freeze(context, prepared, phases, self._outside, inputs, failure)
        modules.release()
        if error is None and not context.keep_ops and modules.are_torch_alone:
            prepared.offer_copy()
        return self._outcome(trace, error, prepared, modules)

    def _settle(self, root: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Run the model once unrecorded, for what is arranged when layers are first run."""
        context = self._context
        context.running = unrecorded = Recorder(
            device=context.recorder.specs.device,
            simulation=self._simulation,
            kernels=context.target.kernels,
            keep_ops=False,
        )
        try:
            with torch.no_grad(), unrecorded, context.autocast():
                root(*args, **kwargs)
        except Exception:  # the run that is recorded fails again, and says where
            return
        finally:
            context.running = context.recorder

    def _parameter_hooks(self, copy: ModelCopy) -> ParameterHooks:
        """Give the copy its hooks on parameters, which only a backward runs."""
        context, run_plan = self._context, self._run_plan
        runs_backward = context.scenario.is_training and not run_plan.recording.calls_only
        if not (runs_backward or run_plan.gradients):
            return ParameterHooks(None)
        hooks = ParameterHooks(copy, foreach=context.foreach, around=context.recorder.in_hook)
        context.assumptions += hooks.assumptions
        context.warnings += hooks.warnings
        return hooks

    def _outcome(
        self, trace: Trace, error: Exception | None, prepared: Prepared, modules: WatchedModules
    ) -> Outcome:
        simulation = self._simulation
        return Outcome(
            trace=trace,
            error=error,
            plan=self._run_plan.plan,
            gradients=self._run_plan.gradients,
            observed=tuple(modules.observed),
            composites=tuple(self._context.recorder.composites or ()),
            is_guess=simulation is not None and simulation.has_guessed_choice,
            branches_on_choice=simulation is not None and simulation.values.branches_on_choice,
            lost_index=simulation is not None and simulation.lost_index,
            float_index_inputs=prepared.floats_into_embeddings(),
        )
