"""What came of a run: the frozen trace, and what is said of a failure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import nn

from torchgauge.facts.guess import Guess
from torchgauge.facts.scenario import OPTIMIZERS, Scenario
from torchgauge.facts.trace import Execution, Failure, ModuleInfo, NamedValue, Phase, Trace
from torchgauge.trace.failures.hints import (
    explain,
    explain_loss,
    explain_optimizer,
    guessed_hint,
)
from torchgauge.trace.failures.out_of_memory import free_bytes, is_out_of_memory, requested_bytes
from torchgauge.trace.inspect.irregular import padding_notes
from torchgauge.trace.inspect.shared_storages import storage_notes
from torchgauge.trace.inspect.tree import holds_quantized, inspected, module_infos, type_name
from torchgauge.trace.record.outside import OutsideWork
from torchgauge.trace.run.attention_note import attention_note
from torchgauge.trace.run.context import RunContext
from torchgauge.trace.run.phases import Phases
from torchgauge.trace.run.prepared import Prepared
from torchgauge.trace.torch_internals.chosen_kernels import has_early_onednn
from torchgauge.trace.values.origins import FROM_SIZE
from torchgauge.trace.values.spread import stated


def freeze(
    context: RunContext,
    prepared: Prepared,
    phases: Phases,
    outside: OutsideWork,
    inputs: tuple[NamedValue, ...],
    failure: Failure | None,
) -> Trace:
    """Return the trace of a run that has ended."""
    recorder = context.recorder
    is_listed = failure is not None or not context.run_plan.recording.modules_only_of_failures
    modules, are_apart = inspected(prepared.root, prepared.lazy) if is_listed else ((), True)
    context.assumptions += context.casting.left_out(modules)
    if context.keep_ops and not are_apart:
        context.assumptions += storage_notes(prepared.root)
    ops = recorder.op_records()
    context.assumptions += _assumptions(context, prepared, modules)
    context.assumptions += attention_note(prepared.root, ops)
    return Trace(
        torch_version=str(torch.__version__),  # not its TorchVersion
        execution=context.execution,
        model_name=context.run_plan.model_name,
        scenario=context.scenario,
        modules=modules,
        calls=recorder.call_records(),
        ops=ops,
        storages=recorder.storages.records(recorder.op_name),
        events=recorder.storages.event_records(),
        inputs=inputs,
        outputs=phases.outputs,
        phase_ends=tuple(phases.ends),
        batch_size=context.run_plan.plan.batch_size,
        assumptions=tuple(dict.fromkeys((*context.assumptions, *outside.assumptions))),
        warnings=tuple(dict.fromkeys((*context.warnings, *phases.lost.warnings()))),
        failure=failure,
        not_counted=outside.not_counted(),
        threads=torch.get_num_threads(),
        has_early_onednn=any("mkldnn_rnn_layer" in op.name for op in ops) and has_early_onednn(),
    )


def _assumptions(
    context: RunContext, prepared: Prepared, modules: tuple[ModuleInfo, ...]
) -> Iterator[str]:
    recorder = context.recorder
    if context.stay.has_replaced:
        yield "the model's code names an accelerator; the run stayed on its own device"
    yield from padding_notes(prepared.padded, recorder.calls, pads_nested=recorder.pads_nested)
    if context.simulation is not None:
        yield from map(Guess, stated(context.simulation.values.decided_on))
        reads_step = context.scenario.optimizer in OPTIMIZERS
        if context.simulation.values.used_default and not reads_step:
            yield Guess("the optimizer reads values of tensors; 1.0 was taken for each")
    if recorder.threads.ran_side_by_side:
        yield (
            "threads of the forward wait for each other: their operators were recorded as "
            "they came, each under the layer that ran in its thread"
        )
    if recorder.sees_shards:
        yield "DTensors in the forward: what this rank computes is counted, not what it sends"
    elif recorder.sees_collectives:
        yield "collectives in the forward: what they send is not counted"
    yield from filter(None, recorder.assumptions)
    if holds_quantized(prepared.root, modules):
        yield (
            "quantized weights: a product is one MAC at any width; quantizing and dequantizing "
            "are element-wise work, and part of the kernel where it does them itself"
        )


def failure_of(
    context: RunContext,
    prepared: Prepared,
    phases: Phases,
    inputs: tuple[NamedValue, ...],
    error: Exception,
) -> Failure:
    """Return where a run failed and what to do about it."""
    recorder = context.recorder
    kind = type(error).__name__
    told = partial(Failure, error_type=kind, error=str(error).strip() or kind, phase=recorder.phase)
    if recorder.phase is Phase.OPTIMIZER:
        name = (context.scenario.optimizer or "").rpartition(":")[2]
        return told(path="", module_type=name, inputs=(), hint=explain_optimizer(error))
    call = recorder.failed_call
    path = call.path if call is not None else ""
    try:
        module = prepared.root.get_submodule(path)
    except (AttributeError, RuntimeError):  # scripted modules refuse
        module = prepared.root
    given = call.inputs if call is not None else inputs
    return told(
        path=path,
        module_type=type_name(module),
        inputs=given,
        hint=_UNSHARDED
        if prepared.copy.is_sharded
        else _hint(context, phases, module, given, error),
        requested_bytes=requested_bytes(error) if is_out_of_memory(error) else None,
        free_bytes=free_bytes(context.device) if is_out_of_memory(error) else None,
    )


_UNSHARDED = (
    "the copy that ran is the unsharded model; where its forward counts on a rank's "
    "share, analyse the model before it is sharded or offloaded"
)


def _hint(
    context: RunContext,
    phases: Phases,
    module: nn.Module,
    given: tuple[NamedValue, ...],
    error: Exception,
) -> str:
    if context.recorder.phase is Phase.BACKWARD and (lost := phases.lost.hint()):
        return lost
    if context.recorder.phase is Phase.LOSS and (of_loss := explain_loss(error)):
        return of_loss
    if of_hook := phases.hooks.hint(error):
        return of_hook
    decided = context.simulation.values.decided_on if context.simulation is not None else {}
    guessed = [what for what, origin in decided if origin in FROM_SIZE]
    return explain(module, given, error) or (guessed_hint(guessed[0]) if guessed else "")


def structure(
    model: nn.Module, scenario: Scenario, model_name: str, *, assumptions: Sequence[str] = ()
) -> Trace:
    """Return a trace in which nothing ran: the module tree and its parameters alone."""
    return Trace(
        torch_version=str(torch.__version__),  # not its TorchVersion
        execution=Execution.SIMULATED,
        model_name=model_name,
        scenario=scenario,
        modules=module_infos(model),
        assumptions=tuple(assumptions),
        threads=torch.get_num_threads(),
    )
