"""Autocast on a virtual device: the real CPU's op streams are the truth of the mechanism."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchgauge as tg
from small_models import MODELS, dtypes_of, mlp, streams, trace
from torchgauge.compare.streams import DifferenceKind
from torchgauge.errors import ModelError
from torchgauge.facts.trace import Role, TensorSpec, Trace
from torchgauge.trace.isolate.isolation import neutral
from torchgauge.trace.kernels.autocast_lists import POLICIES, Policy

A100 = "A100-SXM-40GB"
NO_TRUTH = {
    "lstm": "the layouts of oneDNN's LSTM in bfloat16, and the casts in its backward",
    "packed": "the CPU multiplies the inputs of all steps at once, packed ones are simulated "
    "step by step",
}  # fmt: skip
"""Models whose CPU kernels are not simulated op by op; on CUDA both run cuDNN's kernel."""


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("name", [name for name in MODELS if name not in NO_TRUTH])
def test_the_stream_is_the_real_one(name: str, mode: str) -> None:
    build, size = MODELS[name]
    scenario = tg.Scenario(mode=mode, precision="bf16-autocast")
    comparison = streams(build(), size, scenario, dtypes_of(name))
    assert comparison.identical, comparison.differences[:5]


@pytest.mark.parametrize("name", NO_TRUTH)
def test_the_exceptions_are_some(name: str) -> None:
    build, size = MODELS[name]
    scenario = tg.Scenario(mode="training", precision="bf16-autocast")
    found = streams(build(), size, scenario).by_kind()
    assert DifferenceKind.MISSING in found


def test_float16_on_the_cpu_too() -> None:
    comparison = streams(mlp(), (8, 16), tg.Scenario(precision="fp16-autocast"))
    assert comparison.identical, comparison.differences[:5]


class Careful(nn.Module):
    """Switches autocast off for one product, as rotary embeddings and losses do."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.device = device

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        with torch.autocast(self.device, enabled=False):
            x = self.second(x.float())
        return self.first(x)


def dtypes_of_products(found: Trace) -> list[str]:
    return [op.outputs[0].dtype for op in found.ops if op.name == "aten.addmm.default"]


@pytest.mark.parametrize(("device", "target"), [("cpu", "cpu"), ("cuda", A100)])
def test_a_region_without_autocast_inside(device: str, target: str) -> None:
    scenario = tg.Scenario(precision="bf16-autocast", device=target)
    found = trace(Careful(device), (2, 8), scenario)
    assert dtypes_of_products(found) == ["bfloat16", "float32", "bfloat16"]


def test_a_region_without_autocast_is_the_real_one() -> None:
    for mode in ("inference", "training"):
        scenario = tg.Scenario(mode=mode, precision="bf16-autocast")
        assert streams(Careful("cpu"), (2, 8), scenario).identical


def test_a_weight_is_cast_once_a_region() -> None:
    scenario = tg.Scenario(precision="bf16-autocast", device=A100)
    found = trace(Careful("cuda"), (2, 8), scenario)
    casts = [op for op in found.ops if op.name == "aten._to_copy.default"]
    assert sum(shape_of(op.args[0]) == (8, 8) for op in casts) == 1


def shape_of(spec: object) -> tuple[int, ...]:
    assert isinstance(spec, TensorSpec)
    return tuple(spec.shape)


@pytest.mark.parametrize("precision", ["bf16-autocast", "fp16-autocast"])
def test_what_is_kept_is_in_half_precision(precision: str) -> None:
    """Parameters, gradients and states stay in float32; saved activations take half the bytes."""
    layers = [layer for _ in range(4) for layer in (nn.Linear(32, 32, bias=False), nn.ReLU())]
    model, size = nn.Sequential(*layers), (1024, 32)
    full = trace(model, size, tg.Scenario(mode="training", device=A100))
    half = trace(model, size, tg.Scenario(mode="training", device=A100, precision=precision))
    for role in (Role.PARAMETER, Role.GRADIENT, Role.OPTIMIZER_STATE):
        assert size_of(half, role) == size_of(full, role)
    saved = "aten.relu.default"
    assert size_of(full, Role.SAVED_ACTIVATION, saved) == 4 * 1024 * 32 * 4
    assert size_of(half, Role.SAVED_ACTIVATION, saved) == 4 * 1024 * 32 * 2
    casts = size_of(half, Role.SAVED_ACTIVATION, "aten._to_copy.default")
    # Of the input, and of the weights but the first: nothing asks for the input's gradient.
    assert casts == 1024 * 32 * 2 + 3 * 32 * 32 * 2
    scaling = [op for op in half.ops if "non_finite_check_and_unscale" in op.name]
    assert len(scaling) == (precision == "fp16-autocast")


def size_of(found: Trace, role: Role, label: str = "") -> int:
    storages = [s for s in found.storages if s.role is role and not s.is_host]
    return sum(s.nbytes for s in storages if s.label == label or not label)


def state() -> tuple[object, ...]:
    return (
        torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda"),
        torch.is_autocast_enabled("ipu"), torch.get_autocast_dtype("cpu"),
        torch.autocast.__init__, torch.clear_autocast_cache,
    )  # fmt: skip


class Failing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            return self.linear(x)[..., :3] @ self.linear.weight


@pytest.mark.parametrize("device", ["cpu", A100])
def test_nothing_leaks(device: str) -> None:
    before = state()
    scenario = tg.Scenario(mode="training", precision="bf16-autocast", device=device)
    tg.analyze(mlp(), (8, 16), scenario=scenario)
    assert state() == before
    with pytest.raises(ModelError):
        tg.analyze(Failing(), (2, 8), scenario=scenario)
    assert state() == before
    linear = nn.Linear(4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # works as ever, and its cache is empty
        assert linear(torch.ones(1, 4)).dtype is torch.bfloat16
    assert linear(torch.ones(1, 4)).dtype is torch.float32
    meta = nn.Linear(4, 4, device="meta")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert meta(torch.ones(1, 4, device="meta")).dtype is torch.float32


def test_the_lists_name_operators() -> None:
    for policies in POLICIES.values():
        known = [name for name in policies if hasattr(torch.ops.aten, name.split(".")[0])]
        assert len(known) > 0.9 * len(policies)
        assert set(policies.values()) <= set(Policy)


def test_casts_end_with_their_region_inside_of_another() -> None:
    """Measured steps run inside ``neutral()``: a cast must not outlive the update of its weight."""
    linear = nn.Linear(4, 4, bias=False)
    results = []
    with neutral():
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16):
                results.append(linear(torch.ones(1, 4)).detach())
            with torch.no_grad():
                linear.weight.add_(1.0)
    assert not torch.equal(*results)
