"""What a real step on the CPU has allocated: the ground truth of predicted peaks."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import torchgauge as tg
from torchgauge.trace.record.kernel_memory import one_thread
from torchgauge.trace.torch_internals.profiler import memory_changes


@one_thread()
def real_peak(model: nn.Module, *args: Any, training: bool = False, **kwargs: Any) -> int:
    """Return the most bytes that a step has allocated beyond what was there before it.

    Kernels run on one thread, as reports assume: some are chosen by it, others take more for each.
    """
    model.train(training)
    events: list[tuple[int, int]] = []
    for _ in range(3):  # on a busy machine the profiler may come back with nothing
        with memory_profile() as profiler:
            kept = step(model, *args, training=training, **kwargs)
        events = memory_changes(profiler.profiler)
        if events:
            break
        model.zero_grad(set_to_none=True)
    total = peak = 0
    for _, size in events:
        total += size
        peak = max(peak, total)
    del kept
    model.zero_grad(set_to_none=True)
    return peak


@contextmanager
def memory_profile() -> Iterator[profile]:
    """Record what is allocated and freed; no garbage of earlier tests is freed inside.

    That would be counted as the step's.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            yield profiler
    finally:
        if was_enabled:
            gc.enable()


def step(model: nn.Module, *args: Any, training: bool = False, **kwargs: Any) -> Any:
    """Run the model once, with a backward of the mean in training; return what is alive then."""
    if not training:
        with torch.no_grad():
            return model(*args, **kwargs)
    output = model(*args, **kwargs)
    loss = mean(output)
    loss.backward()
    return output, loss


def mean(output: Any) -> torch.Tensor:
    """Return the loss that torchgauge takes where none is given."""
    loss: torch.Tensor = getattr(output, "logits", output).mean()
    return loss


def predicted_peak(report: tg.Report) -> int:
    """Return the predicted peak beyond what was there before the step."""
    memory = report.memory
    assert memory is not None
    return memory.peak_allocated_bytes - bytes_there(report)


def bytes_there(report: tg.Report) -> int:
    """Return the bytes of parameters, buffers and inputs that a report gives."""
    memory = report.memory
    assert memory is not None
    return memory.parameter_bytes + memory.buffer_bytes + memory.input_bytes


def storage_bytes(*values: Any) -> int:
    """Return the bytes of the distinct storages that tensors and modules stand on."""
    storages = {
        part.untyped_storage().data_ptr(): part.untyped_storage().nbytes()
        for value in values
        for tensor in _tensors(value)
        for part in parts(tensor)
    }
    return sum(storages.values())


def parts(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the dense tensors that hold a tensor: those inside it, if it is a sparse one."""
    if tensor.layout is torch.sparse_coo:
        return tensor._indices(), tensor._values()
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    return (tensor,)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from (*value.parameters(), *value.buffers())
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


Build = Callable[[], tuple[nn.Module, tuple[Any, ...]]]
