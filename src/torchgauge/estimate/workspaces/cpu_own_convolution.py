"""Scratch memory of convolutions on the CPU that PyTorch computes itself: images are unfolded.

Sources, below ``aten/src/ATen/native`` in PyTorch 2.13: ``Convolution.cpp`` (groups one after the
other), ``ConvolutionMM2d.cpp``, ``ConvolutionMM3d.cpp``, ``NaiveDilatedConvolution.cpp``,
``NaiveConvolutionTranspose2d.cpp`` and ``…3d.cpp``. Of any dtype.
"""

from __future__ import annotations

from math import prod

from torchgauge.estimate.workspaces.convolution_sizes import Convolution
from torchgauge.report.model import Layout, TensorSpec


def own_output(case: Convolution, output: TensorSpec) -> int:
    """Return the bytes beside the output: copies and columns, or the outputs of the groups."""
    copies = _source_copy(case) + _weight_copy(case)
    if _is_by_groups(case):
        inside = copies + _group(case, case.source) + _columns(case) + _ones(case, output)
        return max(output.nbytes, inside)
    return copies + _columns(case) + _ones(case, output)


def own_gradients(
    case: Convolution, gradient: TensorSpec, layout: Layout, mask: tuple[bool, ...], kept: int
) -> int:
    """Return the bytes beside the gradients, of which those of all groups are joined last."""
    copies = _weight_copy(case)
    if Layout.CONTIGUOUS not in layout and not (_is_last(case) and Layout.CHANNELS_LAST in layout):
        copies += gradient.nbytes
    columns = _columns(case)
    if case.is_transposed and len(case.kernel) < 3:
        columns //= case.source.shape[0]  # of one image at a time, unlike the output
    bias = _channels(case) * case.itemsize if case.is_dilated and mask[2] else 0
    if _is_by_groups(case):
        groups = _group(case, case.source) + _group(case, gradient)
        return max(kept, copies + groups + columns + bias // case.groups)
    source = _source_copy(case)
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


def _channels(case: Convolution) -> int:
    return case.weight.shape[1] * case.groups if case.is_transposed else case.outputs


def _source_copy(case: Convolution) -> int:
    """Return the bytes of a contiguous input: groups copy their part of it."""
    if _is_by_groups(case):
        return 0
    wanted = Layout.CHANNELS_LAST if _is_last(case) else Layout.CONTIGUOUS
    return 0 if wanted in case.source_layout else case.source.nbytes


def _weight_copy(case: Convolution) -> int:
    wanted = Layout.CHANNELS_LAST if _is_last(case) else Layout.CONTIGUOUS
    return 0 if wanted in case.weight_layout else case.weight.nbytes


def _group(case: Convolution, image: TensorSpec) -> int:
    """Return the bytes of a group's contiguous copy: in one image it lies together."""
    apart = image.shape[0] > 1 or case.is_channels_last
    return image.nbytes // case.groups if apart else 0


def _columns(case: Convolution) -> int:
    """Return the bytes of unfolded images, of a group where each is computed by itself.

    A kernel of one element on every pixel needs none. With gaps, and of transposed volumes, images
    are unfolded one at a time.
    """
    volume = len(case.kernel) == 3
    plain = case.is_pointwise and not case.is_strided and not any(case.padding)
    if case.is_transposed:
        if plain and not volume:
            return 0
        elements = prod(case.weight.shape[1:]) * prod(case.source.shape[2:])
        return (1 if volume else case.source.shape[0]) * elements * case.itemsize
    if plain and not case.is_dilated and not (volume and case.groups > 1):
        return 0
    groups = 1 if _is_by_groups(case) else case.groups
    elements = groups * case.inputs * prod(case.kernel) * prod(case.result[2:])
    return (1 if case.is_dilated else case.source.shape[0]) * elements * case.itemsize


def _ones(case: Convolution, output: TensorSpec) -> int:
    """Return the bytes of the ones by which a transposed volume adds its bias."""
    if not (case.is_transposed and len(case.kernel) == 3 and case.has_bias):
        return 0
    return prod(output.shape[2:]) * case.itemsize
