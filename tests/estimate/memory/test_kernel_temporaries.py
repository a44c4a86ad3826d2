"""What kernels of the CPU hold for a moment, to the byte, against the profiler's memory events.

Losses, convolutions with strides or few channels, Fourier transforms and others, in inference and
in a step, on tensors of a size that matters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

import torchgauge as tg
from real_step import predicted_peak, real_peak

Case = tuple[nn.Module, tuple[torch.Tensor, ...]]
Build = Callable[[], Case]
AVX512 = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512",
    reason="oneDNN's layouts are known for AVX-512 alone",
)


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class Three(nn.Module):
    """A function of three tensors, then the same in place."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, *xs: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = getattr(torch, self.name)(*xs)
        in_place: torch.Tensor = getattr(made, self.name + "_")(*xs[1:])
        return in_place


def numbers(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(shape, dtype=dtype).requires_grad_()


def of(function: Callable[[torch.Tensor], torch.Tensor], *shape: int) -> Build:
    return lambda: (Function(function), (numbers(*shape),))


def layer(build: Callable[[], nn.Module], *shape: int) -> Build:
    return lambda: (build(), (numbers(*shape),))


def loss(build: Callable[[], nn.Module], dtype: torch.dtype = torch.float32) -> Build:
    return lambda: (build(), (numbers(120, 300, dtype=dtype), torch.rand(120, 300, dtype=dtype)))


LOSSES: dict[str, Build] = {
    "mean squared": loss(nn.MSELoss),
    "sum of squares": loss(lambda: nn.MSELoss(reduction="sum")),
    "float64": loss(nn.MSELoss, torch.float64),
    "smooth": loss(nn.SmoothL1Loss),
    "Huber": loss(nn.HuberLoss),
    "cross-entropy": loss(nn.BCELoss),
    "weighted cross-entropy": loss(lambda: nn.BCELoss(torch.rand(300))),
    "of logits": loss(nn.BCEWithLogitsLoss),
    "of logits, each": loss(lambda: nn.BCEWithLogitsLoss(reduction="none")),
    "of logits, positives weigh more": loss(
        lambda: nn.BCEWithLogitsLoss(pos_weight=torch.rand(300))
    ),
    "of logits, positives weigh more, each": loss(
        lambda: nn.BCEWithLogitsLoss(pos_weight=torch.rand(120, 300), reduction="none")
    ),
    "of logits, weighted": loss(
        lambda: nn.BCEWithLogitsLoss(torch.rand(300), pos_weight=torch.rand(1), reduction="sum")
    ),
    "soft margin": loss(nn.SoftMarginLoss),
}
CONVOLUTIONS: dict[str, Build] = {
    "far apart": layer(lambda: nn.Conv2d(32, 32, 3, 1, 12, 12, bias=False), 2, 32, 20, 20),
    "depthwise, wide": layer(
        lambda: nn.Conv2d(32, 32, 5, 1, 2, groups=32, bias=False), 2, 32, 20, 20
    ),
    "stride": layer(lambda: nn.Conv2d(64, 32, 4, 2, 1), 2, 64, 40, 48),
    "stride, a line": layer(lambda: nn.Conv1d(64, 32, 4, 2, 1), 2, 64, 400),
    "stride, a volume": layer(lambda: nn.Conv3d(64, 32, 4, 2, 1), 2, 64, 12, 16, 20),
    "stride, one pixel": layer(lambda: nn.Conv2d(64, 32, 1, 2), 2, 64, 40, 48),
    "twelve channels": layer(lambda: nn.Conv2d(12, 64, 3, 1, 1), 2, 12, 40, 48),
    "five channels": layer(lambda: nn.Conv2d(5, 64, 3, 1, 1), 2, 5, 40, 48),
    "one channel, one pixel": layer(lambda: nn.Conv2d(1, 16, 1, 2), 2, 1, 40, 48),
    "a volume of one pixel": layer(lambda: nn.Conv3d(32, 48, 1), 2, 32, 6, 8, 10),
    "transposed": layer(lambda: nn.ConvTranspose2d(64, 32, 3), 2, 64, 20, 24),
    "transposed, stride": layer(lambda: nn.ConvTranspose2d(64, 32, 4, 2, 1), 2, 64, 20, 24),
    "transposed, to an image": layer(lambda: nn.ConvTranspose2d(64, 3, 4, 2, 1), 2, 64, 20, 24),
    "transposed, a line": layer(lambda: nn.ConvTranspose1d(32, 48, 4, 2, 1), 2, 32, 200),
    "transposed, a volume": layer(lambda: nn.ConvTranspose3d(32, 48, 3), 2, 32, 6, 8, 10),
    "transposed, one image": layer(lambda: nn.ConvTranspose2d(4, 5, 3), 1, 4, 20, 24),
    "transposed, grouped": layer(lambda: nn.ConvTranspose2d(32, 64, 3, groups=2), 2, 32, 20, 24),
}
TRANSFORMS: dict[str, Build] = {
    "real, second of three": of(lambda x: torch.fft.rfft(x, dim=1).abs(), 16, 30, 40),
    "back to real": of(lambda x: torch.fft.irfft(x, dim=1), 16, 30, 40),
    "two dimensions": of(lambda x: torch.fft.irfft2(torch.fft.rfft2(x)), 16, 30, 40),
    "first two": of(
        lambda x: torch.fft.irfft2(torch.fft.rfft2(x, dim=(0, 1)), dim=(0, 1)), 16, 30, 40
    ),
    "all": of(lambda x: torch.fft.irfftn(torch.fft.rfftn(x)), 16, 30, 40),
    "one after the other": of(
        lambda x: torch.fft.fft(torch.fft.fft(x, dim=-1), dim=-2).real, 16, 30, 40
    ),
    "few modes": of(
        lambda x: torch.fft.irfft2(torch.fft.rfft2(x)[..., :8, :8], s=(30, 40)), 16, 30, 40
    ),
    "permuted": of(lambda x: torch.fft.irfft2(torch.fft.rfft2(x.permute(2, 0, 1))), 16, 30, 40),
    "short time": of(lambda x: torch.stft(x, 400, return_complex=True).abs(), 4, 4000),
    "short time, both sides": of(
        lambda x: torch.stft(x, 400, onesided=False, return_complex=True).abs(), 4, 4000
    ),
}
OTHERS: dict[str, Build] = {
    "pooling of a line": layer(lambda: nn.MaxPool1d(3, 2, 1), 20, 40, 200),
    "pooling without a batch": layer(lambda: nn.MaxPool1d(3), 40, 200),
    "Mish": layer(nn.Mish, 200, 300),
    "shuffled channels": layer(lambda: nn.ChannelShuffle(4), 3, 20, 30, 30),
    "bilinear": lambda: (nn.Bilinear(20, 30, 40), (numbers(100, 20), numbers(100, 30))),
    "sum of truths": of(lambda x: (x > 0.5).sum(1).float() * x.mean(1), 200, 300),
    "mean of halves": of(lambda x: x.bfloat16().mean(1).float(), 200, 300),
    "logarithms of sums": of(lambda x: x.logsumexp(1), 200, 300),
    "logarithms of short sums": of(lambda x: x.logsumexp(-1), 40, 1),
    "tangents of integers": of(lambda x: (x > 0.5).long().tanh() * x, 200, 300),
    "softmax of another order": of(lambda x: x.transpose(0, 1).softmax(-1), 40, 30, 20),
    "logarithms of another order": of(lambda x: x.transpose(0, 2).log_softmax(0), 40, 30, 20),
    "attention in double precision": lambda: (
        Function(lambda x: nn.functional.scaled_dot_product_attention(x, x, x)),
        (numbers(2, 4, 100, 16, dtype=torch.float64),),
    ),
    "gathered halves": of(lambda x: x.bfloat16().gather(1, x.argsort(1)[:, :90]), 200, 300),
    "scattered halves": of(
        lambda x: torch.zeros(200, 300).half().scatter_add(1, x.argsort(1), x.half()), 200, 300
    ),
    "halves beside floats": of(lambda x: torch.cat([x, x.bfloat16(), x], -1), 200, 300),
    "integers on top of floats": of(lambda x: torch.stack([(x > 0).int(), x]), 200, 300),
    "one minus integers": of(lambda x: (1 - (x > 0.5).long()).float() * x, 200, 300),
    "margins": lambda: (
        nn.MultiLabelMarginLoss(), (numbers(20, 30), torch.randint(0, 30, (20, 30)))
    ),
    "CTC of 32 bits": lambda: (Sequences(), (numbers(50, 8, 20),)),
}  # fmt: skip


class Pooled(nn.Module):
    """Pooling of images in some order; its gradient comes in another, or the same."""

    def __init__(self, pool: nn.Module, order: str, after: str) -> None:
        super().__init__()
        self.pool, self.order, self.after = pool, order, after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.ordered(self.pool(self.ordered(x, self.order)), self.after).relu()

    @staticmethod
    def ordered(x: torch.Tensor, order: str) -> torch.Tensor:
        if order == "swapped":
            return x.transpose(-1, -2)
        if order == "last":
            wanted = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
            return x.contiguous(memory_format=wanted)
        return x.contiguous()


POOLS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "average": (lambda: nn.AvgPool2d(2), (2, 6, 8, 10)),
    "maximum": (lambda: nn.MaxPool2d(2), (2, 6, 8, 10)),
    "adaptive average": (lambda: nn.AdaptiveAvgPool2d(3), (2, 6, 8, 10)),
    "adaptive maximum": (lambda: nn.AdaptiveMaxPool2d(3), (2, 6, 8, 10)),
    "fractional maximum": (lambda: nn.FractionalMaxPool2d(2, output_size=3), (2, 6, 8, 10)),
    "average of a volume": (lambda: nn.AvgPool3d(2), (2, 6, 4, 8, 10)),
    "maximum of a volume": (lambda: nn.MaxPool3d(2), (2, 6, 4, 8, 10)),
    "adaptive average of a volume": (lambda: nn.AdaptiveAvgPool3d(2), (2, 6, 4, 8, 10)),
    "adaptive maximum of a volume": (lambda: nn.AdaptiveMaxPool3d(2), (2, 6, 4, 8, 10)),
    "maximum of a line": (lambda: nn.MaxPool1d(2), (2, 6, 40)),
    "average of a line": (lambda: nn.AvgPool1d(2), (2, 6, 40)),
}


UPSAMPLINGS: dict[str, tuple[str, tuple[int, ...], tuple[int, ...]]] = {
    "a line": ("nearest", (4, 24, 32), (64,)),
    "a line, linear": ("linear", (4, 24, 32), (64,)),
    "small": ("nearest", (2, 8, 8, 8), (60, 68)),
    "large": ("nearest", (2, 8, 8, 8), (60, 69)),
    "small, linear": ("bilinear", (2, 8, 8, 8), (20, 21)),
    "large, linear": ("bilinear", (2, 8, 8, 8), (200, 201)),
    "large, three colours": ("bilinear", (2, 3, 8, 8), (200, 201)),
    "large, grey": ("bilinear", (2, 1, 8, 8), (200, 201)),
    "cubic": ("bicubic", (2, 3, 8, 8), (20, 21)),
    "exact": ("nearest-exact", (2, 3, 8, 8), (200, 201)),
    "a volume": ("nearest", (2, 3, 4, 5, 6), (8, 9, 10)),
    "a volume, linear": ("trilinear", (2, 3, 4, 5, 6), (8, 9, 10)),
}


def bags(**options: Any) -> Build:
    return lambda: (nn.EmbeddingBag(50, 16, **options), (torch.randint(0, 50, (40, 12)),))


BAGS: dict[str, Build] = {
    "sum": bags(mode="sum"),
    "sum, padded": bags(mode="sum", padding_idx=3),
    "mean": bags(mode="mean"),
    "mean, padded": bags(mode="mean", padding_idx=3),
    "maximum": bags(mode="max"),
    "offsets": lambda: (
        nn.EmbeddingBag(50, 16), (torch.randint(0, 50, (240,)), torch.arange(0, 240, 12))
    ),
    "long bags": lambda: (nn.EmbeddingBag(50, 4), (torch.randint(0, 50, (4, 300)),)),
}  # fmt: skip


class Recurrent(nn.Module):
    """An LSTM's outputs."""

    def __init__(self, *sizes: int, **options: Any) -> None:
        super().__init__()
        self.layer = nn.LSTM(*sizes, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]  # type: ignore[no-any-return]


RECURRENT: dict[str, Build] = {
    "small": lambda: (Recurrent(8, 8), (numbers(5, 2, 8),)),
    "as wide as its input": lambda: (Recurrent(64, 64), (numbers(7, 2, 64),)),
    "wider": lambda: (Recurrent(24, 48), (numbers(16, 8, 24),)),
    "narrower": lambda: (Recurrent(100, 20), (numbers(3, 5, 100),)),
    "wide": lambda: (Recurrent(128, 256), (numbers(20, 8, 128),)),
    "one sequence": lambda: (Recurrent(16, 16), (numbers(32, 1, 16),)),
    "a long sequence": lambda: (Recurrent(64, 128), (numbers(64, 1, 64),)),
    "one step": lambda: (Recurrent(8, 8), (numbers(1, 1, 8),)),
    "two layers": lambda: (Recurrent(10, 20, 2), (numbers(6, 3, 10),)),
    "both ways": lambda: (Recurrent(10, 20, bidirectional=True), (numbers(6, 3, 10),)),
    "both ways, three layers": lambda: (
        Recurrent(10, 20, 3, bidirectional=True),
        (numbers(60, 3, 10),),
    ),
    "both ways, batch first": lambda: (
        Recurrent(48, 32, 2, bidirectional=True, batch_first=True),
        (numbers(9, 30, 48),),
    ),
    "batch first": lambda: (Recurrent(16, 16, batch_first=True), (numbers(4, 9, 16),)),
}


class Scaled(nn.Module):
    """Products with numbers, which autograd keeps."""

    def __init__(self, scale: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(6, 6), scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale(self.layer(x))


def scaled(scale: Callable[[torch.Tensor], torch.Tensor]) -> Build:
    return lambda: (Scaled(scale), (numbers(6, 6),))


NUMBERS: dict[str, Build] = {
    "product": scaled(lambda x: x * 0.5),
    "quotient": scaled(lambda x: x / 3),
    "of a number": scaled(lambda x: 3 / (x.abs() + 1)),
    "in place": scaled(lambda x: (x + 1).mul_(0.5)),
    "several": scaled(lambda x: (x * 0.5).relu() * 0.25 + x / 7),
    "many": scaled(lambda x: x * 1 * 2 * 3 * 4 * 5 * 6 * 7),
    "floor": scaled(lambda x: torch.div(x, 2, rounding_mode="floor")),
    "truth": scaled(lambda x: x * True),
    "double": scaled(lambda x: x.double() * 0.5),
    "of nothing": lambda: (Function(lambda x: x[:0] * 0.5 + x.sum() * 2), (numbers(6, 6),)),
    "half": scaled(lambda x: x.bfloat16() * 0.5),
    "checkpoint": scaled(lambda x: checkpoint(Scaled(lambda y: y * 2), x, use_reentrant=False)),
    "scores": scaled(lambda x: ((x[None] @ x[None].mT) * 0.3).softmax(-1) @ x[None]),
}


class Sequences(nn.Module):
    """A CTC loss whose targets have 32 bits: they are cast."""

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        targets = torch.ones((8, 30), dtype=torch.int32)
        return nn.functional.ctc_loss(scores.log_softmax(2), targets, [50] * 8, [30] * 8)


def check(build: Build, training: bool) -> None:
    model, args = build()
    scenario = tg.Scenario(mode="training", optimizer="none") if training else tg.Scenario()
    report = tg.analyze(model.train(training), input_data=args, scenario=scenario)
    assert report.execution == "simulated"
    assert predicted_peak(report) == real_peak(model, *args, training=training)


both = pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])


@both
@pytest.mark.parametrize("after", ["contiguous", "swapped", "last"])
@pytest.mark.parametrize("order", ["contiguous", "swapped", "last"])
@pytest.mark.parametrize("case", POOLS)
def test_pooling(case: str, order: str, after: str, training: bool) -> None:
    build, shape = POOLS[case]
    if len(shape) < 4 and "last" in (order, after):
        pytest.skip("a line has no such order")
    check(lambda: (Pooled(build(), order, after), (numbers(*shape),)), training)


@AVX512
@both
@pytest.mark.parametrize("case", RECURRENT)
def test_recurrent_layers(case: str, training: bool) -> None:
    check(RECURRENT[case], training)


@both
@pytest.mark.parametrize("case", NUMBERS)
def test_products_with_numbers(case: str, training: bool) -> None:
    check(NUMBERS[case], training)


@both
@pytest.mark.parametrize("order", ["contiguous", "swapped", "last"])
def test_batch_norms_of_another_order(order: str, training: bool) -> None:
    model = nn.Sequential(Pooled(nn.BatchNorm2d(6), order, "contiguous"), nn.AvgPool2d(2))
    check(lambda: (model, (numbers(2, 6, 8, 8),)), training)


@both
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "last"])
@pytest.mark.parametrize("case", UPSAMPLINGS)
def test_upsampling(case: str, last: bool, training: bool) -> None:
    mode, shape, size = UPSAMPLINGS[case]
    if last and len(shape) != 4:
        pytest.skip("images alone")
    x = torch.rand(shape)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    model = Function(lambda x: nn.functional.interpolate(x, size=size, mode=mode))
    check(lambda: (model, (x.requires_grad_(),)), training)


@both
@pytest.mark.parametrize("case", BAGS)
def test_bags_of_embeddings(case: str, training: bool) -> None:
    check(BAGS[case], training)


@both
@pytest.mark.parametrize("case", LOSSES)
def test_losses(case: str, training: bool) -> None:
    check(LOSSES[case], training)


@AVX512
@both
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions(case: str, training: bool) -> None:
    check(CONVOLUTIONS[case], training)


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="the transforms are MKL's")
@pytest.mark.filterwarnings("ignore:A window was not provided")
@both
@pytest.mark.parametrize("case", TRANSFORMS)
def test_transforms(case: str, training: bool) -> None:
    check(TRANSFORMS[case], training)


@both
@pytest.mark.parametrize("case", OTHERS)
def test_others(case: str, training: bool) -> None:
    check(OTHERS[case], training)


@both
@pytest.mark.parametrize("affine", [False, True], ids=["plain", "affine"])
@pytest.mark.parametrize("with_statistics", [False, True], ids=["batch", "running"])
@pytest.mark.parametrize("channels", [1, 2, 3, 192])
@pytest.mark.parametrize("case", ["expanded", "transposed", "cut"])
def test_batch_norms_of_views(
    case: str, channels: int, with_statistics: bool, affine: bool, training: bool
) -> None:
    x = {
        "expanded": torch.rand(4, 1).expand(4, channels),
        "transposed": torch.rand(channels, 4).t(),
        "cut": torch.rand(4, channels + 8)[:, :channels],
    }[case]
    model = nn.BatchNorm1d(channels, affine=affine, track_running_stats=with_statistics)
    check(lambda: (model, (x.requires_grad_(),)), training)


@both
@pytest.mark.parametrize("name", ["addcmul", "addcdiv"])
@pytest.mark.parametrize("wide", [0, 1, 2, 3])
def test_products_of_three_dtypes(wide: int, name: str, training: bool) -> None:
    """The one at ``wide`` is float32, the others are bfloat16 (3: none is)."""
    operands = [
        torch.rand(4, 64).to(torch.float32 if place == wide else torch.bfloat16)
        for place in range(3)
    ]
    check(lambda: (Three(name), (operands[0].requires_grad_(), *operands[1:])), training)


class Packed(nn.Module):
    """Sequences in any order of their lengths, packed for a layer and padded again."""

    def __init__(self, lengths: list[int]) -> None:
        super().__init__()
        self.layer = nn.LSTM(95, 32, batch_first=True)
        self.lengths = lengths

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lengths = torch.tensor(self.lengths)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        padded: torch.Tensor = pad_packed_sequence(self.layer(packed)[0], batch_first=True)[0]
        return padded


@both
@pytest.mark.parametrize("lengths", [[32, 32, 16, 8], [8, 32, 16, 32], [32] * 4, [20]])
def test_packed_sequences(lengths: list[int], training: bool) -> None:
    check(lambda: (Packed(lengths), (numbers(len(lengths), max(lengths), 95),)), training)
