"""What to time of convolutions: dense, depthwise, grouped, transposed, and their gradients."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

import torch

from torchgauge.measure.calibration.case import (
    Case,
    Cold,
    Fresh,
    Spread,
    between,
    channels,
    chosen,
    side,
)
from torchgauge.measure.calibration.products import FEWEST_FLOPS, MOST_BYTES, MOST_FLOPS

aten = torch.ops.aten
_MOST_OF_IMAGES: Final = 4
"""Channels."""
Cases = Iterator[Iterator[Case]]
"""Each with the cases of its gradients."""


def convolutions() -> Iterator[Case]:
    """Yield all of them, spread over the sizes that networks have."""
    for cases, count in (
        (_dense(_WINDOWS, channels_last=False), 320),
        (_dense(_POINTS, channels_last=False), 320),
        (_dense(_WINDOWS, channels_last=True), 70),
        (_dense(_POINTS, channels_last=True), 60),
        (_patches(channels_last=False), 70),
        (_patches(channels_last=True), 50),
        (_of_images(channels_last=False), 100),
        (_of_images(channels_last=True), 20),
        (_of_one_small_image(), 140),
        (_depthwise(channels_last=False), 200),
        (_depthwise(channels_last=True), 80),
        (_grouped(), 60),
        (_transposed(), 80),
    ):
        for found in islice(cases, count):
            yield from found
    for cases, count in ((_staged(3, 3, 3, 5), 150), (_staged(1), 200), (_staged_depthwise(), 150)):
        for found in islice(cases, count):
            yield next(found)  # without its gradients


def _convolution(
    source: tuple[int, ...],
    weight: tuple[int, ...],
    *,
    stride: int = 1,
    groups: int = 1,
    transposed: bool = False,
    channels_last: bool = False,
    plain_weight: bool = False,
) -> Iterator[Case]:
    """Yield a convolution, and the gradients of its operands.

    Where a network permutes its images, ``plain_weight`` is the format of a weight that nobody
    permuted with them.
    """
    o, i, h, w = weight
    # The first layer, whose images have few channels, begins the step.
    is_first = groups == 1 and not transposed and i <= _MOST_OF_IMAGES
    x = Fresh(source, channels_last=channels_last)
    is_permuted = channels_last and not plain_weight
    filters = Cold((o, h, w, i), order=(0, 3, 1, 2)) if is_permuted else Cold(weight)
    pad = [h // 2, w // 2] if stride < h else [0, 0]
    rest = ([stride] * 2, pad, [1, 1], transposed, [0, 0], groups)
    forward = (x, filters, None, *rest)
    yield Case(op=aten.convolution.default, given=forward, begins_step=is_first)
    with torch.no_grad():
        result = aten.convolution.default(
            torch.empty(source, device="meta"), torch.empty(weight, device="meta"), None, *rest
        )
    gradient = Fresh(tuple(result.shape), channels_last=channels_last)
    mask = [not is_first, True, False]  # nobody asks for the images' gradient
    given = (gradient, x, filters, None, *rest, mask)
    yield Case(op=aten.convolution_backward.default, given=given)


def _fits(n: int, pixels: int, inputs: int, outputs: int, window: int, groups: int = 1) -> bool:
    flops = 2.0 * n * pixels * inputs * outputs * window / groups
    return (
        FEWEST_FLOPS <= flops <= MOST_FLOPS
        and 4.0 * n * pixels * max(inputs, outputs) <= MOST_BYTES
    )


_WINDOWS: Final = (3, 3, 3, 5, 7)
_POINTS: Final = (1,)
_FIRST: Final = ((3, 1), (3, 2), (3, 2), (7, 2), (4, 4), (16, 16))
"""Kernel and stride of first layers."""


def _dense(kernels: tuple[int, ...], *, channels_last: bool) -> Cases:
    seed = 8 + channels_last + 20 * len(kernels)
    for batch, image, inputs, outputs, kernel, step in Spread(6, seed=seed):
        n, size = between(batch, 1, 16), side(image, 4, 112)
        i, o = channels(inputs, 16, 1024), channels(outputs, 16, 1024)
        k, stride = chosen(kernel, *kernels), chosen(step, 1, 1, 1, 2)
        if _fits(n, size * size, i, o, k * k):
            yield _convolution(
                (n, i, size * stride, size * stride), (o, i, k, k), stride=stride,
                channels_last=channels_last,
            )  # fmt: skip


def _patches(*, channels_last: bool) -> Cases:
    """Windows side by side, as between the stages of hierarchical transformers."""
    for batch, image, inputs, outputs, kernel in Spread(5, seed=18 + channels_last):
        n, size = between(batch, 1, 16), side(image, 4, 56)
        i, o = channels(inputs, 16, 1024), channels(outputs, 16, 1024)
        k = chosen(kernel, 2, 2, 2, 4)
        if _fits(n, size * size * k * k, i, o, 1) and 4.0 * n * i * (k * size) ** 2 <= MOST_BYTES:
            yield _convolution(
                (n, i, size * k, size * k), (o, i, k, k), stride=k,
                channels_last=channels_last, plain_weight=channels_last,
            )  # fmt: skip


def _of_images(*, channels_last: bool) -> Cases:
    """The first layer: few channels; windows that overlap, or patches side by side."""
    for batch, image, inputs, outputs, kernel in Spread(5, seed=16 + channels_last):
        n, size = between(batch, 1, 16), side(image, 16, 224)
        i, o = chosen(inputs, 1, 3, 3, 3, 8), channels(outputs, 16, 768)
        k, stride = _FIRST[min(len(_FIRST) - 1, int(kernel * len(_FIRST)))]
        if _fits(n, size * size, i, o, k * k) and size * stride <= 512:
            yield _convolution(
                (n, i, size * stride, size * stride), (o, i, k, k), stride=stride,
                channels_last=channels_last,
            )  # fmt: skip


def _of_one_small_image() -> Cases:
    """One image, 1 × 1: PyTorch's own product, where the image is small."""
    for image, inputs, outputs in Spread(3, seed=10):
        size, i, o = side(image, 1, 32), channels(inputs, 8, 2048), channels(outputs, 8, 2048)
        if i * size * size <= 20_480:
            yield _convolution((1, i, size, size), (o, i, 1, 1))


def _depthwise(*, channels_last: bool) -> Cases:
    for batch, image, width, kernel, step in Spread(5, seed=11 + channels_last):
        n, size, c = between(batch, 1, 16), side(image, 4, 112), channels(width, 8, 1536)
        k, stride = chosen(kernel, 3, 3, 5, 7), chosen(step, 1, 1, 2)
        if _fits(n, size * size * stride**2, c, c, k * k, groups=c):
            yield _convolution(
                (n, c, size * stride, size * stride), (c, 1, k, k), stride=stride, groups=c,
                channels_last=channels_last,
            )  # fmt: skip


def _stage(image: float, width: float, other: float) -> tuple[int, int, int]:
    """Return a side and two counts of channels of a network for images of 224 pixels.

    From stage to stage the side is halved, and there are more channels.
    """
    size = chosen(image, 112, 56, 28, 14, 7)
    least, most = 896 / size, 14_336 / size
    return size, channels(width, least, most), channels(other, least, most)


def _staged(*kernels: int) -> Cases:
    for batch, image, inputs, outputs, kernel, step in Spread(6, seed=30 + len(kernels)):
        n = chosen(batch, 1, 2, 4, 8)
        (size, i, o), k = _stage(image, inputs, outputs), chosen(kernel, *kernels)
        stride = chosen(step, 1, 1, 1, 2)
        if _fits(n, size * size, i, o, k * k) and size * stride <= 112:
            yield _convolution((n, i, size * stride, size * stride), (o, i, k, k), stride=stride)


def _staged_depthwise() -> Cases:
    for batch, image, width, kernel, step in Spread(5, seed=36):
        n = chosen(batch, 1, 2, 4, 8)
        size, c, _ = _stage(image, width, 0.0)
        k, stride = chosen(kernel, 3, 3, 5, 7), chosen(step, 1, 1, 2)
        if _fits(n, size * size * stride**2, c, c, k * k, c) and size * stride <= 112:
            yield _convolution(
                (n, c, size * stride, size * stride), (c, 1, k, k), stride=stride, groups=c
            )


def _grouped() -> Cases:
    for batch, image, width, parts, kernel in Spread(5, seed=13):
        n, size = between(batch, 1, 8), side(image, 4, 56)
        per_group, groups = chosen(width, 4, 8, 16, 24, 32, 64), between(parts, 2, 64)
        k, c = chosen(kernel, 3, 3, 1), per_group * groups
        if c <= 2048 and _fits(n, size * size, c, c, k * k, groups):
            yield _convolution((n, c, size, size), (c, per_group, k, k), groups=groups)


def _transposed() -> Cases:
    for batch, image, inputs, outputs, kernel in Spread(5, seed=14):
        n, size = between(batch, 1, 8), side(image, 4, 64)
        i, o, k = channels(inputs, 8, 512), channels(outputs, 8, 512), chosen(kernel, 2, 3, 4)
        if _fits(n, size * size, i, o, k * k):
            yield _convolution((n, i, size, size), (i, o, k, k), stride=2, transposed=True)
