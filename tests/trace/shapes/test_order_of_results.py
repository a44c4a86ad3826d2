"""In which order kernels leave their results, and what they copy where arguments lie otherwise.

PyTorch's meta kernels hand the order of an argument on where the kernel makes a contiguous result,
and forget it where the kernel keeps it. What follows then copies, or is said to.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import torchgauge as tg
from real_step import predicted_peak, real_peak

TRAINING = tg.Scenario(mode="training", optimizer="none")


class Picture(nn.Module):
    """A convolution, a function of its result, and a convolution."""

    def __init__(self, function, channels=8, width=8):
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3)
        self.function = function
        self.second = nn.Conv2d(width, 4, 3)

    def forward(self, x):
        return self.second(self.function(self.first(x)))


PICTURES = {
    "reflection": Picture(lambda x: F.pad(x, (2, 2, 2, 2), "reflect")),
    "replication": Picture(lambda x: F.pad(x, (2, 2, 2, 2), "replicate")),
    "pixel shuffle": Picture(lambda x: F.pixel_shuffle(x, 2), width=2),
    "pixel unshuffle": Picture(lambda x: F.pixel_unshuffle(x, 2), width=32),
    "channel shuffle": Picture(lambda x: F.channel_shuffle(x, 2)),
    "gated": Picture(lambda x: F.glu(x, 1), width=4),
    "nearest": Picture(lambda x: F.interpolate(x, scale_factor=2)),
    "bicubic": Picture(lambda x: F.interpolate(x, scale_factor=2, mode="bicubic")),
}


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
def test_pictures(name, last):
    layout = torch.channels_last if last else torch.contiguous_format
    model = PICTURES[name].to(memory_format=layout)
    image = torch.randn(2, 3, 34, 34).to(memory_format=layout)
    report = tg.analyze(model, input_data=(image,), scenario=TRAINING)
    assert predicted_peak(report) == real_peak(model, image, training=True)


class Total(nn.Module):
    """A function of a weight whose sum is the loss: its gradient has no memory of its own."""

    def __init__(self, function, *shape):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(*shape))
        self.function = function

    def forward(self):
        return self.function(self.weight).sum()


TOTALS = {
    "gelu": Total(F.gelu, 64, 64),
    "gelu by tanh": Total(lambda w: F.gelu(w, approximate="tanh"), 64, 64),
    "reflection": Total(lambda w: F.pad(w, (3, 3, 3, 3), "reflect"), 2, 8, 16, 16),
    "replication of volumes": Total(lambda w: F.pad(w, (1,) * 6, "replicate"), 2, 3, 6, 6, 6),
    "nearest of lines": Total(lambda w: F.interpolate(w, scale_factor=2.0), 2, 8, 32),
    "trilinear": Total(
        lambda w: F.interpolate(w, scale_factor=2.0, mode="trilinear"), 2, 3, 6, 6, 6
    ),
    "grid sample": Total(
        lambda w: F.grid_sample(w, torch.zeros(2, 20, 20, 2), align_corners=True), 2, 8, 16, 16
    ),
    "pixel shuffle": Total(lambda w: F.pixel_shuffle(w, 2), 2, 8, 16, 16),
    "real transform": Total(lambda w: torch.fft.irfft(w, dim=-2), 4, 16, 8),
    "index": Total(lambda w: w.index_copy(1, torch.arange(8), torch.zeros(64, 8)), 64, 16),
    "clamp by tensors": Total(lambda w: w.clamp(torch.zeros(64), torch.ones(64)), 64, 64),
    "roll of three": Total(lambda w: w.roll((1, 2, 3), (0, 1, 2)), 8, 16, 16),
}


@pytest.mark.parametrize("name", TOTALS)
def test_expanded_gradients(name):
    model = TOTALS[name]
    report = tg.analyze(model, input_data=(), loss=lambda y: y.mean(), scenario=TRAINING)
    try:
        real = real_peak(model, training=True)
    except RuntimeError as error:  # Fourier transforms of an expanded tensor, PyTorch 2.6
        pytest.skip(f"this release of torch refuses it: {error}")
    assert predicted_peak(report) == real


LOSSES = {
    "squares": F.mse_loss, "smooth": F.smooth_l1_loss, "huber": F.huber_loss, "absolute": F.l1_loss,
    "logits": F.binary_cross_entropy_with_logits,
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_pictures(name):
    """Their gradient is contiguous; a network with its channels last copies it."""
    model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    image = torch.randn(2, 3, 34, 34).to(memory_format=torch.channels_last)
    target = torch.rand(2, 4, 32, 32).to(memory_format=torch.channels_last)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x, y):
            return LOSSES[name](self.inner(x), y)

    network = Network()
    report = tg.analyze(network, input_data=(image, target), scenario=TRAINING)
    assert predicted_peak(report) == real_peak(network, image, target, training=True)


@pytest.mark.parametrize(("mode", "keeps"), [("reflect", False), ("replicate", True)])
def test_on_a_gpu_one_padding_keeps_the_order(mode, keeps):
    """``ReflectionPad.cu`` makes its result contiguous, ``ReplicationPadding.cpp`` as suggested."""
    strides = []

    class Padded(nn.Module):
        def forward(self, x):
            y = F.pad(x, (1, 1, 1, 1), mode)
            strides.append(y.stride())
            return y

    image = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    tg.analyze(Padded(), input_data=(image,), device="T4")
    assert (strides[-1][1] == 1) is keeps


def test_fewer_bits_of_an_index_are_copied():
    """From 2.13 on ``gather`` takes indices of 32 bits, of which it makes 64."""

    class Chosen(nn.Module):
        def forward(self, x, index):
            return x.gather(0, index)

    data, index = torch.randn(64, 32), torch.zeros(16, 32, dtype=torch.int32)
    try:
        data.gather(0, index)
    except RuntimeError:
        pytest.skip("this release of torch wants 64 bits")
    report = tg.analyze(Chosen(), input_data=(data, index))
    assert predicted_peak(report) == real_peak(Chosen(), data, index)
