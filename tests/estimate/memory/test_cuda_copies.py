"""Copies that CUDA kernels make of images whose elements lie in another order.

A decoder joins what it upsampled with what an encoder made: the gradient of either is a part of a
larger tensor, and the kernel of the upsampling, or pooling, copies it. Sources: ``UpSample*.cu``,
``DilatedMaxPool2d.cu``, ``AveragePool2d.cu``, ``ReflectionPad.cu`` in PyTorch's
``aten/src/ATen/native/cuda``.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import torchgauge as tg
from torchgauge.estimate.memory.workspaces import Platform, workspaces_for
from torchgauge.facts.trace import OpRecord


class Joined(nn.Module):
    """A convolution, and its result joined with what a function makes of another's."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.skip, self.deep = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1)

    def forward(self, skip, deep):
        return torch.cat([self.skip(skip), self.function(self.deep(deep))], 1)


def upsampled(mode: str) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: F.interpolate(x, scale_factor=2, mode=mode)


FUNCTIONS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], int]] = {
    "upsample_bilinear2d_backward": (upsampled("bilinear"), 16),
    "upsample_nearest2d_backward": (upsampled("nearest"), 16),
    "upsample_bicubic2d_backward": (upsampled("bicubic"), 16),
    "max_pool2d_with_indices_backward": (lambda x: F.max_pool2d(x, 2), 64),
    "avg_pool2d_backward": (lambda x: F.avg_pool2d(x, 2), 64),
    "reflection_pad2d_backward": (lambda x: F.pad(x, (1, 1, 1, 1), "reflect"), 30),
}
"""By the operator of the gradient, with the side of an image of which 32 pixels become."""
COPIES_NOTHING = "upsample_bicubic2d_backward"
"""Reads the gradient by its strides (``packed_accessor64`` in ``UpSampleBicubic2d.cu``)."""


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
def test_gradients_of_joined_tensors(name: str, last: bool) -> None:
    function, side = FUNCTIONS[name]
    order = torch.channels_last if last else torch.contiguous_format
    images = [torch.empty(2, 3, s, s).to(memory_format=order) for s in (32, side)]
    report = tg.analyze(
        Joined(function).to(memory_format=order), input_data=tuple(images), mode="training",
        optimizer="none", device="T4",
    )  # fmt: skip
    [backward] = [op for op in report.trace.ops if name in op.name]
    taken = workspaces_for(Platform(type="cuda"))(backward)
    gradient = 2 * 8 * 32 * 32 * 4
    assert taken == (() if name == COPIES_NOTHING else (gradient,))


def forward(module: nn.Module, image: torch.Tensor) -> OpRecord:
    report = tg.analyze(module, input_data=(image,), device="T4")
    assert report.trace is not None
    return report.trace.ops[-1]


@pytest.mark.parametrize("module", [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Upsample(scale_factor=2)])
def test_images_in_another_order(module: nn.Module) -> None:
    image = torch.empty(2, 3, 32, 32)
    platform = Platform(type="cuda")
    assert workspaces_for(platform)(forward(module, image)) == ()
    turned = forward(module, image.transpose(2, 3))
    assert workspaces_for(platform)(turned) == (image.nbytes,)
