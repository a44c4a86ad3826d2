"""What CPU kernels take for themselves: a closed form per rule, at sizes that real runs confirm."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from torchgauge.estimate.memory.workspaces import Platform, workspaces_for
from torchgauge.facts.trace import ArgumentValue, Layout, OpRecord, Phase, TensorSpec
from torchgauge.trace.torch_internals.onednn import lstm_workspace_bytes

PLAIN = Layout.CONTIGUOUS
LAST = Layout.CHANNELS_LAST | Layout.SUGGESTS_CHANNELS_LAST
F = 4
"""Bytes of a float32."""


def spec(*shape: int, dtype: str = "float32") -> TensorSpec:
    size = getattr(torch, dtype).itemsize
    count = torch.Size(shape).numel()
    return TensorSpec(shape=shape, dtype=dtype, device="cpu", nbytes=count * size)


def taken(
    name: str,
    *args: ArgumentValue,
    output: TensorSpec | None = None,
    outputs: tuple[TensorSpec, ...] = (),
    layouts: tuple[Layout, ...] = (),
    threads: int = 1,
    has_early_onednn: bool = False,
) -> int:
    tensors = [value for value in args if isinstance(value, TensorSpec)]
    op = OpRecord(
        index=0, name=f"aten.{name}", args=args, kwargs=(), call=-1, phase=Phase.FORWARD,
        outputs=outputs if output is None else (output,),
        layouts=layouts or (PLAIN,) * len(tensors),
    )  # fmt: skip
    target = Platform(type="cpu", threads=threads, has_early_onednn=has_early_onednn)
    return sum(workspaces_for(target)(op))


def convolution(
    source: tuple[int, ...], weight: tuple[int, ...], output: tuple[int, ...], **options: Any
) -> int:
    spatial = len(weight) - 2
    bias = spec(weight[0]) if options.pop("bias", False) else None
    settings = tuple(
        (options.pop(key, value),) * spatial
        for key, value in (("stride", 1), ("padding", 0), ("dilation", 1))
    )
    transposed, groups = options.pop("transposed", False), options.pop("groups", 1)
    return taken(
        "convolution.default", spec(*source), spec(*weight), bias, *settings, transposed,
        (0,) * spatial, groups, output=spec(*output), **options,
    )  # fmt: skip


def gradients(
    source: tuple[int, ...], weight: tuple[int, ...], output: tuple[int, ...], **options: Any
) -> int:
    spatial = len(weight) - 2
    mask = options.pop("mask", (True, True, False))
    settings = tuple(
        (options.pop(key, value),) * spatial
        for key, value in (("stride", 1), ("padding", 0), ("dilation", 1))
    )
    transposed, groups = options.pop("transposed", False), options.pop("groups", 1)
    return taken(
        "convolution_backward.default", spec(*output), spec(*source), spec(*weight), (weight[0],),
        *settings, transposed, (0,) * spatial, groups, mask, **options,
    )  # fmt: skip


# ---------------------------------------------------------------- convolutions


def test_a_convolution_reorders_all_its_operands() -> None:
    image, weight = 2 * 64 * 16 * 16 * F, 64 * 64 * 9 * F
    shapes = ((2, 64, 16, 16), (64, 64, 3, 3), (2, 64, 16, 16))
    # Input, weight and result in blocks of channels, before PyTorch's own result is there.
    assert convolution(*shapes, padding=1) == image + weight
    # The weight's gradient: input, output's gradient and itself beside the input's gradient.
    assert gradients(*shapes, padding=1) == 2 * image


def test_the_first_convolution_leaves_the_image_as_it_is() -> None:
    shapes = ((2, 3, 64, 64), (64, 3, 7, 7), (2, 64, 32, 32))
    assert convolution(*shapes, stride=2, padding=3) == 2 * 64 * 32 * 32 * F
    mask = (False, True, False)
    assert gradients(*shapes, stride=2, padding=3, mask=mask) == 2 * 64 * 32 * 32 * F


def test_channels_fill_whole_blocks() -> None:
    # 40 output channels take 48; the bias is padded too, with oneDNN's alignment.
    assert convolution((2, 3, 64, 64), (40, 3, 4, 4), (2, 40, 16, 16), stride=4, bias=True) == (
        2 * 48 * 16 * 16 * F
    )
    depthwise = convolution((2, 72, 16, 16), (72, 1, 3, 3), (2, 72, 16, 16), padding=1, groups=72)
    assert depthwise == (2 * 2 * 80 - 2 * 72) * 256 * F + 80 * 9 * F


def test_a_convolution_with_channels_last_copies_its_weight_twice() -> None:
    weight = 192 * 96 * 4 * F
    assert convolution(
        (2, 96, 16, 16), (192, 96, 2, 2), (2, 192, 8, 8), stride=2, layouts=(LAST, PLAIN)
    ) == 2 * weight + 8216  # fmt: skip


def test_depthwise_gradients_with_channels_last_are_padded_to_blocks_of_both() -> None:
    shapes = ((2, 96, 16, 16), (96, 1, 7, 7), (2, 96, 16, 16))
    layouts = (LAST, LAST, PLAIN | Layout.CHANNELS_LAST)
    found = gradients(*shapes, padding=3, groups=96, mask=(True, True, True), layouts=layouts)
    assert found == 96 * 16 * 16 * 49 * F + 96 * 49 * F + 96 * F


def test_wide_kernels_unfold_images_for_the_gradient() -> None:
    weight = 32 * 3 * 256 * F
    found = gradients(
        (2, 3, 64, 64), (32, 3, 16, 16), (2, 32, 4, 4), stride=16, mask=(False, True, True)
    )
    # Four times the weight's bytes, one unfolded image, two alignments.
    assert found == 4 * weight + 3 * 256 * 16 * F + 256


def test_grouped_weights_are_not_padded() -> None:
    image, weight = 2 * 256 * 8 * 8 * F, 256 * 8 * 9 * F
    shapes = ((2, 256, 8, 8), (256, 8, 3, 3), (2, 256, 8, 8))
    assert convolution(*shapes, padding=1, groups=32) == image + weight


def test_strided_1x1_kernels_copy_the_pixels_they_read() -> None:
    found = convolution((2, 64, 16, 16), (128, 64, 1, 1), (2, 128, 8, 8), stride=2)
    source, weight = 2 * 64 * 256 * F, 128 * 64 * F
    assert found == source + weight + 64 * 64 * F + 128


def test_pytorch_unfolds_what_onednn_does_not_take() -> None:
    shapes = ((1, 64, 8, 16, 16), (64, 64, 3, 3, 3), (1, 64, 8, 16, 16))
    assert convolution(*shapes, padding=1) == 64 * 27 * 8 * 16 * 16 * F
    assert gradients(*shapes, padding=1) == 64 * 27 * 8 * 16 * 16 * F
    pointwise = ((2, 64, 8, 8), (64, 64, 1, 1), (2, 64, 8, 8))
    assert convolution(*pointwise) == 0
    assert convolution(*pointwise, threads=2) == 2 * 64 * 64 * F + 64 * 64 * F


def test_transposed_convolutions() -> None:
    shapes = ((2, 64, 16, 16), (64, 32, 4, 4), (2, 32, 32, 32))
    source, weight, result = 2 * 64 * 256 * F, 64 * 32 * 16 * F, 2 * 32 * 1024 * F
    # One image of 64 channels, 18 x 18 with what the kernel overlaps, in multiples of 4096 floats.
    scratch = 20_504 + 128 + 6 * 16_384
    assert convolution(*shapes, stride=2, padding=1, transposed=True) == max(
        source + weight + scratch, 2 * result
    )
    # The worst moment is the weight's gradient: both images and itself.
    assert gradients(*shapes, stride=2, padding=1, transposed=True) == source + result


# ---------------------------------------------------------------- attention


@pytest.mark.parametrize(("length", "together"), [(17, 17), (64, 32), (256, 64), (1024, 256)])
def test_flash_attention_keeps_a_block_of_scores_per_thread(length: int, together: int) -> None:
    qkv = [spec(2, 4, length, 8)] * 3
    keys = min(length, 512)
    name = "_scaled_dot_product_flash_attention_for_cpu.default"
    assert taken(name, *qkv) == together * (keys + 2 + 8) * F
    assert taken(name, *qkv, threads=3) == 3 * together * (keys + 2 + 8) * F
    name = "_scaled_dot_product_flash_attention_for_cpu_backward.default"
    blocks = (2 * together * keys + together) * F
    heads_inside = (Layout.HEADS_INSIDE, PLAIN, PLAIN, PLAIN)
    assert taken(name, qkv[0], *qkv, layouts=heads_inside) == blocks
    assert taken(name, qkv[0], *qkv) == blocks + qkv[0].nbytes  # the gradient is copied


def test_safe_softmax_keeps_masks() -> None:
    assert taken("_safe_softmax.default", spec(2, 4, 9, 9), -1) == 648 + 72 + 4


# ---------------------------------------------------------------- norms, recurrent layers, others


def test_batch_norm() -> None:
    channels = [spec(64)] * 4
    image = spec(2, 64, 8, 8)
    assert taken("native_batch_norm.default", image, *channels, True, 0.1, 1e-5) == 2 * 64 * F
    last = (LAST, *(PLAIN,) * 4)
    sums = taken("native_batch_norm.default", image, *channels, True, 0.1, 1e-5, layouts=last)
    assert sums == 3 * 64 * F
    gradient = [image, image, *channels, spec(64), True, 1e-5, (True, True, True)]
    assert taken("native_batch_norm_backward.default", *gradient) == image.nbytes


def test_layer_norm() -> None:
    rows = spec(2, 9, 32)
    layouts = (Layout.NONE, PLAIN, PLAIN)
    weights = ((32,), spec(32), spec(32), 1e-5)
    assert taken("native_layer_norm.default", rows, *weights) == 0
    assert taken("native_layer_norm.default", rows, *weights, layouts=layouts) == rows.nbytes
    statistics = spec(2, 9, 1)
    arguments = (rows, rows, (32,), statistics, statistics, spec(32), spec(32), (True,) * 3)
    assert taken("native_layer_norm_backward.default", *arguments) == 2 * 32 * F
    assert taken("native_layer_norm_backward.default", *arguments, threads=4) == 8 * 32 * F


def test_group_norm() -> None:
    image = spec(2, 32, 8, 8)
    arguments = (image, spec(32), spec(32), 2, 32, 64, 8, 1e-5)
    assert taken("native_group_norm.default", *arguments) == 0
    last = taken("native_group_norm.default", *arguments, layouts=(LAST, PLAIN, PLAIN))
    assert last == 2 * 2 * 32 * F
    arguments = (image, image, spec(2, 8), spec(2, 8), spec(32), 2, 32, 64, 8, (True,) * 3)
    assert taken("native_group_norm_backward.default", *arguments) == 2 * 2 * 32 * F


def test_small_upsampling_goes_through_channels_last() -> None:
    source, output = spec(2, 8, 8, 8), spec(2, 8, 16, 16)
    name = "upsample_nearest2d.default"
    assert taken(name, source, (16, 16), output=output) == source.nbytes + output.nbytes
    assert taken(name, source, (16, 16), output=output, layouts=(LAST,)) == 0
    large = spec(2, 8, 256, 256)
    # Beyond, the positions of the pixels of each line and their factors.
    assert taken(name, source, (256, 256), output=large) == 2 * 256 * (8 + F)
    gradient = taken("upsample_bilinear2d_backward.default", output, layouts=(Layout.NONE,))
    assert gradient == output.nbytes


def test_an_lstm_of_onednn() -> None:
    """Rows of 256 floats become 272; sections of the workspace begin at pages."""
    assert lstm_workspace_bytes(7, 2, 64, 64) == 61_440
    assert lstm_workspace_bytes(20, 8, 128, 256) == 2_637_824
    inputs = (spec(7, 2, 64), spec(256, 64), spec(256, 64), spec(256), spec(256))
    states = (spec(2, 64), spec(2, 64))
    rest = (False, (), 2, 64, 1, True, False, False)
    weights, scratch = 2 * 64 * 272 * F, 29_240
    name = "mkldnn_rnn_layer.default"
    made = (spec(7, 2, 64), *states)
    trained = (*made, spec(61_440, dtype="uint8"))
    assert (
        taken(name, *inputs, *states, *rest, True, outputs=trained) == 256 * F + weights + scratch
    )
    inference = 4 * 4096 + 2 * 4096 + 4096 + 568 + 208 + 80  # two states of two pages, one step
    found = taken(name, *inputs, *states, *rest, False, outputs=made)
    assert found == 256 * F + 2 * 64 * 256 * F + inference
    name = "mkldnn_rnn_layer_backward.default"
    output, given = (spec(7, 2, 64), *states), (spec(7, 2, 64), *states)
    whole = 256 * F + weights + scratch
    assert taken(name, *inputs, *states, *output, *given) == whole
    zeros = (7 * 2 * 64 + 2 * 64) * F
    assert taken(name, *inputs, *states, *output, None, given[1], None) == whole + zeros


def test_an_lstm_of_an_early_onednn() -> None:
    """Figures of ``mkldnn_rnn_layer`` as PyTorch 2.6 and 2.9 run it, read off the profiler."""
    measured = {
        (16, 8, 24, 48): (495_616, 517_048), (7, 2, 64, 64): (77_824, 94_648),
        (20, 8, 128, 256): (3_375_104, 3_429_304), (5, 3, 100, 20): (102_400, 43_704),
        (5, 3, 20, 100): (147_456, 144_568), (12, 6, 512, 256): (2_363_392, 1_574_840),
    }  # fmt: skip
    now = {
        (16, 8, 24, 48): 111_160, (7, 2, 64, 64): 29_240, (20, 8, 128, 256): 696_888,
        (5, 3, 100, 20): 21_048, (5, 3, 20, 100): 37_432, (12, 6, 512, 256): 324_152,
    }  # fmt: skip
    for (steps, batch, inputs, size), (workspace, scratch) in measured.items():
        assert lstm_workspace_bytes(steps, batch, inputs, size, is_early=True) == workspace
        weights = (spec(4 * size, inputs), spec(4 * size, size), spec(4 * size), spec(4 * size))
        states = (spec(batch, size), spec(batch, size))
        layer = (spec(steps, batch, inputs), *weights, *states)
        rest = (False, (), 2, size, 1, True, False, False, True)
        early, late = (
            taken(
                "mkldnn_rnn_layer.default",
                *layer,
                *rest,
                has_early_onednn=is_early,
                outputs=(spec(steps, batch, size), *states, spec(workspace, dtype="uint8")),
            )
            for is_early in (True, False)
        )
        assert early - late == scratch - now[steps, batch, inputs, size]


def test_a_number_beside_a_tensor_is_a_tensor() -> None:
    assert taken("mul.Tensor", spec(3), 0.5) == 8 + 4
    assert taken("add_.Tensor", spec(3, dtype="int64"), 1) == 8
    assert taken("mul.Tensor", spec(3), spec(3)) == 0
    assert taken("mean.default", spec(3), output=spec()) == 8 + 4


def test_copies_of_indices_and_results() -> None:
    table, indices = spec(50, 16), spec(2, 12, dtype="int64")
    strange = (PLAIN, Layout.NONE)
    assert taken("embedding.default", table, indices) == 0
    assert taken("embedding.default", table, indices, layouts=strange) == 24 * 8
    name = "embedding_dense_backward.default"
    assert taken(name, spec(2, 12, 16), indices, 50, -1, False, layouts=strange) == 24 * 8
    image = spec(2, 21, 21, 96)
    assert taken("roll.default", image, (3, 3), (1, 2), output=image) == image.nbytes
    assert taken("roll.default", image, (3,), (1,), output=image) == 0
    assert taken("sort.default", spec(48)) == 48 * 8
    assert taken("cumsum.default", spec(4), 0, output=spec(4)) == 0
    assert taken("cumsum.default", spec(4, dtype="bool"), 0, output=spec(4, dtype="int64")) == 32
