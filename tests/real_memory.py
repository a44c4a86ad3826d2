"""The peak of a real step on the CPU: what is kept, found by walking, and the profiler's events."""

from __future__ import annotations

import gc
import os
import types
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler writes a line per run to stderr

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from torchgauge.trace.record.kernel_memory import one_thread
from torchgauge.trace.torch_internals.profiler import memory_changes

_LEAVES = (
    str, bytes, int, float, type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType,
    torch.dtype, torch.device, torch.ScriptObject,
)  # fmt: skip


_FLAGS = ("amx_bf16", "avx512_fp16")


def _is_modelled() -> bool:
    """Return whether this processor and this oneDNN are those whose narrow products are known."""
    if not os.path.exists("/proc/cpuinfo") or "v3.12" not in torch.__config__.show():
        return False
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        text = file.read()
    return all(flag in text for flag in _FLAGS) and "amx_fp16" not in text


needs_amx = pytest.mark.skipif(not _is_modelled(), reason="another processor or oneDNN")


def kept_bytes(*roots: Any) -> int:
    """Return the bytes of every storage that can be reached through attributes and containers."""
    seen: set[int] = set()
    storages: dict[int, int] = {}
    stack = list(roots)
    while stack:
        value = stack.pop()
        if value is None or isinstance(value, _LEAVES) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            stack += value.values()
        elif isinstance(value, (list, tuple, set)):
            stack += value
        else:
            if isinstance(value, torch.Tensor):
                _note(value, storages)
            stack += getattr(value, "__dict__", {}).values()
            stack.append(getattr(value, "__self__", None))
    return sum(storages.values())


def _note(tensor: torch.Tensor, storages: dict[int, int]) -> None:
    try:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    except (RuntimeError, NotImplementedError):  # a wrapper without data
        storages[0] = 0
    storages[0] = 0


@one_thread()
def real_peak(model: nn.Module, *args: torch.Tensor, training: bool = False) -> int:
    """Return the most bytes alive in the second step, on one thread; training is plain SGD."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-3, foreach=False) if training else None
    model.train(training)

    def step() -> Any:
        if optimizer is None:
            with torch.no_grad():
                return model(*args)
        output = model(*args)
        loss = output.mean()
        loss.backward()
        optimizer.step()
        return output, loss

    try:
        step()
        model.zero_grad(set_to_none=True)
        gc.collect()
        kept = kept_bytes(model, args)
        gc.disable()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            held = step()
        del held
    finally:
        gc.enable()
        model.zero_grad(set_to_none=True)
    total = peak = 0
    for _, size in memory_changes(profiler.profiler):
        total += size
        peak = max(peak, total)
    return kept + peak
