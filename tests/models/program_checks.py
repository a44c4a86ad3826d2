"""A random program simulated and run for real on the CPU: what must be equal, and what is not."""

from __future__ import annotations

import gc
import os
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler writes a line per run to stderr

import torch
from random_programs import BATCH, Program, Root, Step
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import torchgauge as tg
from torchgauge.errors import TorchGaugeError
from torchgauge.facts.query import own_costs
from torchgauge.trace.step.training import compute_loss, make_optimizer
from torchgauge.trace.torch_internals.profiler import memory_changes


@dataclass
class RealRun:
    """What a real run showed."""

    calls: defaultdict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    """By module path and per call: shapes and dtypes that came in and went out."""
    macs: int = 0
    peak: int = 0
    error: Exception | None = None


def leaves(value: Any) -> list[Any]:
    """Return shape and dtype of each leaf, ``None`` for other values."""
    if isinstance(value, torch.Tensor):
        return [(tuple(value.shape), str(value.dtype).removeprefix("torch."))]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in leaves(item)]
    return [None]


def reported(values: Any) -> list[Any]:
    return [v.tensor and (v.tensor.shape, v.tensor.dtype) for v in values]


# ------------------------------------------------------------------------ the real run


MATRIX_BY_VECTOR = torch.ops.aten.mv
"""``FlopCounterMode`` has no formula for it."""


class CountingMode(TorchDispatchMode):
    """Count with the formulas of ``FlopCounterMode``, which itself stumbles over checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:
                output = func.decompose(*args, **(kwargs or {}))
            if output is not NotImplemented:
                return output
        output = func(*args, **(kwargs or {}))
        if func._overloadpacket is MATRIX_BY_VECTOR:
            self.flops += 2 * args[0].numel()
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=output)
        return output


@contextmanager
def seen_by_the_counter(model: Root) -> Iterator[None]:
    """Let the counter see products where it knows no kernel of the CPU, and threads."""
    model.inline.on = True
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), torch.backends.mkldnn.flags(enabled=False):
            yield
    finally:
        model.inline.on = False
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def watched(model: nn.Module, seen: RealRun) -> Iterator[None]:
    """Note what goes into each module and comes out; hooks would switch fused kernels off."""

    def around(path: str, forward: Any) -> Any:
        def noted(*args: Any, **kwargs: Any) -> Any:
            given = leaves((args, kwargs))
            output = forward(*args, **kwargs)
            seen.calls[path].append((given, leaves(output)))
            return output

        return noted

    for path, module in model.named_modules():
        module.forward = around(path, module.forward)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in model.modules():
            del module.forward


def count(program: Program, model: Root, seen: RealRun) -> None:
    """Run the forward once, counted."""
    with (
        seen_by_the_counter(model),
        torch.set_grad_enabled(program.training),
        CountingMode() as counter,
    ):
        model(*program.example())
    seen.macs = counter.flops // 2


def step(program: Program, model: Root, inputs: Any, optimizer: Any) -> Any:
    """Run one step and return what the loop still names at its end."""
    if not program.training:
        with torch.no_grad():
            return model(*inputs)
    output = model(*inputs)
    loss, _ = compute_loss(output, "auto", None)
    loss.backward()
    if optimizer is not None:
        optimizer.step()
    return output, loss


def measure(program: Program, model: Root, seen: RealRun) -> None:
    """Run two steps and take the peak of the second one from the profiler."""
    model.zero_grad(set_to_none=True)
    optimizer = make_optimizer(program.optimizer, model.parameters()) if program.training else None
    with watched(model, seen):
        step(program, model, program.example(), optimizer)  # with threads, if there are any
    model.inline.on = True
    model.zero_grad(set_to_none=True)
    inputs = program.example()
    tensors = [*model.parameters(), *model.buffers(), *inputs]
    for state in optimizer.state.values() if optimizer is not None else ():
        tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    del tensors
    gc.disable()
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            held = step(program, model, inputs, optimizer)
        del held
    finally:
        gc.enable()
    total = peak = 0
    for _, size in memory_changes(profiler.profiler):
        total += size
        peak = max(peak, total)
    seen.peak = sum(storages.values()) + peak


def run_for_real(program: Program) -> RealRun:
    """Run a program on real tensors, as far as it goes."""
    seen = RealRun()
    model = program.build()
    try:
        count(program, model, seen)
        measure(program, model, seen)
    except Exception as error:
        seen.error = error
    return seen


# ------------------------------------------------------------------------ the simulated run


def simulate(program: Program, model: Root, inputs: tuple[torch.Tensor, ...]) -> tg.Report:
    """Analyse the module, with its inputs given in the way that was drawn."""
    scenario = tg.Scenario(
        mode="training" if program.training else "inference",
        optimizer=program.optimizer if program.training else None,
    )
    if program.given_as == "tensors":
        return tg.analyze(model, input_data=inputs, scenario=scenario, real_run=False)
    sizes = [tuple(value.shape[1:]) for value in inputs]
    dtypes = [str(value.dtype).removeprefix("torch.") for value in inputs]
    options = {"batch_size": BATCH, "dtypes": dtypes, "real_run": False}
    return tg.analyze(model, sizes, scenario=scenario, **options)


def state_of(model: nn.Module, inputs: Any) -> list[Any]:
    """Return what an analysis must leave as it was."""
    tensors = [*model.parameters(), *model.buffers(), *inputs]
    return [
        *((t.clone(), t.requires_grad, t.grad is None, t._version, t.stride()) for t in tensors),
        *((path, m.training) for path, m in model.named_modules()),
        torch.get_rng_state(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"),
    ]  # fmt: skip


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.shape == other.shape and bool(
            ((one == other) | ((one != one) & (other != other))).all()  # numbers that are none
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


# ------------------------------------------------------------------------ the comparison

NUMBER_BYTES = 8
THREADS = {"thread", "threads"}


ERRORS = {
    "not implemented for": "kernels without data take every dtype",
    "range": "an index is looked up in no table",
    "Expected idx": "the same of a bag of embeddings",
}
"""Words of errors that only a real run raises, and why."""


def error_is_known(error: Exception | None) -> bool:
    """Return whether only a run with data can raise this."""
    return error is not None and any(words in str(error) for words in ERRORS)


def peak_is_known(program: Program, difference: int) -> str:
    """Return why a difference of the peak is known, an empty string where it is not."""
    found = kinds(program.steps)
    if "autocast" in found:
        return "oneDNN's scratch memory for bfloat16 depends on the processor"
    if program.training and found & THREADS:
        return (
            "the profiler sees one thread; run in place, nodes have other numbers, by which "
            "autograd orders its backward"
        )
    if "in place" in found and difference in range(-4 * NUMBER_BYTES, 0, NUMBER_BYTES):
        return "autograd hides the number of a product that is written to a view"
    return ""


def kinds(steps: tuple[Step, ...]) -> set[str]:
    """Return the kinds of all steps, also of those inside."""
    return {kind for step in steps for kind in (step.kind, *kinds(step.inner))}


def differences(program: Program) -> list[str]:
    """Return what differs between the simulated and the real run of a program, in words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(_differences(program))


def _differences(program: Program) -> Iterator[str]:
    model, inputs = program.build(), program.example()
    model.zero_grad(set_to_none=True)
    before = state_of(model, inputs)
    report, error = None, None
    try:
        report = simulate(program, model, inputs)
    except TorchGaugeError as raised:
        error = raised
    if not same(before, state_of(model, inputs)):
        yield "left: the model, the inputs or torch's state is not as it was"
    real = run_for_real(program)
    if error is None and error_is_known(real.error):
        return
    if (error is None) != (real.error is None):
        yield f"raises: simulated {error!r:.300}, real {real.error!r:.300}"
    if report is None or real.error is not None:
        return
    parameters = list(model.parameters())
    if report.totals.params != sum(p.numel() for p in parameters):
        yield "params: differ"
    if report.totals.trainable_params != sum(p.numel() for p in parameters if p.requires_grad):
        yield "trainable params: differ"
    if report.totals.buffers != sum(b.numel() for b in model.buffers()):
        yield "buffers: differ"
    if report.totals.forward_macs != sum(cost.macs for cost in own_costs(report).values()):
        yield "sum: the parts are not the total"
    for path in real.calls:
        calls = [c for c in report.modules[path].calls if not c.recompute]
        found = [(reported(call.inputs), reported(call.outputs)) for call in calls]
        if found != real.calls[path][: len(found)]:
            yield f"shapes: {path!r} simulated {found}, real {real.calls[path]}"
            break
    if report.totals.forward_macs != real.macs:
        yield f"macs: simulated {report.totals.forward_macs}, real {real.macs}"
    if any(entry.calls for entry in report.not_counted):
        yield f"not counted: {report.not_counted}"
    assert report.memory is not None
    predicted = report.memory.peak_allocated_bytes
    if predicted != real.peak and not peak_is_known(program, predicted - real.peak):
        yield f"peak: simulated {predicted}, real {real.peak} ({predicted - real.peak:+d})"
