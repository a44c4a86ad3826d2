"""Scratch memory of cuDNN's convolutions.

cuDNN says how much a plan needs only when it runs, and chooses plans by the GPU, its version and
the memory that is free, so these are expected, not known; ``estimate/memory/intervals.py``
says how far off they may be.

What is known: on tensor cores (TF32, half precision) cuDNN computes with the channels last, and
copies tensors that lie otherwise: of the input, the output or its gradient (NVIDIA, "Tensor
layouts in memory" and "Tensor core usage" of the cuDNN documentation). A plan takes the room for
these copies from its workspace (``run_conv_plan`` in PyTorch's
``aten/src/ATen/native/cudnn/Conv_v8.cpp``, 2.6–2.13, allocates it and frees it with the call).
Convolutions of one pixel without stride are matrix products in either layout and need none;
depthwise ones run PyTorch's own kernel. Where the input or the weight has its channels last, all
operands are brought into that order first, and no plan copies them again.

How many copies was chosen among few candidates by public measurements, one number for a way to
choose plans, none for a model or a GPU; ``docs/accuracy.md`` has the errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torchgauge.estimate.memory.allocator.keys import rules_of
from torchgauge.estimate.memory.workspaces.operands import (
    HALF,
    copy_bytes,
    itemsize,
    layout,
    tensor,
)
from torchgauge.estimate.memory.workspaces.platform import Platform, Rules
from torchgauge.facts.trace import Layout, OpRecord, TensorSpec

_MOST_ELEMENTS = 2**31 - 1
_FIRST_WITH_LARGE_SAMPLES = (2, 7)
"""The first release whose wheel has cuDNN 9.3 or newer (9.5; that of 2.6 has 9.1)."""
_WITHOUT_HALF_VOLUMES = (2, 9)
"""The release whose wheel has a cuDNN (9.10) that is left out for volumes of half precision."""
_FIRST_WITH_TF32 = (8, 0)
"""Compute capability from which on float32 convolutions run on tensor cores by default."""
_COPIES = 1
"""Of input and output in each direction, where cuDNN's heuristics choose the plan.

With 0, 1, 2 and 3 copies the eight figures of xMem's convolutional networks that there are to
develop against (RTX 3060 and 4060, PyTorch 2.6; arXiv 2510.21048) are missed by 2.5 %, 1.1 %,
1.1 % and 5.0 % in the median."""
_BENCHMARKED_COPIES = 2
"""Of input and output in the backward of the plan that ``cudnn.benchmark`` found fastest; none in
the forward.

With 0, 1, 2 and 3 copies a sample of 300 of GPUMemNet's figures of timm models (A100, arXiv
2602.17817; without runs that died) is missed by 2.6 %, 1.8 %, 1.5 % and 2.8 % in the median, and
by 13.3 %, 10.1 %, 8.2 % and 12.5 % at the 90th percentile."""


def _forward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """``convolution(input, weight, bias, stride, padding, dilation, transposed, …, groups)``.

    Returns what is known and, last, what is expected of a plan.
    """
    if not op.outputs:
        return ()
    source, output = tensor(op, 0), op.outputs[0]
    columns, plan = columns_bytes(op, 0, output, platform), 0
    copies = 0 if platform.cudnn_benchmark else _COPIES
    if copies and not columns and _needs_copies(op, 0, op.args[3], op.args[8], platform):
        plan = copies * (source.nbytes + output.nbytes)
    return *_reordered(op, 0, 1), columns, plan


def _backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """``convolution_backward(grad, input, weight, bias_sizes, stride, …, groups, mask)``.

    Returns what is known and, last, what is expected of a plan.
    """
    grad, source, weight = (tensor(op, position) for position in range(3))
    columns, plan, copies = columns_bytes(op, 1, grad, platform), 0, _COPIES
    if platform.cudnn_benchmark:
        copies = _BENCHMARKED_COPIES if max(weight.shape[2:], default=1) > 1 else 0
    if copies and not columns and _needs_copies(op, 1, op.args[4], op.args[9], platform):
        plan = copies * (source.nbytes + grad.nbytes)
    return *_reordered(op, 0, 1, 2), columns, plan


def columns_bytes(op: OpRecord, first: int, output: TensorSpec, platform: Platform) -> int:
    """Return the unfolded image of a sample where a convolution leaves cuDNN, else 0.

    That is where a sample has more elements than 32 bits count, before cuDNN 9.3, and volumes of
    half precision under the cuDNN of 2.9 (issues 136479 and 166643). Source: ``use_cudnn`` in
    PyTorch's ``aten/src/ATen/native/Convolution.cpp`` and ``slow_conv_dilated_all_cuda_template``
    in ``cuda/NaiveDilatedConvolution.cu``.

    Assumes: the cuDNN that comes with the release's wheel.
    """
    source, weight = tensor(op, first), tensor(op, first + 1)
    transposed, groups = op.args[first + 6], op.args[first + 8]
    kernel = weight.shape[2:]
    if runs_own_kernel(source, weight, groups, _is_last(op, first)) or not source.numel:
        return 0
    release = rules_of(platform.torch_release).version
    samples = [prod(spec.shape[1:]) for spec in (source, output)]
    is_too_large = max(samples) > _MOST_ELEMENTS and release < _FIRST_WITH_LARGE_SAMPLES
    is_left_out = release == _WITHOUT_HALF_VOLUMES and (
        len(kernel) == 3 and max(kernel) > 1 and source.dtype in HALF and not _is_last(op, first)
    )
    if not is_too_large and not is_left_out:
        return 0
    pixels = prod((source if transposed else output).shape[2:])
    return weight.shape[1] * prod(kernel) * pixels * itemsize(source)


def runs_own_kernel(source: TensorSpec, weight: TensorSpec, groups: object, is_last: bool) -> bool:
    """Return whether PyTorch runs its own depthwise kernel.

    Source: ``is_depthwise`` and ``use_cudnn_depthwise`` in PyTorch's
    ``aten/src/ATen/native/Convolution.cpp`` (2.6–2.13).

    Assumes: half precision too, part of which cuDNN takes by a table of sizes.
    """
    depthwise = isinstance(groups, int) and groups > 1 and source.shape[1] == groups
    return depthwise and weight.shape[0] % source.shape[1] == 0 and not is_last


def _is_last(op: OpRecord, first: int) -> bool:
    """Return whether cuDNN is asked to work with the channels last.

    Source: ``cudnn_conv_suggest_memory_format`` in PyTorch's
    ``aten/src/ATen/native/ConvUtils.h`` (2.6–2.13).
    """
    layouts = layout(op, first) | layout(op, first + 1)
    return Layout.SUGGESTS_CHANNELS_LAST in layouts and tensor(op, first).dtype != "float64"


def _reordered(op: OpRecord, *positions: int) -> tuple[int, ...]:
    """Return the copies of operands that lie in another order than the kernel's."""
    wanted = Layout.CHANNELS_LAST if _is_last(op, positions[-2]) else Layout.CONTIGUOUS
    return tuple(copy_bytes(op, position, wanted) for position in positions)


def _needs_copies(
    op: OpRecord, first: int, stride: object, groups: object, platform: Platform
) -> bool:
    """Return whether a plan for images or volumes copies them with the channels last."""
    source, weight = tensor(op, first), tensor(op, first + 1)
    tensor_cores = source.dtype in HALF or platform.compute_capability >= _FIRST_WITH_TF32
    if len(source.shape) < 4 or platform.channels_last or _is_last(op, first) or not tensor_cores:
        return False
    is_depthwise = runs_own_kernel(source, weight, groups, False)
    is_pixel = max(weight.shape[2:]) == 1 and (
        isinstance(stride, Sequence) and all(step == 1 for step in stride)
    )
    return not is_depthwise and not is_pixel


RULES: Rules = {
    "aten.convolution.default": _forward,
    "aten.convolution_backward.default": _backward,
}
