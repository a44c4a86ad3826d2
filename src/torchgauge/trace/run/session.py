"""Run a scenario's phases under the recorder and freeze what happened into a ``Trace``."""

from __future__ import annotations

import contextvars
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import nn

from torchgauge.errors import UsageError
from torchgauge.facts.guess import Guess
from torchgauge.facts.scenario import OPTIMIZERS, Precision, Scenario
from torchgauge.facts.trace import Execution, Failure, NamedValue, Phase, Role, Trace
from torchgauge.trace.copy.accelerators import StayOnDevice
from torchgauge.trace.copy.casting import Casting
from torchgauge.trace.copy.constructed import constructed_value
from torchgauge.trace.copy.fused_attention import FusedAttention
from torchgauge.trace.copy.meta_copy import CpuConverter, MetaConverter, Twin, unwrap
from torchgauge.trace.copy.restored import local_part, plain_means_replicated
from torchgauge.trace.failures.hints import explain, explain_optimizer, guessed_hint
from torchgauge.trace.failures.out_of_memory import free_bytes, is_out_of_memory, requested_bytes
from torchgauge.trace.inputs.plan import InputPlan, InputTensor, real_or_made
from torchgauge.trace.inspect.bitsandbytes import has_bitsandbytes, quantization_states
from torchgauge.trace.inspect.describe import (
    call_inputs,
    call_outputs,
    dtype_named,
    parameter_names,
    tensors_in,
)
from torchgauge.trace.inspect.irregular import is_irregular, keep_padding, padding_notes, refuse
from torchgauge.trace.inspect.modules import (
    is_leaf_of_torch,
    modules_of,
    only_calls_modules,
    tensors_of,
)
from torchgauge.trace.inspect.packed_objects import PackedWeights, holds_packed
from torchgauge.trace.inspect.shared_storages import storage_notes
from torchgauge.trace.inspect.subclasses import (
    ORDINARY,
    attached_tensors,
    has_attributes,
    has_special_parameters,
    stored_tensors,
    tensors_held,
)
from torchgauge.trace.inspect.tree import (
    has_forward,
    holds_quantized,
    is_packed_buffer,
    lazy_names,
    module_infos,
    type_name,
    walk,
)
from torchgauge.trace.isolate.isolation import constants_on_cpu, neutral, untouched
from torchgauge.trace.isolate.left_behind import Outside
from torchgauge.trace.kernels import cpu
from torchgauge.trace.kernels.autocast import autocast_installed
from torchgauge.trace.kernels.base import VirtualDevice
from torchgauge.trace.operators.repeated import repeatable
from torchgauge.trace.python.list_indices import ListIndicesKnown
from torchgauge.trace.python.outside import OutsideWork
from torchgauge.trace.python.python_calls import Counting
from torchgauge.trace.record.generator_states import generator_states_noted
from torchgauge.trace.record.inside_kernels import AutocastInside, native_autocast
from torchgauge.trace.record.recorder import CompositeCall, Recorder
from torchgauge.trace.run.checkpointing import checkpoint_blocks
from torchgauge.trace.run.lost_gradients import LostGradients
from torchgauge.trace.run.offload import offload
from torchgauge.trace.run.parameter_hooks import ParameterHooks
from torchgauge.trace.run.training import (
    Trainer,
    as_channels_last,
    compute_loss,
    to_channels_last,
)
from torchgauge.trace.torch_internals import (
    attention_fused_on_meta,
    flex_attention_kernel,
    global_module_hooks,
    has_early_onednn,
    higher_order_kernels,
    higher_order_operators,
    meta_answers_as,
    meta_kernels,
    without_modes,
)
from torchgauge.trace.values.control_flow import control_flow
from torchgauge.trace.values.higher_order import flex_attention, flex_attention_without_gradients
from torchgauge.trace.values.simulation import Simulation
from torchgauge.trace.values.spread import stated
from torchgauge.trace.values.values import FROM_SIZE

CallObserver: TypeAlias = Callable[[str, nn.Module, tuple[Any, ...], Any], Any]
"""Takes a module's first path, its twin, the positional arguments and what it returned. What it
computes is not recorded; what it returns is kept (``Outcome.observed``), unless it is None."""
_FLOAT_VALUES_LIMIT = 16
"""Elements up to which a real model's floating-point parameters keep their values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to run: a model, its inputs and a scenario."""

    model: nn.Module
    plan: InputPlan
    scenario: Scenario
    loss: Callable[[Any], torch.Tensor] | None = None
    model_name: str
    on_progress: Callable[[str], None] | None = None
    ignore_devices: bool = False
    """Read accelerators that the model names as the device of the run."""
    gradients: bool = False
    """Run an inference with gradients on, because its forward computes some."""
    list_indices: bool = False
    """Follow indices that are written as lists."""
    simulated_only: bool = False
    """Fail where a simulated run is not enough, instead of a real one."""
    memory_limit: int | None = None
    """Bytes at which a real run is stopped."""
    target: VirtualDevice = cpu.DEVICE
    """Whose kernels a simulated run takes."""
    real_device: str = "cpu"
    """Where a real run takes place."""
    on_call: CallObserver | None = None
    """Called after each forward of a module."""
    note_composites: bool = False
    """Run an inference in inference mode and note the composite operators that it shows whole."""
    forward_only: bool = False
    """End a training step after its first forward."""
    calls_only: bool = False
    """Keep module calls without operators and storages, where a simulated run is all it takes."""
    modules_only_of_failures: bool = False
    """Leave the modules, and what is said of their tensors, out of the trace of a whole run."""


@dataclass(slots=True)
class Outcome:
    """A trace, and the exception that ended it early if there was one."""

    trace: Trace
    error: Exception | None = None
    plan: InputPlan | None = None
    """The reading of the inputs that was run."""
    gradients: bool = False
    """Whether an inference ran with gradients on."""
    observed: tuple[tuple[int, Any], ...] = ()
    """Index of the call and what ``Request.on_call`` returned for it."""
    composites: tuple[CompositeCall, ...] = ()
    """Calls of composite operators in the order in which they ended; only where asked for."""
    is_guess: bool = False
    """Whether something was decided on a guess of what the model chooses."""
    branches_on_choice: bool = False
    """Whether a branch was taken on an even split over choices, which says nothing of it."""
    lost_index: bool = False
    """Whether the values of an index that is written as a list were lost."""
    float_index_inputs: tuple[str, ...] = ()
    """Inputs made as floats from a size that an embedding wanted as integers."""


@dataclass(slots=True)
class _Notes:
    assumptions: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Session:
    """One execution of a request, simulated or real."""

    def __init__(self, request: Request, execution: Execution, *, keep_ops: bool = True) -> None:
        self._request = request
        self._execution = execution
        self._keep_ops = keep_ops = keep_ops and not request.calls_only
        simulated = execution is Execution.SIMULATED
        self._target = request.target
        self._simulation = Simulation(self._target.shape_rules) if simulated else None
        device = self._target.type if simulated else request.real_device
        self._recorder = Recorder(
            device=device,
            simulation=self._simulation,
            kernels=self._target.kernels if device == self._target.type else None,
            fused=self._target.fused if simulated else (),
            keep_ops=keep_ops,
        )
        self._recorder.stands_for_gpu = not simulated and device != self._target.type
        self._recorder.autocast = AutocastInside(self._target.autocast)
        self._outside = OutsideWork(self._recorder)
        self._hooks = ParameterHooks(None)
        self._running: Recorder | None = None
        """The recorder that is at work, from when the copy is made."""
        if self._simulation is not None:
            self._simulation.values.place = self._recorder.place
        else:
            self._recorder.storages.limit_bytes = request.memory_limit
        if request.note_composites and not request.scenario.is_training:
            self._recorder.composites = []
        self._notes = _Notes(assumptions=list(request.plan.assumptions))
        self._stay = StayOnDevice(torch.device("meta" if simulated else request.real_device))
        if request.gradients:
            self._notes.assumptions.append(
                "the forward computes gradients, so the inference ran with gradients on, as a "
                "call outside of torch.no_grad() does; what is saved for them counts as memory"
            )
        self._lost = LostGradients(self._recorder.current_path)
        self._padded: frozenset[str] = frozenset()
        """Encoders that keep padding in this run."""
        self._phase_ends: list[tuple[Phase, int]] = []
        self._observed: list[tuple[int, Any]] = []
        self._input_names: dict[int, str] = {}
        self._registered: set[int] = set()
        """Identities of the parameters and buffers whose storages have their roles."""
        self._outputs: tuple[NamedValue, ...] = ()
        self._wrapping_hint = ""
        self._device = torch.device(request.real_device)
        self._casting = Casting(request.scenario, request.model, request.plan)

    def go_on_with_stand_ins(self) -> list[str]:
        """Answer unknown values by 1 from now on; return the list of what is asked for."""
        assert self._simulation is not None
        asked: list[str] = []
        self._simulation.values.asked = asked
        return asked

    def run(self) -> Outcome:
        """Run every phase; an exception of the model is part of the outcome.

        What the model gives context variables lasts as long as the run.
        """
        return contextvars.copy_context().run(self._run_watched)

    def _run_watched(self) -> Outcome:
        with (
            neutral(),
            untouched(),
            meta_kernels(self._target.kernels, self._target.fused),
            higher_order_operators(),
            higher_order_kernels(control_flow(self._decide, self._notes.assumptions.append)),
            plain_means_replicated(),
            self._devices(),
            self._autocast_installed(),
            self._outside.watched(),
            generator_states_noted(self._recorder),
        ):
            if self._simulation is not None:
                with (
                    constants_on_cpu(),
                    attention_fused_on_meta(),
                    self._list_indices(self._simulation),
                    flex_attention_kernel(flex_attention, any_device=True),
                    self._answers(),
                ):
                    return self._run()
            with flex_attention_kernel(flex_attention_without_gradients, any_device=False):
                return self._run()

    def _devices(self) -> AbstractContextManager[Any]:
        return self._stay if self._request.ignore_devices else nullcontext()

    def _answers(self) -> AbstractContextManager[Any]:
        """Let the classes of quantized weights find the CPU where the CPU is simulated."""
        if self._target.type != "cpu" or not has_special_parameters(self._request.model):
            return nullcontext()

        def is_kernel() -> bool:
            return self._running is None or self._running.is_inside_operator

        return meta_answers_as(torch.device("cpu"), unless=is_kernel)

    def _list_indices(self, simulation: Simulation) -> AbstractContextManager[Any]:
        wanted = self._request.list_indices
        return ListIndicesKnown(simulation.values) if wanted else nullcontext()

    def _decide(self, predicate: torch.Tensor, what: str) -> bool:
        """Return what the tensor says that ``what`` depends on."""
        if self._simulation is None and self._request.plan.tensors_to_make():
            self._notes.assumptions.append(
                f"{what} followed values of inputs that were made from their sizes alone"
            )
        with without_modes():  # to look is not part of the run
            if self._simulation is not None:
                predicate = self._simulation.values.decide(predicate, what)
            return bool(predicate)

    def _run(self) -> Outcome:
        request, recorder = self._request, self._recorder
        simulated = self._simulation is not None
        convert = (
            MetaConverter(self._casting, self._keep_value)
            if simulated
            else CpuConverter(self._casting, self._notes.assumptions, self._device)
        )
        with warnings.catch_warnings():  # what a copied attribute's class deprecates
            warnings.simplefilter("ignore")
            twin = Twin(request.model, convert)
        root = twin.root
        self._notes.warnings += twin.notes
        self._notes.assumptions += twin.assumptions
        if twin.is_sharded:
            self._wrapping_hint = (
                "the copy that ran is the unsharded model; where its forward counts on a rank's "
                "share, analyse the model before it is sharded or offloaded"
            )
        lazy = lazy_names(root)
        self._set_flags(root)
        if simulated:
            self._padded = keep_padding(root)
        if request.scenario.channels_last:
            to_channels_last(root)
        args, kwargs = self._make_inputs(twin)
        self._running = recorder
        if has_bitsandbytes(root) or (self._simulation is None and holds_packed(root)):
            self._settle(root, args, kwargs)
        if self._keep_ops:
            self._register(root)
        self._register_hidden(twin)
        self._register_packed(root)
        self._register_inputs(args, kwargs)
        hooks = self._hooks = self._parameter_hooks(twin)
        specs = recorder.specs
        scripted = isinstance(root, torch.jit.ScriptModule)
        names = () if scripted else parameter_names(type(root).forward)
        inputs = call_inputs(names, args, kwargs, specs)
        self._wrap(root)
        if simulated or request.real_device == "cpu":
            takes_kernel = self._target.takes_attention_kernel if simulated else None
            recorder.inside = FusedAttention(recorder, root, takes_kernel).kernels
        call: Callable[..., Any] = root
        if scripted:  # its inside is not visible, its call is
            call = recorder.wrap_forward("", root, nn.Module.__call__)
            self._notes.assumptions.append("scripted: modules inside are listed, not followed")
        kind = request.scenario.checkpointing_kind
        if kind is not None and checkpoint_blocks(root, kind) == 0:
            self._notes.warnings.append(
                "checkpointing: the model has no repeated blocks to checkpoint"
            )
        error: Exception | None = None
        failure: Failure | None = None
        held: list[Any] = []
        functions = (*(() if request.loss is None else (request.loss,)), *hooks.originals)
        outside = Outside(unwrap(request.model), functions, twin.shared)
        try:
            try:
                if isinstance(convert, MetaConverter) and convert.irregular is not None:
                    refuse(nested=convert.irregular.is_nested)
                run = self._train if request.scenario.is_training else self._infer
                with hooks.running():
                    run(root, partial(self._forward, root, call), args, kwargs, held)
            except Exception as raised:
                error = self._lost.explained(recorder.threads.failure or raised)
                failure = self._failure(root, error, inputs)
            except SystemExit as stop:  # it must not end the caller's process without a word
                error = RuntimeError(f"the model called sys.exit({stop.code!r})")
                failure = self._failure(root, error, inputs)
            recorder.storages.stop()
        finally:
            self._notes.warnings += outside.put_back(root, simulated=simulated)
        del held
        trace = self._freeze(root, lazy, inputs, failure)
        floats = () if self._simulation is None else self._floats_into_embeddings()
        self._unwrap(root)
        return Outcome(
            trace=trace,
            error=error,
            plan=request.plan,
            gradients=request.gradients,
            observed=tuple(self._observed),
            composites=tuple(recorder.composites or ()),
            is_guess=self._simulation is not None and self._simulation.has_guessed_choice,
            branches_on_choice=self._simulation is not None
            and self._simulation.values.branches_on_choice,
            lost_index=self._simulation is not None and self._simulation.lost_index,
            float_index_inputs=floats,
        )

    # ------------------------------------------------------------------ phases

    def _forward(self, root: nn.Module, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call the model, and give the parameters and buffers that it made their roles."""
        output = call(*args, **kwargs)
        self._recorder.threads.check()
        held = tensors_of(root) if self._keep_ops else ()
        if held and not self._registered.issuperset(map(id, (*held.parameters, *held.buffers))):
            self._register(root)
        return output

    def _infer(
        self,
        root: nn.Module,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        held: list[Any],
    ) -> None:
        self._progress("forward")
        whole = self._recorder.composites is not None
        gradients: AbstractContextManager[Any]
        if self._request.gradients:
            gradients = torch.enable_grad()
        else:
            gradients = torch.inference_mode() if whole else torch.no_grad()
        recorder = self._recorder
        with gradients, recorder.threads.followed(recorder), recorder, self._autocast():
            output = call(*args, **kwargs)
        held.append(output)
        storages = self._recorder.storages
        for tensor in tensors_in(output):
            for part in stored_tensors(local_part(tensor)):
                if part.layout is torch.strided:
                    storages.set_role(storages.index_of(part, -1), Role.OUTPUT)
        self._outputs = call_outputs(output, self._recorder.specs)
        self._end_phase(Phase.FORWARD)

    def _train(
        self,
        root: nn.Module,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        held: list[Any],
    ) -> None:
        scenario, recorder = self._request.scenario, self._recorder
        trainer = Trainer(root, scenario, foreach=self._foreach)
        self._register_kept(trainer)
        self._mark_optimizer_states(existing=True)
        before = recorder.storages.alive()
        with (
            torch.enable_grad(),
            recorder.threads.followed(recorder),
            recorder,
            self._lost.noticed(),
        ):
            trainer.begin()
            for _ in range(scenario.accumulation):
                held.clear()
                self._start_phase(Phase.FORWARD)
                with self._autocast(), self._offload():
                    held.append(call(*args, **kwargs))
                    self._outputs = call_outputs(held[0], recorder.specs)
                    self._end_phase(Phase.FORWARD)
                    if self._request.forward_only:
                        return
                    self._start_phase(Phase.LOSS)
                    loss, note = compute_loss(held[0], scenario.loss or "auto", self._request.loss)
                held.append(loss)
                self._end_phase(Phase.LOSS)
                for index in recorder.storages.alive() - before:
                    recorder.storages.set_role(index, Role.SAVED_ACTIVATION)
                self._start_phase(Phase.BACKWARD)
                trainer.backward(loss)
                self._mark_gradients(root)
                self._mark_optimizer_states()
                self._end_phase(Phase.BACKWARD)
            if note:
                self._notes.assumptions.append(note)
            if trainer.optimizer is not None:
                self._start_phase(Phase.OPTIMIZER)
                if self._simulation is not None:
                    self._simulation.values.default = 1.0
                if self._hooks.assumptions and not trainer.has_gradients:
                    self._notes.assumptions.append(
                        f"no gradient was left for {scenario.optimizer}: hooks let go of them all"
                    )
                trainer.step()
                self._mark_optimizer_state(trainer.optimizer)
                self._end_phase(Phase.OPTIMIZER)
        held.append(trainer)

    @property
    def _foreach(self) -> bool:
        """Return whether optimizers go over lists of tensors where the user leaves it open."""
        if self._simulation is None:
            return self._device.type != "cpu"
        return self._target.foreach

    @property
    def _autocast_dtype(self) -> torch.dtype | None:
        return dtype_named(Precision(self._request.scenario.precision).autocast_dtype)

    @property
    def _autocast_device(self) -> str:
        """Return the type of device whose autocast acts: a run on the CPU may stand for a GPU."""
        on_cpu = self._simulation is not None or self._device.type == "cpu"
        return self._target.type if on_cpu else self._device.type

    def _autocast_installed(self) -> AbstractContextManager[None]:
        """Return a context in which regions of autocast act as on the target device.

        A real run on the target itself has PyTorch's own.
        """
        if self._simulation is None and self._device.type == self._autocast_device:
            return native_autocast(self._device.type, self._recorder.autocast)
        return autocast_installed(
            self._target.autocast,
            target=self._target.type,
            aliases=("meta" if self._simulation is not None else self._device.type,),
            note=self._notes.warnings.append,
            assume=self._notes.assumptions.append,
            inside=self._recorder.autocast,
        )

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._autocast_dtype is None:
            return nullcontext()
        return torch.autocast(self._autocast_device, dtype=self._autocast_dtype)

    def _offload(self) -> AbstractContextManager[Any]:
        if not self._request.scenario.offload_activations:
            return nullcontext()
        if self._simulation is None:
            return offload(None)
        return offload(self._recorder.storages, is_host=self._target.type == "cpu")

    def _register_kept(self, trainer: Trainer) -> None:
        """Give what a training step finds from the steps before it its role."""
        storages = self._recorder.storages
        for name, tensor in trainer.kept_gradients():
            storages.register(tensor, Role.GRADIENT, name)
        for tensor in trainer.average:
            storages.register(tensor, Role.OPTIMIZER_STATE, "ema")

    def _start_phase(self, phase: Phase) -> None:
        self._recorder.phase = phase
        self._progress(str(phase))

    def _end_phase(self, phase: Phase) -> None:
        self._phase_ends.append((phase, len(self._recorder.storages.events)))

    def _mark_gradients(self, root: nn.Module) -> None:
        storages = self._recorder.storages
        for name, parameter in root.named_parameters():
            if parameter.grad is None:
                continue
            parameter.grad = local_part(parameter.grad)  # beside a DTensor that of a plain one too
            for part in stored_tensors(parameter.grad):
                if part.layout is torch.strided:
                    storages.set_role(storages.index_of(part, -1), Role.GRADIENT, name)

    def _mark_optimizer_states(self, *, existing: bool = False) -> None:
        """Mark the states of optimizers that hooks step."""
        for optimizer in self._hooks.optimizers:
            self._mark_optimizer_state(optimizer, existing=existing)
        for tensor in self._hooks.tensors if existing else ():
            self._register_parts(stored_tensors(tensor), Role.OPTIMIZER_STATE, "hooks")

    def _mark_optimizer_state(
        self, optimizer: torch.optim.Optimizer, *, existing: bool = False
    ) -> None:
        storages = self._recorder.storages
        on_host = _host_states(optimizer) if self._target.host_states else ()
        for state in optimizer.state.values():
            for name, tensor in state.items():
                parts = stored_tensors(tensor) if isinstance(tensor, torch.Tensor) else ()
                for part in parts:
                    if existing:
                        storages.register(part, Role.OPTIMIZER_STATE, name)
                    index = storages.index_of(part, -1)
                    storages.set_role(index, Role.OPTIMIZER_STATE, name)
                    if name in on_host:
                        storages.set_host(index)

    def _progress(self, text: str) -> None:
        if self._request.on_progress is not None:
            self._request.on_progress(text)

    # ------------------------------------------------------------------ preparation

    def _set_flags(self, root: nn.Module) -> None:
        """Put the twin in the scenario's mode; modules set apart by the user keep their flag."""
        training = self._request.scenario.is_training
        if root.training != training:
            try:
                root.train(training)
            except NotImplementedError:  # exported programs have their mode built in
                pass
            except RecursionError as error:
                raise UsageError(
                    "a module of the model contains itself, so train() and eval() never end",
                    hint="keep a link to a parent out of the modules: self.parent = [parent]",
                ) from error

    def _register(self, root: nn.Module) -> None:
        attached: list[tuple[torch.Tensor, Role, str]] = []
        for role, named in (
            (Role.PARAMETER, root.named_parameters()),
            (Role.BUFFER, root.named_buffers()),
        ):
            for name, tensor in named:
                if role is Role.PARAMETER and _is_ordinary(tensor):
                    self._registered.add(id(tensor))
                    self._recorder.storages.register(tensor, role, name)
                elif not _is_lazy(tensor):
                    packed = role is Role.BUFFER and is_packed_buffer(root, name, tensor)
                    own = Role.PARAMETER if packed else role
                    self._registered.add(id(tensor))
                    self._register_parts(stored_tensors(tensor), own, name)
                    attached += [(tensor, own, name)] if has_attributes(tensor) else []
        for tensor, role, name in attached:  # after all that have a role of their own
            self._register_parts(attached_tensors(tensor), role, name)
        for path, module, _ in walk(root) if has_bitsandbytes(root) else ():
            for state in quantization_states(module):
                self._register_parts(tensors_held(state), Role.PARAMETER, f"{path}.weight")

    def _register_parts(self, parts: Iterable[torch.Tensor], role: Role, name: str) -> None:
        for part in parts:
            if part.layout is torch.strided:
                self._recorder.storages.register(part, role, name)

    def _register_hidden(self, twin: Twin) -> None:
        hidden = twin.hidden_parameters()
        for parameter in hidden:
            parts = (*stored_tensors(parameter), *attached_tensors(parameter))
            self._register_parts(parts, Role.PARAMETER, "")
        if hidden:
            elements = sum(parameter.numel() for parameter in hidden)
            self._notes.warnings.append(
                f"{len(hidden)} parameters ({elements:,} elements) are held by the model but not "
                "registered, in a plain list for instance: neither counted nor trained; "
                "nn.ModuleList, nn.ModuleDict and nn.ParameterList register them"
            )

    def _register_packed(self, root: nn.Module) -> None:
        """Give what quantized modules hold packed its place in memory; it is in no tensor."""
        if not holds_packed(root):
            return
        self._notes.assumptions.append(
            "packed weights: the bytes that their modules give; what a backend keeps besides "
            "(a copy in oneDNN, padding in FBGEMM) is not counted"
        )
        if self._simulation is not None:
            self._notes.assumptions.append(
                "simulated: what kernels of packed weights take for themselves is not in the memory"
            )
        weights = PackedWeights()
        for path, module, shared_with in walk(root):
            if shared_with is None:
                for name, packed in weights.of(path, module):
                    kept = module.__dict__.get(name.rpartition(".")[2])
                    if isinstance(kept, torch.Tensor):  # a bias that the module also keeps
                        self._register_parts([kept], Role.PARAMETER, name)
                    else:
                        self._recorder.storages.register_bytes(
                            packed.stored_bytes, Role.PARAMETER, name
                        )

    def _parameter_hooks(self, twin: Twin) -> ParameterHooks:
        """Give the copy its hooks on parameters, which only a backward runs."""
        request = self._request
        runs_backward = request.scenario.is_training and not request.calls_only
        if not (runs_backward or request.gradients):
            return ParameterHooks(None)
        hooks = ParameterHooks(twin, foreach=self._foreach, around=self._recorder.in_hook)
        self._notes.assumptions += hooks.assumptions
        self._notes.warnings += hooks.warnings
        return hooks

    def _make_inputs(self, twin: Twin) -> tuple[tuple[Any, ...], dict[str, Any]]:
        plan = self._request.plan
        args = tuple(self._make(str(i), value, twin) for i, value in enumerate(plan.args))
        kwargs = {name: self._make(name, value, twin) for name, value in plan.kwargs.items()}
        return args, kwargs

    def _settle(self, root: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Run the model once unrecorded, for what is arranged when layers are first run."""
        unrecorded = Recorder(
            device=self._recorder.specs.device,
            simulation=self._simulation,
            kernels=self._target.kernels,
            keep_ops=False,
        )
        self._running = unrecorded
        try:
            with torch.no_grad(), unrecorded, self._autocast():
                root(*args, **kwargs)
        except Exception:  # the run that is recorded fails again, and says where
            return
        finally:
            self._running = self._recorder

    def _register_inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for name, value in (*((str(i), v) for i, v in enumerate(args)), *kwargs.items()):
            for tensor in tensors_in(value):
                self._register_parts(stored_tensors(tensor), Role.INPUT, name)

    def _make(self, name: str, value: Any, twin: Twin) -> Any:
        return real_or_made(twin.value(value), self._make_tensor)

    def _make_tensor(self, planned: InputTensor) -> torch.Tensor:
        planned = self._casting.made(planned)
        if self._simulation is None:
            made = planned.make("cpu").to(self._device)
            return as_channels_last(made) if self._request.scenario.channels_last else made
        tensor = planned.make("meta")
        if self._request.scenario.channels_last:
            tensor = as_channels_last(tensor)
        if planned.values is not None:
            self._simulation.values.copy_of(tensor, planned.make("cpu"))
        elif planned.dtype.is_floating_point:
            if planned.ones:
                self._simulation.values.guess(tensor, 1)
            elif planned.is_guess:
                self._input_names[tensor.untyped_storage()._cdata] = planned.name
        else:
            self._simulation.values.guess(tensor, 1 if planned.ones else 0)
        return tensor

    def _keep_value(self, original: torch.Tensor, twin: torch.Tensor) -> None:
        """Keep the value of a small tensor of the model or of its inputs beside its twin."""
        assert self._simulation is not None
        limit_floats = original.dtype.is_floating_point and original.numel() > _FLOAT_VALUES_LIMIT
        value = constructed_value(original) if original.is_meta else original
        if value is None or limit_floats or original.dtype != twin.dtype:
            return
        self._simulation.values.copy_of(twin, value)

    def _wrap(self, root: nn.Module) -> None:
        recorder = self._recorder
        is_inferred = self._simulation is not None and not self._request.scenario.is_training
        for path, module, shared_with in walk(root):
            if isinstance(module, torch.jit.ScriptModule) or not has_forward(module):
                continue
            if shared_with is None:
                is_leaf = is_leaf_of_torch(module)
                forward = recorder.wrap_forward(
                    path,
                    module.forward,
                    type(module).forward,
                    counting=Counting.OFF if is_leaf else self._counting(module),
                    observe=self._observer(path, module),
                    layer=repeatable(module) if is_leaf and is_inferred else None,
                )
                module.__dict__["forward"] = forward

    @staticmethod
    def _counting(module: nn.Module) -> Counting:
        is_quiet = only_calls_modules(module) and not any(global_module_hooks())
        return Counting.QUIET if is_quiet else Counting.ON

    def _observer(
        self, path: str, module: nn.Module
    ) -> Callable[[int, tuple[Any, ...], Any], None] | None:
        on_call = self._request.on_call
        if on_call is None:
            return None

        def observe(index: int, args: tuple[Any, ...], output: Any) -> None:
            with without_modes():
                found = on_call(path, module, args, output)
            if found is not None:
                self._observed.append((index, found))

        return observe

    def _unwrap(self, root: nn.Module) -> None:
        """Let go of what refers back: cycles would keep the copy until a collection."""
        for module in modules_of(root):
            if not isinstance(module, torch.jit.ScriptModule):
                module.__dict__.pop("forward", None)
        recorder = self._recorder
        recorder.inside, recorder.on_read, recorder.python.on_compiled = {}, None, None
        if self._simulation is not None:
            self._simulation.values.place = str

    # ------------------------------------------------------------------ results

    def _freeze(
        self,
        root: nn.Module,
        lazy: frozenset[str],
        inputs: tuple[NamedValue, ...],
        failure: Failure | None,
    ) -> Trace:
        recorder = self._recorder
        is_listed = failure is not None or not self._request.modules_only_of_failures
        modules = module_infos(root, lazy) if is_listed else ()
        self._notes.assumptions += self._casting.left_out(modules)
        if is_listed and self._keep_ops:
            self._notes.assumptions += storage_notes(root)
        if self._stay.has_replaced:
            self._notes.assumptions.append(
                "the model names an accelerator in its code; the run stayed on its own device"
            )
        self._notes.assumptions += padding_notes(
            self._padded, recorder.calls, pads_nested=recorder.pads_nested
        )
        if self._simulation is not None:
            self._notes.assumptions += map(Guess, stated(self._simulation.values.decided_on))
            if (
                self._simulation.values.used_default
                and self._request.scenario.optimizer not in OPTIMIZERS  # those read their step
            ):
                self._notes.assumptions.append(
                    Guess("the optimizer reads values of tensors; 1.0 was taken for each")
                )
        if recorder.threads.ran_side_by_side:
            self._notes.assumptions.append(
                "threads of the forward wait for each other: their operators were recorded as "
                "they came, each under the layer that ran in its thread"
            )
        if recorder.sees_shards:
            self._notes.assumptions.append(
                "DTensors in the forward: what this rank computes is counted, not what it sends"
            )
        elif recorder.sees_collectives:
            self._notes.assumptions.append(
                "collectives in the forward: what they send is not counted"
            )
        self._notes.assumptions += filter(None, recorder.assumptions)
        if holds_quantized(root, modules):
            self._notes.assumptions.append(
                "quantized weights: a product is one MAC at any width; quantizing and dequantizing "
                "are element-wise work, and part of the kernel where it does them itself"
            )
        ops = recorder.op_records()
        return Trace(
            torch_version=str(torch.__version__),  # not its TorchVersion
            execution=self._execution,
            model_name=self._request.model_name,
            scenario=self._request.scenario,
            modules=modules,
            calls=recorder.call_records(),
            ops=ops,
            storages=recorder.storages.records(recorder.op_name),
            events=recorder.storages.event_records(),
            inputs=inputs,
            outputs=self._outputs,
            phase_ends=tuple(self._phase_ends),
            batch_size=self._request.plan.batch_size,
            assumptions=tuple(
                dict.fromkeys((*self._notes.assumptions, *self._outside.assumptions))
            ),
            warnings=tuple(dict.fromkeys((*self._notes.warnings, *self._lost.warnings()))),
            failure=failure,
            not_counted=self._outside.not_counted(),
            threads=torch.get_num_threads(),
            has_early_onednn=any("mkldnn_rnn_layer" in op.name for op in ops)
            and has_early_onednn(),
        )

    def _failure(
        self, root: nn.Module, error: Exception, inputs: tuple[NamedValue, ...]
    ) -> Failure:
        if self._recorder.phase is Phase.OPTIMIZER:
            return Failure(
                path="",
                module_type=(self._request.scenario.optimizer or "").rpartition(":")[2],
                inputs=(),
                error_type=type(error).__name__,
                error=str(error).strip() or type(error).__name__,
                phase=Phase.OPTIMIZER,
                hint=explain_optimizer(error),
            )
        call = self._recorder.failed_call
        path = call.path if call is not None else ""
        try:
            module = root.get_submodule(path)
        except (AttributeError, RuntimeError):  # scripted modules refuse
            module = root
        given = call.inputs if call is not None else inputs
        return Failure(
            path=path,
            module_type=type_name(module),
            inputs=given,
            error_type=type(error).__name__,
            error=str(error).strip() or type(error).__name__,
            phase=self._recorder.phase,
            hint=self._wrapping_hint or self._hint(module, given, error),
            requested_bytes=requested_bytes(error) if is_out_of_memory(error) else None,
            free_bytes=free_bytes(self._device) if is_out_of_memory(error) else None,
        )

    def _hint(self, module: nn.Module, given: tuple[NamedValue, ...], error: Exception) -> str:
        if self._recorder.phase is Phase.BACKWARD and (lost := self._lost.hint()):
            return lost
        if of_hook := self._hooks.hint(error):
            return of_hook
        decided = self._simulation.values.decided_on if self._simulation is not None else {}
        guessed = [what for what, origin in decided if origin in FROM_SIZE]
        return explain(module, given, error) or (guessed_hint(guessed[0]) if guessed else "")

    def _floats_into_embeddings(self) -> tuple[str, ...]:
        assert self._simulation is not None
        keys = self._simulation.float_indices
        return tuple(dict.fromkeys(self._input_names[k] for k in keys if k in self._input_names))


def structure(
    model: nn.Module, scenario: Scenario, model_name: str, *, assumptions: Sequence[str] = ()
) -> Trace:
    """Return a trace of nothing: the module tree and its parameters alone."""
    return Trace(
        torch_version=str(torch.__version__),  # not its TorchVersion
        execution=Execution.SIMULATED,
        model_name=model_name,
        scenario=scenario,
        modules=module_infos(model),
        assumptions=tuple(assumptions),
        threads=torch.get_num_threads(),
    )


def _host_states(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    """Return the states that lie beside the device: scalars made without naming one.

    Source: ``_init_group`` of the classes in ``torch.optim`` (2.6–2.13).
    """
    if optimizer.defaults.get("fused") or optimizer.defaults.get("capturable"):
        return ()
    return () if isinstance(optimizer, torch.optim.ASGD) else ("step", "mu_product")


def _is_ordinary(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is numbers in one block of memory, with nothing attached."""
    return type(tensor) in ORDINARY and not (tensor.__dict__ or is_irregular(tensor))


def _is_lazy(tensor: torch.Tensor) -> bool:
    return torch.nn.parameter.is_lazy(tensor)
