"""Scratch memory of convolutions on the CPU that PyTorch computes itself: images are unfolded.

Sources, below ``aten/src/ATen/native`` in PyTorch 2.13: ``Convolution.cpp`` (groups one after the
other), ``ConvolutionMM2d.cpp``, ``ConvolutionMM3d.cpp``, ``NaiveDilatedConvolution.cpp``,
``NaiveConvolutionTranspose2d.cpp`` and ``…3d.cpp``. Of any dtype.
"""

from __future__ import annotations

from math import prod

from torchgauge.estimate.memory.workspaces.onednn.convolution_sizes import Convolution
from torchgauge.facts.trace import Layout, TensorSpec


def own_output(case: Convolution, output: TensorSpec) -> int:
    """Return the scratch bytes of a forward: copies and columns, or one output per group."""
    copies = _copy(case, case.source, case.source_layout)
    copies += _copy(case, case.weight, case.weight_layout)
    inside = _columns(case)
    if case.is_transposed:
        inside = _transposed_columns(case, is_gradient=False) + _ones(case, output)
        if len(case.kernel) == 3:  # the output begins with the input's memory
            image, result = case.source.nbytes, output.nbytes
            parts = case.groups if _is_by_groups(case) else 1
            apart = max(0, image - result) // parts
            inside = max(image // parts, inside) if result > image else apart + inside
    if _is_by_groups(case):
        return copies + max(output.nbytes, _group(case, case.source) + inside)
    return copies + inside


def own_gradients(
    case: Convolution, gradient: TensorSpec, layout: Layout, mask: tuple[bool, ...], kept: int
) -> int:
    """Return the scratch bytes of a backward; gradients of groups are concatenated at the end."""
    source = _copy(case, case.source, case.source_layout)
    copies = _copy(case, case.weight, case.weight_layout)
    if Layout.CONTIGUOUS not in layout and not (_is_last(case) and Layout.CHANNELS_LAST in layout):
        copies += gradient.nbytes
    columns, bias = _columns(case), 0
    if case.is_transposed:
        columns = _transposed_columns(case, is_gradient=True)
    elif case.is_dilated and mask[2]:
        bias = case.outputs * case.itemsize
    if _is_by_groups(case):
        groups = _group(case, case.source) + _group(case, gradient)
        return copies + source + max(kept, groups + columns + bias // case.groups)
    if columns or len(case.kernel) < 3 or case.is_transposed:
        return copies + source + columns + bias
    again = 2 * case.source.nbytes - kept if mask[0] else 0  # a volume's gradient is made twice
    return copies + max(source, again)


def _is_by_groups(case: Convolution) -> bool:
    """Return whether each group is a convolution of its own: volumes without gaps are not."""
    whole = len(case.kernel) == 3 and not (case.is_dilated or case.is_transposed)
    return case.groups > 1 and not whole


def _is_last(case: Convolution) -> bool:
    return case.is_channels_last and len(case.kernel) < 3


def _copy(case: Convolution, operand: TensorSpec, layout: Layout) -> int:
    """Return the bytes of an operand's copy; of a contiguous input groups copy their part again."""
    wanted = Layout.CHANNELS_LAST if _is_last(case) else Layout.CONTIGUOUS
    return 0 if wanted in layout else operand.nbytes


def _group(case: Convolution, image: TensorSpec) -> int:
    """Return the bytes of a group's contiguous copy: in one image it lies together."""
    apart = image.shape[0] > 1 or case.is_channels_last
    return image.nbytes // case.groups if apart else 0


def _columns(case: Convolution) -> int:
    """Return the bytes of unfolded images, or of one group's where groups run one by one.

    A kernel of one element on every pixel needs none. With gaps, images are unfolded one at a time.
    """
    volume = len(case.kernel) == 3
    if _is_plain(case) and not (volume and case.groups > 1):
        return 0
    groups = 1 if _is_by_groups(case) else case.groups
    elements = groups * case.inputs * prod(case.kernel) * prod(case.result[2:])
    return (1 if case.is_dilated else case.source.shape[0]) * elements * case.itemsize


def _transposed_columns(case: Convolution, *, is_gradient: bool) -> int:
    """Return the bytes of an input's pixels times the weight: of all images for an output."""
    if is_gradient and _is_plain(case):
        return 0
    at_once = len(case.kernel) < 3 and not is_gradient
    elements = prod(case.weight.shape[1:]) * prod(case.source.shape[2:])
    return (case.source.shape[0] if at_once else 1) * elements * case.itemsize


def _is_plain(case: Convolution) -> bool:
    """Return whether a kernel of one element is applied to every pixel."""
    moves = case.is_strided or case.is_dilated or any(case.padding)
    return case.is_pointwise and not moves


def _ones(case: Convolution, output: TensorSpec) -> int:
    """Return the bytes of the ones by which a transposed volume adds its bias."""
    if len(case.kernel) < 3 or not case.has_bias:
        return 0
    return prod(output.shape[2:]) * case.itemsize
