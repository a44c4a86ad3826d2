"""What CUDA kernels take for themselves, and which convolutions empty the cache: closed forms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.estimate.memory.workspaces import Platform, workspaces_for
from torchgauge.estimate.memory.workspaces.cuda.benchmark import cache_clearings
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.trace import Execution, Layout, OpRecord, Phase, TensorSpec, Trace

GPU = Platform(type="cuda", compute_capability=(8, 0), cudnn_benchmark=True)
PLAIN = Layout.CONTIGUOUS
LAST = Layout.CHANNELS_LAST | Layout.SUGGESTS_CHANNELS_LAST


def spec(*shape: int, dtype: str = "float32") -> TensorSpec:
    nbytes = torch.Size(shape).numel() * getattr(torch, dtype).itemsize
    return TensorSpec(shape=shape, dtype=dtype, device="cuda", nbytes=nbytes)


def op(name: str, *args: Any, outputs: tuple[TensorSpec, ...] = (), **facts: Any) -> OpRecord:
    tensors = [value for value in args if isinstance(value, TensorSpec)]
    facts = {"index": 0, "kwargs": (), "call": -1, "phase": Phase.FORWARD,
             "layouts": (PLAIN,) * len(tensors)} | facts  # fmt: skip
    return OpRecord(name=f"aten.{name}.default", args=args, outputs=outputs, **facts)


def convolution(
    channels: int = 8, wide: int = 16, side: int = 32, *, batch: int = 2, kernel: int = 3,
    stride: int = 1, groups: int = 1, dtype: str = "float32", transposed: bool = False,
    layout: Layout = PLAIN, phase: Phase = Phase.FORWARD, mask: tuple[bool, ...] | None = None,
) -> OpRecord:  # fmt: skip
    """Return a forward, or the backward that a mask asks for."""
    source = spec(batch, channels, side, side, dtype=dtype)
    weight = spec(wide, channels // groups, kernel, kernel, dtype=dtype)
    output = spec(batch, wide, side // stride, side // stride, dtype=dtype)
    settings = ((stride,) * 2, (1, 1), (1, 1), transposed, (0, 0), groups)
    if mask is None:
        return op("convolution", source, weight, None, *settings, outputs=(output,), phase=phase,
                  layouts=(layout, PLAIN))  # fmt: skip
    return op("convolution_backward", output, source, weight, None, *settings, mask,
              phase=Phase.BACKWARD, layouts=(layout, layout, PLAIN))  # fmt: skip


def clearings(*ops: OpRecord, platform: Platform = GPU) -> list[int]:
    numbered = tuple(replace(one, index=index) for index, one in enumerate(ops))
    trace = Trace(
        torch_version="2.13", execution=Execution.SIMULATED, model_name="", modules=(),
        scenario=Scenario(mode="training"), ops=numbered,
    )  # fmt: skip
    return sorted(cache_clearings(trace, platform))


# ---------------------------------------------------------------- softmax


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_gradient_of_softmax_multiplies_into_a_tensor_of_its_own(dtype: str) -> None:
    scores = spec(4, 8, 128, 128, dtype=dtype)
    backward = op("_softmax_backward_data", scores, scores, -1, dtype)
    assert workspaces_for(GPU)(backward) == (scores.nbytes,)
    logarithm = op("_log_softmax_backward_data", scores, scores, -1, dtype)
    assert workspaces_for(GPU)(logarithm) == ()


def test_softmax_of_half_precision_multiplies_in_float32() -> None:
    grad = spec(4, 128, 128)
    assert workspaces_for(GPU)(op("_softmax_backward_data", grad, grad, -1, "float16")) == (
        grad.nbytes,
    )


def test_softmax_copies_what_is_not_contiguous() -> None:
    scores = spec(4, 128, 64)
    for name, count in (("_softmax", 1), ("_log_softmax", 1)):
        forward = op(name, scores, -1, False, layouts=(Layout.NONE,))
        assert sum(workspaces_for(GPU)(forward)) == count * scores.nbytes
    backward = op("_softmax_backward_data", scores, scores, -1, "float32",
                  layouts=(Layout.NONE, Layout.NONE))  # fmt: skip
    assert sum(workspaces_for(GPU)(backward)) == 3 * scores.nbytes


def test_layer_norm_copies_what_is_not_contiguous() -> None:
    images, weight = spec(4, 7, 7, 64), spec(64)
    loose = (Layout.NONE,) * 2
    forward = op("native_layer_norm", images, (64,), weight, weight, 1e-5, layouts=loose)
    assert workspaces_for(GPU)(forward) == (images.nbytes,)
    backward = op("native_layer_norm_backward", images, images, (64,), layouts=loose)
    assert workspaces_for(GPU)(backward) == (images.nbytes,) * 2
    assert workspaces_for(GPU)(replace(backward, layouts=(PLAIN,) * 2)) == ()


def test_eager_attention_has_the_product_at_its_peak() -> None:
    """The softmax's gradient is where a step of long sequences has its peak."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj = nn.Linear(16, 48)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            query, key, value = self.proj(x).chunk(3, dim=-1)
            return (query @ key.mT).softmax(-1) @ value

    scenario = tg.Scenario(mode="training", device="A100 SXM4 80GB", loss="mean")
    report = tg.analyze(Attention(), (1, 4096, 16), scenario=scenario)
    scores = 4096 * 4096 * 4
    assert report.memory.peak_op == "aten._softmax_backward_data.default"
    assert 4 * scores < report.memory.peak_allocated_bytes < 4.4 * scores


# ---------------------------------------------------------------- cudnn.benchmark


def test_without_the_benchmark_nothing_is_emptied() -> None:
    assert clearings(convolution(), platform=Platform(type="cuda")) == []


def test_each_convolution_is_timed_once() -> None:
    assert clearings(convolution(), convolution(), convolution()) == [0]


@pytest.mark.parametrize(
    "other",
    [
        {"side": 16}, {"batch": 3}, {"channels": 16}, {"wide": 8}, {"kernel": 5}, {"stride": 2},
        {"groups": 2}, {"dtype": "float16"}, {"layout": LAST}, {"phase": Phase.BACKWARD},
        {"mask": (True, True, False)}, {"transposed": True, "channels": 16},
    ],
    ids=str,
)  # fmt: skip
def test_what_makes_another_key(other: dict[str, Any]) -> None:
    assert clearings(convolution(), convolution(**other)) == [0, 1]


def test_gradients_are_keys_of_their_own() -> None:
    weight_only, both = (False, True, False), (True, True, False)
    assert clearings(convolution(mask=weight_only), convolution(mask=both)) == [0, 1]
    assert clearings(convolution(mask=both), convolution(mask=weight_only)) == [0]
    assert clearings(convolution(mask=(False, False, True))) == []


def test_depthwise_kernels_of_pytorch_are_not_timed() -> None:
    depthwise = {"channels": 8, "wide": 16, "groups": 8}
    assert clearings(convolution(**depthwise)) == []
    assert clearings(convolution(**depthwise, layout=LAST)) == [0]  # cuDNN takes those
    assert clearings(convolution(8, 8, groups=8, transposed=True)) == [0]  # and those


# ---------------------------------------------------------------- layouts of convolutions


@pytest.mark.parametrize("benchmark", [False, True])
def test_a_convolution_copies_what_lies_in_another_order(benchmark: bool) -> None:
    gpu = Platform(type="cuda", compute_capability=(8, 0), cudnn_benchmark=benchmark)
    forward = convolution(layout=LAST)
    _, weight = forward.args[:2]
    assert isinstance(weight, TensorSpec)
    assert workspaces_for(gpu)(forward) == (weight.nbytes,)
    backward = convolution(layout=LAST, mask=(True, True, False))
    grad, source, weight = backward.args[:3]
    assert isinstance(source, TensorSpec) and isinstance(weight, TensorSpec)
    assert workspaces_for(gpu)(backward) == (weight.nbytes,)
    mixed = op("convolution_backward", *backward.args, phase=Phase.BACKWARD,
               layouts=(PLAIN, LAST, PLAIN))  # fmt: skip
    assert isinstance(grad, TensorSpec)
    assert workspaces_for(gpu)(mixed) == (grad.nbytes, weight.nbytes)


# ---------------------------------------------------------------- plans of cuDNN


def plan_bytes(one: OpRecord, *, benchmark: bool, capability: tuple[int, int] = (8, 0)) -> int:
    """Return the largest block of a convolution."""
    platform = replace(GPU, cudnn_benchmark=benchmark, compute_capability=capability)
    return max(workspaces_for(platform)(one), default=0)


def copies(one: OpRecord, **conditions: Any) -> float:
    """Return what a plan takes, in units of the input and the output together."""
    output = one.outputs[0] if one.outputs else one.args[0]
    return plan_bytes(one, **conditions) / (spec_of_input(one).nbytes + output.nbytes)


def spec_of_input(one: OpRecord) -> TensorSpec:
    source = one.args[0] if one.outputs else one.args[1]
    assert isinstance(source, TensorSpec)
    return source


BOTH = (True, True, False)


@pytest.mark.parametrize(
    ("facts", "heuristics", "timed"),
    [
        ({"channels": 64, "wide": 64}, 1, 2),
        ({"channels": 64, "wide": 64, "stride": 2}, 1, 2),
        ({"channels": 3, "wide": 64}, 0, 0),  # 9 × 3 × 64 ÷ 67 = 26 products for an element
        ({"channels": 3, "wide": 64, "kernel": 7}, 1, 2),  # 140
        ({"channels": 256, "wide": 256, "kernel": 1}, 0, 0),  # 128
        ({"channels": 512, "wide": 512, "kernel": 1}, 0, 1),  # 256
        ({"channels": 64, "wide": 64, "groups": 64, "kernel": 7}, 0, 0),  # PyTorch's own kernel
    ],
)
def test_a_plan_copies_where_there_is_much_to_compute(
    facts: dict[str, Any], heuristics: int, timed: int
) -> None:
    backward = convolution(**facts, mask=BOTH)
    assert copies(convolution(**facts), benchmark=False) == heuristics
    assert copies(backward, benchmark=False) == heuristics
    assert copies(convolution(**facts), benchmark=True) == 0
    assert copies(backward, benchmark=True) == timed
    assert copies(backward, benchmark=False, capability=(7, 5)) == 0


def test_a_wide_depthwise_window_in_channels_last_widens_its_groups() -> None:
    facts: dict[str, Any] = {"channels": 64, "wide": 64, "groups": 64, "kernel": 7, "layout": LAST}
    backward = convolution(**facts, mask=BOTH)
    for benchmark in (False, True):
        assert copies(backward, benchmark=benchmark) == 4
        assert copies(backward, benchmark=benchmark, capability=(8, 6)) < 1
        assert copies(convolution(**facts, mask=(True, False, False)), benchmark=benchmark) < 1
        assert copies(convolution(**facts | {"kernel": 5}, mask=BOTH), benchmark=benchmark) < 1


def early(one: OpRecord) -> int:
    """Return what a convolution takes on a T4 under PyTorch 1."""
    platform = Platform(type="cuda", compute_capability=(7, 5), has_early_cudnn=True)
    return max(workspaces_for(platform)(one), default=0)


def test_early_cudnn_transforms_tiles_by_winograd_before_ampere() -> None:
    facts: dict[str, Any] = {"channels": 64, "wide": 64}
    tiles = 2 * 8 * 8  # of 4 × 4 pixels in two images of 32 × 32
    wanted = 36 * 4 * (tiles * (64 + 64) + 64 * 64)
    assert early(convolution(**facts)) == early(convolution(**facts, mask=BOTH)) == wanted
    assert early(convolution(**facts, side=224, batch=38)) == 0  # more than 2 GiB
    for other in ({"stride": 2}, {"kernel": 5}, {"groups": 2}, {"channels": 3}):
        assert early(convolution(**facts | other)) == 0


# ---------------------------------------------------------------- convolutions that leave cuDNN


def volume(channels: int, side: int, dtype: str, kernel: int = 3, **facts: Any) -> OpRecord:
    images = spec(1, channels, side, side, side, dtype=dtype)
    weight = spec(channels, channels, kernel, kernel, kernel, dtype=dtype)
    settings = ((1,) * 3, (kernel // 2,) * 3, (1,) * 3, False, (0,) * 3, 1)
    return op("convolution", images, weight, None, *settings, outputs=(images,), **facts)


def taken(one: OpRecord, release: str) -> int:
    return sum(workspaces_for(replace(GPU, torch_release=release))(one))


def test_a_sample_beyond_32_bits_is_unfolded_before_cudnn_9_3() -> None:
    """PyTorch issue 136479: "Tried to allocate 108.00 GiB" for 128 channels of 256³ pixels."""
    assert taken(volume(128, 256, "float16"), "2.6") == 108 * 2**30
    assert taken(volume(128, 248, "float16"), "2.6") == 0
    assert taken(volume(128, 256, "float16"), "2.8") == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_volumes_of_half_precision_are_unfolded_in_2_9(dtype: str) -> None:
    columns = 16 * 27 * 32**3 * 2
    assert taken(volume(16, 32, dtype), "2.9") == columns
    assert [taken(volume(16, 32, dtype), release) for release in ("2.8", "2.10")] == [0, 0]
    assert taken(volume(16, 32, dtype, kernel=1), "2.9") == 0
    assert taken(volume(16, 32, "float32"), "2.9") == 0
    assert taken(volume(16, 32, dtype, layouts=(LAST, LAST)), "2.9") == 0


def test_what_leaves_cudnn_is_not_timed() -> None:
    half = volume(16, 32, "bfloat16")
    assert clearings(half, platform=replace(GPU, torch_release="2.9")) == []
    assert clearings(half, platform=replace(GPU, torch_release="2.10")) == [0]
