"""What the layers of bitsandbytes do besides: their first forward, their state, their kernels.

A layer rearranges its weight in its first forward (8-bit: the statistics move from the parameter to
the layer; 4-bit on a CPU with AVX-512 BF16: another order of the values). What is asked about is
any later forward, so the copy runs once before it is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from torchgauge.trace.inspect.modules import cached_by_class, modules_of
from torchgauge.trace.torch_internals.kernels import call_kernel

_STATES = ("state", "quant_state")
"""Where layers keep the statistics of their weight, if not on the weight."""


@cached_by_class
def _is_of_the_library(kind: type) -> bool:
    """Return whether a layer's class is one of the library's, or derived from it."""
    return any(base.__module__.startswith("bitsandbytes.") for base in kind.__mro__)


def has_bitsandbytes(root: nn.Module) -> bool:
    """Return whether a model has such a layer."""
    return any(map(_is_of_the_library, {type(module) for module in modules_of(root)}))


def quantization_states(module: nn.Module) -> Iterator[Any]:
    """Yield the objects in which a layer keeps the statistics of its weight."""
    if _is_of_the_library(type(module)):
        for name in _STATES:
            state = module.__dict__.get(name)
            if state is not None:
                yield state


def _by_their_own(func: Any) -> Callable[..., Any]:
    """Run a kernel that is written in terms of operators, so that these are recorded."""

    def run(*args: Any, **kwargs: Any) -> Any:
        return call_kernel(func, *args, **kwargs)

    return run


def _gemv_4bit(func: Any) -> Callable[..., Any]:
    """Multiply in bfloat16, the only dtype of the CPU's fused kernel."""

    def run(source: torch.Tensor, weight: torch.Tensor, shape: Any, absmax: torch.Tensor,
            *rest: Any) -> Any:  # fmt: skip
        half = torch.bfloat16
        if source.dtype == half and absmax.dtype == half:
            return NotImplemented
        output = func(source.to(half), weight, shape, absmax.to(half), *rest)
        return output.to(source.dtype)

    return run


def _gemm_4bit_on_gpu(func: Any) -> Callable[..., Any]:
    """Dequantize the whole weight, then multiply; few rows have a kernel that does both."""

    def run(source: torch.Tensor, *rest: Any, **kwargs: Any) -> Any:
        if source.numel() <= _ROWS_IN_ONE_KERNEL * source.shape[-1]:
            return NotImplemented
        return call_kernel(func, source, *rest, **kwargs)

    return run


_ROWS_IN_ONE_KERNEL = 4
"""``_GEMM_4BIT_CUSTOM_FLOOR_M`` in ``bitsandbytes/backends/cuda/ops.py`` (0.50)."""

CPU_KERNELS: dict[str, Callable[[Any], Callable[..., Any]]] = {
    **{
        f"bitsandbytes.{name}.default": _by_their_own
        for name in (
            "gemm_4bit", "int8_vectorwise_quant", "int8_scaled_mm", "int8_mixed_scaled_mm",
            "int8_linear_matmul", "int8_mm_dequant", "int8_vectorwise_dequant",
        )
    },
    "bitsandbytes.gemv_4bit.default": _gemv_4bit,
}  # fmt: skip
"""Kernels of the CPU that only call operators (``bitsandbytes/backends/{default,cpu}/ops.py``,
0.46–0.50), by name: given the operator, they return what to run in its place."""
GPU_KERNELS: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "bitsandbytes.gemm_4bit.default": _gemm_4bit_on_gpu,
    "bitsandbytes.int8_mixed_scaled_mm.default": _by_their_own,
    "bitsandbytes.int8_scaled_mm.default": _by_their_own,
}
"""The same for GPUs, in simulated runs."""


def assumption(name: str, args: tuple[Any, ...], *, is_cpu: bool) -> str:
    """Return what a simulated kernel takes for granted, empty for nothing."""
    if name == QUANTIZE and len(args) > 1 and args[1] > 0:
        return "LLM.int8(): no activation was taken to be beyond the threshold of outliers"
    if name == "bitsandbytes.gemm_4bit.default" and not is_cpu:
        return (
            "bitsandbytes on GPUs: a 4-bit weight is dequantized as a whole where more than "
            f"{_ROWS_IN_ONE_KERNEL} rows are multiplied; its own kernels take less for some sizes"
        )
    return ""


QUANTIZE = "bitsandbytes.int8_vectorwise_quant.default"
