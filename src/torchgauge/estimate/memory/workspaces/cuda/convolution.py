"""Scratch memory of cuDNN's convolutions.

cuDNN says how much a plan needs only when it runs, and chooses plans by the GPU, its version and
the memory that is free, so these are expected, not known; ``estimate/memory/intervals.py``
says how far off they may be.

What is known: on tensor cores (TF32, half precision) cuDNN computes with the channels last, and
copies tensors that lie otherwise: of the input, the output or its gradient (NVIDIA, "Tensor
layouts in memory" and "Tensor core usage" of the cuDNN documentation). A plan takes the room for
these copies from its workspace (``run_conv_plan`` in PyTorch's
``aten/src/ATen/native/cudnn/Conv_v8.cpp``, 2.6–2.13, allocates it and frees it with the call).
Depthwise convolutions run PyTorch's own kernel. Where the input or the weight has its channels
last, all operands are brought into that order first, and no plan copies them again, but for
groups of one channel, which tensor cores need wider.

cuDNN 9.10 was asked, with a GPU's properties but without one (its device property descriptor),
which plans its heuristics prefer on A100, RTX 3060, 3090 and 4060, and what these take. How many
copies was chosen among few candidates by public measurements, one number for a way to choose
plans, none for a model or a GPU; ``docs/accuracy.md`` has the errors.
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
from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.facts.trace import Layout, OpRecord, TensorSpec

_MOST_ELEMENTS = 2**31 - 1
_FIRST_WITH_LARGE_SAMPLES = (2, 7)
"""The first release whose wheel has cuDNN 9.3 or newer (9.5; that of 2.6 has 9.1)."""
_WITHOUT_HALF_VOLUMES = (2, 9)
"""The release whose wheel has a cuDNN (9.10) that is left out for volumes of half precision."""
_FIRST_WITH_TF32 = (8, 0)
"""Compute capability from which on float32 convolutions run on tensor cores by default."""
_FAST_TF32 = ((8, 0), (9, 0))
"""Compute capabilities where tensor cores compute TF32 several times as fast as others float32."""
_COPIES = 1
"""Of input and output in each direction, where cuDNN's heuristics choose the plan.

With 0, 1, 2 and 3 copies the eight figures of xMem's convolutional networks that there are to
develop against (RTX 3060 and 4060, PyTorch 2.6; arXiv 2510.21048) are missed by 2.5 %, 1.1 %,
1.1 % and 5.0 % in the median."""
_BENCHMARKED_COPIES = 2
"""Of input and output in the backward of the plan that ``cudnn.benchmark`` found fastest; none in
the forward, and :data:`_COPIES` where the window is one pixel.

Chosen by GPUMemNet's figures of timm models (A100, arXiv 2602.17817): of 0, 1, 2 and 3 copies, two
miss them least. With the families in two halves, 1.5 suit one of them and 2 the other."""
_WORTH_COPIES = 30
"""Products for each element of input and output from which on a plan copies them.

Fewer have images of three channels under windows of 3 × 3, where cuDNN's heuristics stay off
tensor cores. From 20 to 30 the errors on GPUMemNet's figures hardly change."""
_WORTH_COPIES_OF_PIXELS = 150
"""The same of convolutions of one pixel without stride: matrix products in either layout.

From 120 to 250 the errors on GPUMemNet's figures hardly change. Where the heuristics choose, none:
on the consumer's GPUs that cuDNN was asked for, it prefers plans that take nothing."""
_WIDENED_CHANNELS, _OWN_WINDOW = 4, 5
"""Of a group of one channel, 16 bytes of TF32; the widest window with kernels of its own."""


def forward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """``convolution(input, weight, bias, stride, padding, dilation, transposed, …, groups)``.

    Returns what is known and, last, what is expected of a plan.
    """
    if not op.outputs:
        return ()
    output = op.outputs[0]
    columns, plan = columns_bytes(op, 0, output, platform), 0
    if not columns and not platform.cudnn_benchmark:
        plan = _copies_bytes(op, 0, output, platform)
    return *_reordered(op, 0, 1), columns, plan


def backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """``convolution_backward(grad, input, weight, bias_sizes, stride, …, groups, mask)``.

    Returns what is known and, last, what is expected of a plan.
    """
    grad, mask = tensor(op, 0), op.args[10]
    assert isinstance(mask, tuple)
    columns, plan = columns_bytes(op, 1, grad, platform), 0
    if not columns:
        widened = _widened_bytes(op, platform) if mask[1] else 0
        plan = max(_copies_bytes(op, 1, grad, platform), widened)
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
    if runs_own_kernel(source, weight, transposed, groups, _is_last(op, first)) or not source.numel:
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


def runs_own_kernel(
    source: TensorSpec, weight: TensorSpec, transposed: object, groups: object, is_last: bool
) -> bool:
    """Return whether PyTorch runs its own depthwise kernel.

    Source: ``is_depthwise`` and ``use_cudnn_depthwise`` in PyTorch's
    ``aten/src/ATen/native/Convolution.cpp`` (2.6–2.13).

    Assumes: half precision too, part of which cuDNN takes by a table of sizes.
    """
    depthwise = isinstance(groups, int) and groups > 1 and source.shape[1] == groups
    depthwise = depthwise and not transposed
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


def _copies_bytes(op: OpRecord, first: int, output: TensorSpec, platform: Platform) -> int:
    """Return the bytes of the copies that a plan makes of images or volumes."""
    source, weight = tensor(op, first), tensor(op, first + 1)
    stride, transposed, groups = (op.args[first + offset] for offset in (3, 6, 8))
    tensor_cores = source.dtype in HALF or platform.compute_capability >= _FIRST_WITH_TF32
    is_last = platform.channels_last or _is_last(op, first)
    if len(source.shape) < 4 or is_last or not (tensor_cores or platform.has_early_cudnn):
        return 0
    is_pixel = max(weight.shape[2:]) == 1 and (
        isinstance(stride, Sequence) and all(step == 1 for step in stride)
    )
    if (
        runs_own_kernel(source, weight, transposed, groups, False)
        or is_pixel > platform.cudnn_benchmark
    ):
        return 0
    products = (source if transposed else output).numel * prod(weight.shape[1:])
    enough = _WORTH_COPIES_OF_PIXELS if is_pixel else _WORTH_COPIES
    if products <= enough * (source.numel + output.numel):
        return 0
    if not tensor_cores:
        return _winograd_bytes(source, weight, stride)
    copies = _COPIES if is_pixel or not platform.cudnn_benchmark else _BENCHMARKED_COPIES
    return copies * (source.nbytes + output.nbytes)


def _winograd_bytes(source: TensorSpec, weight: TensorSpec, stride: object) -> int:
    """Return what ``WINOGRAD_NONFUSED`` takes for images: tiles of 6 × 6 for 4 × 4 pixels.

    Those of input, output and weight are alive at once; beyond 2 GiB cuDNN takes other algorithms.
    With it, figures of SchedTune's VGG and ResNet-34 on a T4 are met to the MiB.
    """
    if weight.shape[2:] != (3, 3) or weight.shape[1] != source.shape[1]:
        return 0
    if not isinstance(stride, Sequence) or any(step != 1 for step in stride):
        return 0
    tiles = source.shape[0] * prod(-(-side // 4) for side in source.shape[2:])
    filters, channels = weight.shape[:2]
    nbytes = 36 * itemsize(source) * (tiles * (channels + filters) + channels * filters)
    return nbytes if nbytes <= _MOST_ELEMENTS else 0


def _widened_bytes(op: OpRecord, platform: Platform) -> int:
    """Return what the weight's gradient of a wide depthwise window takes with the channels last."""
    grad, source, weight = (tensor(op, position) for position in range(3))
    is_depthwise = op.args[9] == source.shape[1] != 1 and max(weight.shape[2:]) > _OWN_WINDOW
    if not is_depthwise or not _is_last(op, 1) or source.dtype != "float32":
        return 0
    fast = platform.compute_capability in _FAST_TF32
    return _WIDENED_CHANNELS * (source.nbytes + grad.nbytes) if fast else 0
