"""Kernels that a GPU runs for operators, eager and compiled: what is added, split and fused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from small_models import trace
from torchgauge.devices import find_device
from torchgauge.estimate.compute.flops import op_cost
from torchgauge.estimate.time.gpu import DeviceModel, Kind
from torchgauge.estimate.time.gpu.cost import kernel_time
from torchgauge.estimate.time.gpu.device_model import COMPILED, model_of, of_compiled
from torchgauge.estimate.time.gpu.fusion import chooses_channels_last, fused
from torchgauge.estimate.time.gpu.timeline import kernels_on_gpu
from torchgauge.estimate.time.kernels.work import Work
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.trace import Trace

MODEL = DeviceModel(device=find_device("RTX 4090"))
IMAGES = (4, 64, 16, 16)


def traced(model: nn.Module, size: tuple[int, ...], *, training: bool = False) -> Trace:
    mode = "training" if training else "inference"
    return trace(model, size, Scenario(device="RTX 4090", mode=mode))


def works(step: Trace) -> list[Work]:
    return [work for op in step.ops for work in kernels_on_gpu(op)]


def kinds(step: Trace) -> list[Kind]:
    return [work.kind for work in works(step)]


def of(step: Trace) -> list[tuple[Kind, ...]]:
    """Return the kernels of each launch of a compiled step."""
    return [tuple(w.kind for w in issue.works) for issue in fused(step, MODEL.coefficients)]


# ------------------------------------------------------------------------------ eager


@pytest.mark.parametrize(("groups", "bias", "expected"), [
    (1, True, [Kind.CONVOLUTION, Kind.BROADCAST]),
    (2, True, [Kind.CONVOLUTION, Kind.BROADCAST]),
    (1, False, [Kind.CONVOLUTION]),
    (64, True, [Kind.DEPTHWISE]),
])  # fmt: skip
def test_the_bias_of_a_convolution_is_a_kernel_but_not_of_a_depthwise_one(
    groups: int, bias: bool, expected: list[Kind]
) -> None:
    assert kinds(traced(nn.Conv2d(64, 64, 3, groups=groups, bias=bias), IMAGES)) == expected


@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_has_statistics_in_training(training: bool) -> None:
    found = kinds(traced(nn.BatchNorm2d(64), IMAGES, training=training))
    assert found.count(Kind.BATCH_STATISTICS) == 2 * training  # of the backward too
    assert found.count(Kind.BATCH_NORM) == 1 + training


@pytest.mark.parametrize("build", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("training", [False, True])
def test_a_recurrent_layer_multiplies_its_state_at_each_step(
    build: type[nn.RNNBase], training: bool
) -> None:
    step = traced(build(32, 48, num_layers=2, bidirectional=True), (7, 3, 32), training=training)
    for op in step.ops:
        if "_cudnn_rnn" in op.name and (found := kernels_on_gpu(op)):
            assert sum(work.flops for work in found) == op_cost(op).flops
            waiting = [work for work in found if work.kind is Kind.RECURRENT]
            assert {(work.window, work.rows) for work in waiting} == {(7, 3)}
            assert len(waiting) == 4  # layers and directions


@pytest.mark.parametrize(("pool", "window"), [
    (nn.MaxPool2d(3, 2), 9), (nn.AvgPool2d(2), 4), (nn.AvgPool2d((1, 5)), 5),
])  # fmt: skip
def test_a_pooling_goes_over_its_window(pool: nn.Module, window: int) -> None:
    (work,) = works(traced(pool, IMAGES))
    assert (work.kind, work.window) == (Kind.POOLING, window)


@pytest.mark.parametrize(("channels", "groups", "uneven", "unaligned"), [
    ((64, 64), 2, False, False), ((48, 48), 2, True, False), ((60, 64), 1, False, True),
    ((64, 60), 1, False, True), ((3, 64), 1, False, False), ((64, 64), 64, False, False),
])  # fmt: skip
def test_a_convolution_is_slower_on_odd_channels(
    channels: tuple[int, int], groups: int, uneven: bool, unaligned: bool
) -> None:
    """24 channels in each group have no kernel of their own, 60 are no multiple of 8."""
    first, second = channels
    model = nn.Conv2d(first, second, 3, groups=groups, bias=False)
    (work,) = works(traced(model, (4, first, 16, 16)))
    assert (work.is_uneven_group, work.is_unaligned) == (uneven, unaligned)
    work = replace(work, is_channels_last=True)
    plain = replace(work, is_uneven_group=False, is_unaligned=False)
    c, rates = MODEL.coefficients, MODEL.rates(work)
    slower = kernel_time(work.kind, work, rates, c).compute
    assert (slower > kernel_time(work.kind, plain, rates, c).compute) is (uneven or unaligned)


def test_a_convolution_copies_no_operand_that_takes_longer_than_a_kernel_for_its_layout() -> None:
    work = replace(works(traced(nn.Conv2d(64, 64, 1, bias=False), IMAGES))[0], copied_bytes=0.0)
    rates, c = MODEL.rates(work), MODEL.coefficients
    bare = kernel_time(work.kind, work, rates, c).compute
    copied = kernel_time(work.kind, replace(work, copied_bytes=1e12), rates, c).compute
    assert copied == pytest.approx(bare * (1 + c["convolution.native"] * rates.copies_layout))


def test_a_depthwise_window_beyond_5_has_no_kernel_of_its_own() -> None:
    c = {**MODEL.coefficients, "depthwise.begin": 0.0}
    steps = []
    for side in (5, 7):
        model = nn.Conv2d(64, 64, side, padding=side // 2, groups=64, bias=False)
        (work,) = works(traced(model, IMAGES))
        seconds = kernel_time(work.kind, work, MODEL.rates(work), c).compute
        steps.append(seconds / side**2)
    assert steps[1] / steps[0] == pytest.approx(c["depthwise.any_size"])


def test_few_weights_of_a_depthwise_filter_leave_processors_idle() -> None:
    """A block per weight: those of 16 channels of 3 × 3 are fewer than run at once."""
    seconds = {}
    for channels in (16, 256, 512):
        model = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        found = works(traced(model, (4, channels, 16, 16), training=True))
        (work,) = (item for item in found if item.is_filter_gradient)
        rates, c = MODEL.rates(work), MODEL.coefficients
        seconds[channels] = kernel_time(work.kind, work, rates, c).compute / channels
    assert seconds[256] == pytest.approx(seconds[512])
    assert seconds[16] / seconds[256] == pytest.approx(6 * MODEL.device.sm_count / (16 * 9))


def test_sums_of_a_batch_norm_are_a_block_per_channel() -> None:
    found = works(traced(nn.BatchNorm2d(64), IMAGES, training=True))
    sums = [work for work in found if work.kind is Kind.BATCH_STATISTICS]
    assert {work.rows for work in sums} == {64}
    few, many = (
        kernel_time(work.kind, work, MODEL.rates(work), MODEL.coefficients).memory
        for work in (replace(sums[0], rows=blocks) for blocks in (64, 1e12))
    )
    each = MODEL.coefficients["batch_statistics.block"] * 1e9
    assert few - many == pytest.approx(sums[0].elements / 64 / each, rel=0.01)
    assert of_compiled(MODEL.coefficients)["batch_statistics.block"] > 1000


def test_weights_of_a_layer_norm_have_a_block_for_16_columns() -> None:
    step = trace(nn.LayerNorm(24), (4096, 24), Scenario(device="RTX 4090", mode="training"))
    (sums,) = (work for work in works(step) if work.kind is Kind.COLUMN_SUMS)
    assert sums.rows == 2
    seconds = kernel_time(sums.kind, sums, MODEL.rates(sums), MODEL.coefficients).memory
    block = MODEL.coefficients["column_sums.block"] * 1e9
    assert seconds == pytest.approx(4096 * 24 / 2 / block, rel=0.1)
    assert of_compiled(MODEL.coefficients)["column_sums.block"] > 1000


def test_rows_of_a_layer_norm_are_split_since_2_8() -> None:
    found = {
        release: model_of(MODEL.device, Scenario(device="RTX 4090", torch_release=release))
        for release in ("2.7", "2.8", None)
    }
    blocks = {release: model.coefficients["column_sums.block"] for release, model in found.items()}
    assert blocks["2.8"] == blocks[None] == 30 * blocks["2.7"]


def test_group_norms_are_sums_and_one_more_kernel() -> None:
    found = kinds(traced(nn.GroupNorm(8, 64), IMAGES))
    assert found == [Kind.REDUCTION, Kind.BROADCAST]


def test_narrow_groups_take_what_their_flops_take() -> None:
    def seconds(groups: int, **changes: bool) -> float:
        model = nn.Conv2d(512, 512, 3, padding=1, groups=groups, bias=False)
        found = works(traced(model, (64, 512, 16, 16), training=True))
        (work,) = (item for item in found if item.is_filter_gradient)
        work = replace(work, dtype="float16", **changes)
        return float(kernel_time(work.kind, work, MODEL.rates(work), MODEL.coefficients).compute)

    assert seconds(64) / seconds(128) == pytest.approx(2.0)
    assert seconds(4) / seconds(8) < 1.9
    assert seconds(128, is_channels_last=True) > seconds(128)


@pytest.mark.parametrize("kind", [Kind.ELEMENTWISE, Kind.BATCH_NORM, Kind.REDUCTION, Kind.NORM])
def test_nothing_moves_more_than_the_datasheet_says(kind: Kind) -> None:
    quick = {**MODEL.coefficients, f"{kind}.memory": 9.0, "cache.gain": 0.0}
    work = Work(kind=kind, elements=1e9, read_bytes=4e9, written_bytes=4e9)
    found = kernel_time(kind, work, MODEL.rates(work), quick)
    assert found.memory == pytest.approx(8e9 / MODEL.device.bandwidth_bytes_per_second)


@pytest.mark.parametrize(("release", "share"), [("2.1", 0.5), ("2.2", 1.0), (None, 1.0)])
def test_fused_attention_took_twice_as_long_before_2_2(release: str | None, share: float) -> None:
    found = model_of(MODEL.device, Scenario(device="RTX 4090", torch_release=release))
    now = MODEL.coefficients["attention.compute"]
    assert found.coefficients["attention.compute"] == pytest.approx(share * now)


# --------------------------------------------------------------------------- compiled


class Residual(nn.Module):
    """Both branches of a residual end in the addition; a product stands between them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(64, 64, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.sigmoid(x)
        return torch.relu(torch.tanh(self.conv(x)) + torch.exp(x))


class Joined(nn.Module):
    """Two chains that meet."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x) * torch.exp(x)


class Around(nn.Module):
    """What follows a product cannot join what the product reads."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.sigmoid(x)
        return x + x @ x


@pytest.mark.parametrize(("model", "size", "launches"), [
    (Residual(), IMAGES, 3), (Joined(), (64, 64), 1), (Around(), (64, 64), 3),
    (nn.Sequential(nn.LayerNorm(64), nn.GELU()), (32, 64), 1),
    (nn.Sequential(nn.Conv2d(64, 64, 1), nn.BatchNorm2d(64), nn.ReLU()), IMAGES, 2),
    (nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.Sigmoid()), IMAGES, 2),
])  # fmt: skip
def test_element_wise_work_is_fused_by_what_it_reads(
    model: nn.Module, size: tuple[int, ...], launches: int
) -> None:
    assert len(of(traced(model, size))) == launches


class Gated(nn.Module):
    """A half of the activation multiplies the other, which a norm reads too."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(64, 128, bias=False)
        self.norm = nn.LayerNorm(64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = nn.functional.gelu(self.wide(x)).chunk(2, dim=-1)
        return first * self.norm(second)


class Padded(nn.Module):
    """An activation that is padded, and one that a product reads before."""

    def __init__(self, *, is_read: bool) -> None:
        super().__init__()
        self.is_read = is_read

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(x)
        product = x @ x if self.is_read else x.sum()
        return nn.functional.pad(x, (1, 1)).sum() + product.sum()


def moved(step: Trace) -> float:
    return sum(w.nbytes for issue in fused(step, MODEL.coefficients) for w in issue.works)


def test_an_activation_is_computed_again_by_each_that_reads_a_part_of_it() -> None:
    """The product's 128 columns are written and read once; the activation is never written."""
    rows = 4096
    step = traced(Gated(), (rows, 64))
    kernels = [w for issue in fused(step, MODEL.coefficients) for w in issue.works]
    assert [w.kind for w in kernels] == [Kind.MATMUL, Kind.NORM]
    product, norm = kernels
    assert norm.read_bytes == product.written_bytes + 2 * 64 * 4  # and weight and bias
    assert norm.written_bytes == rows * 64 * 4


class Halves(nn.Module):
    """Both halves of a product are read, by one operator or by two that join."""

    def __init__(self, *, apart: bool) -> None:
        super().__init__()
        self.wide, self.apart = nn.Linear(64, 128, bias=False), apart

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.wide(x).chunk(2, dim=-1)
        return torch.sigmoid(first) * (torch.tanh(second) if self.apart else second)


def test_parts_of_a_tensor_are_read_by_groups_that_join_as_by_one() -> None:
    both = [moved(traced(Halves(apart=apart), (4096, 64))) for apart in (False, True)]
    assert both[0] == both[1]


def test_what_a_product_reads_is_written_for_all() -> None:
    sizes = [moved(traced(Padded(is_read=read), (1024, 1024))) for read in (False, True)]
    matrix = 1024 * 1024 * 4
    assert sizes[1] > sizes[0] + 2.9 * matrix  # written, and read twice by the product


def test_no_compiled_step_moves_more_or_lacks_products() -> None:
    steps: list[tuple[nn.Module, tuple[int, ...]]] = [
        (Residual(), IMAGES), (Joined(), (64, 64)), (Around(), (64, 64)), (Gated(), (512, 64)),
        (Padded(is_read=True), (64, 64)), (Padded(is_read=False), (64, 64)),
    ]  # fmt: skip
    for model, size in steps:
        step = traced(model, size)
        eager = works(step)
        compiled = [w for issue in fused(step, MODEL.coefficients) for w in issue.works]
        assert sum(w.nbytes for w in compiled) <= sum(w.nbytes for w in eager)
        assert sum(w.flops for w in compiled) == sum(w.flops for w in eager)


@pytest.mark.parametrize(("build", "in_inference", "in_training"), [
    (lambda: nn.Conv2d(128, 128, 3), True, True),
    (lambda: nn.Conv2d(128, 128, 3, groups=4), False, False),
    (lambda: nn.Conv2d(256, 64, 3), True, False),  # its channels are halved and more
    (lambda: nn.Conv2d(16, 16, 3), True, False),  # all are small
    (lambda: nn.Flatten(), False, False),
])  # fmt: skip
def test_inductor_chooses_the_layout_of_convolutions(
    build: Callable[[], nn.Module], in_inference: bool, in_training: bool
) -> None:
    """The rule of PyTorch's ``decide_layout_opt``."""
    for training, expected in ((False, in_inference), (True, in_training)):
        model = build()
        channels = getattr(model, "in_channels", 8)
        model = nn.Sequential(model, nn.Flatten(), nn.LazyLinear(2)) if training else model
        if training:
            model(torch.zeros(2, channels, 8, 8))
        assert chooses_channels_last(traced(model, (2, channels, 8, 8), training=training)) is (
            expected
        )


def test_a_compiled_step_has_coefficients_of_its_own() -> None:
    c = {"norm.memory": 0.5, "copy.memory": 0.7, f"{COMPILED}.norm.memory": 0.9}
    assert of_compiled(c) == {**c, "norm.memory": 0.9}


# ---------------------------------------------------------------- what a board can, or was told


PRODUCT = Work(kind=Kind.MATMUL, dtype="float32", flops=2.0 * 8192**3, rows=8192, columns=8192,
               inner=8192, read_bytes=8.0 * 8192**2, written_bytes=4.0 * 8192**2)  # fmt: skip


def on(work: Work, name: str, **measured: float) -> float:
    model = DeviceModel(device=replace(find_device(name), **measured))
    return float(kernel_time(work.kind, work, model.rates(work), model.coefficients).total)


@pytest.mark.parametrize(
    ("name", "share"),
    [("A100-SXM-40GB", 2), ("V100-PCIe-32GB", 2), ("P100-PCIe-16GB", 2), ("T4", 32), ("L40S", 64),
     ("RTX 3090", 64), ("RTX 4090", 64), ("GTX 1080 Ti", 32)],
)  # fmt: skip
def test_float64_is_as_slow_as_the_chips(name: str, share: float) -> None:
    double = replace(PRODUCT, dtype="float64")
    assert on(double, name) == pytest.approx(share * on(PRODUCT, name), rel=0.05)
    model = DeviceModel(device=find_device(name))
    assert model.error_of(double) == model.coefficients["error.other_kernels"]
    assert model.error_of(PRODUCT) < model.error_of(double)


def test_adding_in_float64_takes_its_bytes_and_not_its_products() -> None:
    added = Work(kind=Kind.BROADCAST, elements=2.0**26, read_bytes=2.0**28, written_bytes=2.0**28)
    wide = replace(added, dtype="float64", read_bytes=2.0**29, written_bytes=2.0**29)
    assert on(wide, "RTX 3090") < 2.1 * on(added, "RTX 3090")


def test_what_the_user_measured_moves_all_that_goes_with_it() -> None:
    slow = {"measured_fp32_flops_per_second": 12e12}
    depthwise = Work(kind=Kind.DEPTHWISE, flops=2.0**34, elements=2.0**26, window=9.0, batch=64.0,
                     read_bytes=2.0**20, written_bytes=2.0**20)  # fmt: skip
    for work in (PRODUCT, depthwise):
        assert on(work, "RTX 3090", **slow) > 1.3 * on(work, "RTX 3090")
    copied = Work(
        kind=Kind.ELEMENTWISE, elements=2.0**28, read_bytes=2.0**30, written_bytes=2.0**30
    )
    fast = {"measured_bandwidth_bytes_per_second": 1.1e12}
    assert on(copied, "RTX 3090", **fast) < 0.9 * on(copied, "RTX 3090")


@pytest.mark.parametrize(("name", "is_slower"), [("GTX 1080 Ti", False), ("RTX 3090", True)])
def test_odd_sides_cost_tensor_cores_alone(name: str, is_slower: bool) -> None:
    odd = replace(PRODUCT, dtype="float16", is_unaligned=True)
    assert (on(odd, name) > on(replace(odd, is_unaligned=False), name)) is is_slower
