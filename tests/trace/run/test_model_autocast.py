"""Autocast in a model's own code: the CPU's op streams are the truth, closed forms on a GPU."""

from __future__ import annotations

import sys
import types
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

import torchgauge as tg
from autocast_models import BF16, FOR_THE_CPU, FP16, WITH_A_KIND, Block, Inside, Island
from real_step import predicted_peak, real_peak
from small_models import streams, trace
from torchgauge.errors import ModelError
from torchgauge.facts.trace import Execution, Role, Trace
from torchgauge.trace.isolate.isolation import neutral

GPU = "RTX 4090"
_NO_CUDA = "ignore:(CUDA is not available|User provided device_type of 'cuda'):UserWarning"
pytestmark = pytest.mark.filterwarnings(_NO_CUDA)  # a real region on a machine without one


def training(device: str = "cpu", precision: str = "fp32") -> tg.Scenario:
    return tg.Scenario(mode="training", optimizer="sgd", device=device, precision=precision)


def products(found: Trace) -> list[str]:
    names = ("aten.addmm.default", "aten.mm.default", "aten.convolution.default")
    return [op.outputs[0].dtype for op in found.ops if op.name in names and op.phase == "forward"]


@pytest.mark.parametrize(
    ("kind", "precision"), [("cpu", "fp32"), (None, "fp32"), (None, "bf16-autocast")]
)
@pytest.mark.parametrize("model", WITH_A_KIND, ids=lambda model: model.__name__)
def test_the_stream_is_the_real_one(model: Any, kind: str | None, precision: str) -> None:
    comparison = streams(model(kind), (8, 16), training(precision=precision))
    assert comparison.identical, comparison.differences[:5]


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("model", FOR_THE_CPU, ids=lambda model: model.__name__)
def test_the_stream_of_other_ways_is_the_real_one(model: Any, mode: str) -> None:
    comparison = streams(model(), (8, 16), training() if mode == "training" else tg.Scenario())
    assert comparison.identical, comparison.differences[:5]


def test_the_output_in_a_region_is_in_its_dtype() -> None:
    report = tg.analyze(Inside(), (8, 16))
    assert report.modules["up"].calls[0].outputs[0].tensor.dtype == "bfloat16"


class Wide(Block):
    """Most of its memory is outside of the products, whose scratch depends on the processor."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__(None)
        self.dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.region(x, dtype=self.dtype):
            x = self.up(x).repeat(1, 256)
            with self.region(x, enabled=False):
                return torch.tanh(nn.functional.gelu(x)).float() * 2


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("dtype", [BF16, FP16], ids=str)
def test_the_peak_is_the_profilers(dtype: torch.dtype, mode: str) -> None:
    model, x = Wide(dtype), torch.randn(8, 16)
    report = tg.analyze(model, input_data=(x,), scenario=tg.Scenario(mode=mode))
    real_peak(model, x, training=mode == "training")  # the first call keeps what it makes
    assert predicted_peak(report) == real_peak(model, x, training=mode == "training")


@pytest.mark.parametrize("kind", ["cuda", None], ids=["named", "asked"])
@pytest.mark.parametrize("precision", ["fp32", "bf16-autocast", "bf16"])
def test_regions_and_islands_on_a_gpu(kind: str | None, precision: str) -> None:
    found = trace(Island(kind), (8, 16), tg.Scenario(device=GPU, precision="fp32"))
    half, full = ["bfloat16"] * 2, ["float32"] * 2
    assert products(found) == half + full + half


class Deep(nn.Module):
    """Four layers of 32 features in a region."""

    def __init__(self, kind: str | None, dtype: torch.dtype | None) -> None:
        super().__init__()
        layers = [layer for _ in range(4) for layer in (nn.Linear(32, 32, bias=False), nn.ReLU())]
        self.layers, self.kind, self.dtype = nn.Sequential(*layers), kind, dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.kind or x.device.type, dtype=self.dtype):
            result: torch.Tensor = self.layers(x)
        return result


def saved(found: Trace, label: str) -> int:
    kept = [s for s in found.storages if s.role is Role.SAVED_ACTIVATION and s.label == label]
    return sum(storage.nbytes for storage in kept)


@pytest.mark.parametrize("dtype", [BF16, FP16, None], ids=str)
@pytest.mark.parametrize("kind", ["cuda", None], ids=["named", "asked"])
def test_what_is_saved_on_a_gpu_takes_half_the_bytes(
    kind: str | None, dtype: torch.dtype | None
) -> None:
    found = trace(Deep(kind, dtype), (1024, 32), training(GPU))
    assert set(products(found)) == {str(dtype or FP16).removeprefix("torch.")}
    assert saved(found, "aten.relu.default") == 4 * 1024 * 32 * 2
    # Of the input, and of the weights but the first: nothing asks for the input's gradient.
    assert saved(found, "aten._to_copy.default") == 1024 * 32 * 2 + 3 * 32 * 32 * 2


@pytest.mark.parametrize(("named", "device"), [("cuda", "cpu"), ("cpu", GPU)])
def test_a_region_for_another_device_does_nothing_and_is_named(named: str, device: str) -> None:
    report = tg.analyze(Deep(named, BF16), (8, 32), scenario=tg.Scenario(device=device))
    assert report.modules["layers.0"].calls[0].outputs[0].tensor.dtype == "float32"
    (warning,) = report.warnings
    where = {"cpu": "the CPU", GPU: "the GPU"}[device]
    assert f"opens torch.autocast('{named}'), which does nothing on {where}" in warning


def test_a_model_too_large_for_a_real_run() -> None:
    with tg.meta_construction():
        big = nn.Linear(65536, 65536, bias=False)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.big = big

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast(x.device.type, dtype=BF16):
                result: torch.Tensor = self.big(x)
            return result

    report = tg.analyze(Net(), (1, 65536))
    assert report.execution == Execution.SIMULATED
    assert report.totals.forward_macs == 65536**2


# ---------------------------------------------------------------------------- decorators


def decorated(how: str) -> Block:
    """Return a model whose class, with its decorator, is made here, before the analysis."""

    class OnByName(Block):
        @torch.autocast("cuda", dtype=BF16)
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.block(x)

    class OnByDefault(Block):
        @torch.autocast("cuda")
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.block(x)

    class Off(Block):
        @torch.autocast("cuda", enabled=False)
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.block(x)

    class OffByPosition(Block):
        @torch.autocast("cuda", BF16, False)
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.block(x)

    kinds = {kind.__name__: kind for kind in (OnByName, OnByDefault, Off, OffByPosition)}
    return kinds[how]("cuda")


@pytest.mark.parametrize("precision", ["fp32", "bf16-autocast"])
@pytest.mark.parametrize(
    ("how", "dtype"),
    [
        ("OnByName", "bfloat16"), ("OnByDefault", "float16"), ("Off", "float32"),
        ("OffByPosition", "float32"),
    ],
)  # fmt: skip
def test_decorators_for_a_gpu_say_what_they_mean_on_every_machine(
    how: str, dtype: str, precision: str
) -> None:
    """Where no GPU is found, PyTorch switches them off when the class is made."""
    found = trace(decorated(how), (8, 16), tg.Scenario(device=GPU, precision=precision))
    assert products(found) == [dtype] * 2
    assert not any("autocast" in text for text in found.assumptions)


class Unreadable(Block):
    def __init__(self) -> None:
        super().__init__("cuda")
        self.amp = torch.autocast("cuda")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.amp:
            return self.block(x)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the region is on where a GPU is found")
def test_a_region_whose_meaning_is_lost_is_an_assumption() -> None:
    found = trace(Unreadable(), (8, 16), tg.Scenario(device=GPU))
    assert products(found) == ["float32"] * 2
    assert any("made before the analysis" in text for text in found.assumptions)


# ---------------------------------------------------------------------------- other ways in


class Looking(Inside):
    """Asks for a value that only a real run has."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = super().forward(x)
        return x * 2 if float(x.mean()) > 1e9 else x


@pytest.mark.parametrize("kind", ["cuda", None], ids=["named", "asked"])
def test_a_real_run_for_a_gpu_casts_as_the_gpu(kind: str | None) -> None:
    report = tg.analyze(Looking(kind), (8, 16), scenario=tg.Scenario(device=GPU))
    assert report.execution == Execution.REAL
    call = report.modules["norm"].calls[0]
    assert report.modules["up"].calls[0].outputs[0].tensor.dtype == "bfloat16"
    assert call.outputs[0].tensor.dtype == "float32"  # on the GPU's list alone


class _Doubled(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cuda", cast_inputs=FP16)
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        assert x.dtype is FP16
        return x * 2

    @staticmethod
    @torch.amp.custom_bwd(device_type="cuda")
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad * 2


class OwnFunctionOnAGpu(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cuda", dtype=BF16):
            result: torch.Tensor = _Doubled.apply(self.block(x))  # type: ignore[no-untyped-call]
        return result


def test_functions_of_a_model_get_the_inputs_that_they_ask_for() -> None:
    found = trace(OwnFunctionOnAGpu("cuda"), (8, 16), training(GPU))
    assert found.failure is None
    assert found.outputs[0].tensor.dtype == "float16"


def test_transformers_islands_are_islands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ``maybe_autocast`` leaves meta tensors alone."""
    library = types.ModuleType("transformers.like")

    def maybe_autocast(device_type: str, enabled: bool = True) -> Any:
        if device_type == "meta":
            return nullcontext()
        return torch.autocast(device_type, enabled=enabled)

    library.__dict__["maybe_autocast"] = maybe_autocast
    monkeypatch.setitem(sys.modules, "transformers.like", library)

    class Router(Block):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with library.maybe_autocast(x.device.type, enabled=False):
                return self.block(x)

    found = trace(Router(), (8, 16), tg.Scenario(precision="bf16-autocast"))
    assert products(found) == ["float32"] * 2
    assert library.__dict__["maybe_autocast"] is maybe_autocast


# ---------------------------------------------------------------------------- nothing leaks


class NeverLeft(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.autocast(x.device.type, dtype=BF16).__enter__()
        return self.block(x)


def state() -> tuple[object, ...]:
    depth = torch.autocast_increment_nesting() - 1
    torch.autocast_decrement_nesting()
    kinds = ("cpu", "cuda", "ipu")
    return (
        depth, [torch.is_autocast_enabled(k) for k in kinds],
        [torch.get_autocast_dtype(k) for k in kinds], torch.is_autocast_cache_enabled(),
        torch.autocast.__init__, torch.autocast.__enter__, torch.set_autocast_enabled,
        torch.is_autocast_enabled, torch.get_autocast_dtype, torch.clear_autocast_cache,
        torch.amp.is_autocast_available, torch.amp.autocast_mode._cast,
    )  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_nothing_leaks_from_a_region_that_is_never_left(device: str) -> None:
    before = state()
    tg.analyze(NeverLeft(None), (8, 16), scenario=tg.Scenario(device=device))
    assert state() == before


def test_the_callers_region_is_left_and_entered_again() -> None:
    with torch.autocast("cpu", dtype=FP16):
        before = state()
        found = trace(Block("cpu"), (8, 16), tg.Scenario())
        assert state() == before
        inside = trace(Inside(), (8, 16), tg.Scenario())
        with neutral():
            assert not torch.is_autocast_enabled("cpu")
    assert products(found) == ["float32"] * 2
    assert products(inside) == ["bfloat16"] * 2


class Forgetful(Block):
    """Takes what a region returned to a layer in float32, as PyTorch refuses to do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.region(x, dtype=BF16):
            x = self.up(x)
        result: torch.Tensor = self.down(x)
        return result


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_a_cast_that_is_missing_after_a_region_is_refused(device: str) -> None:
    with pytest.raises(RuntimeError, match="same dtype"):
        Forgetful()(torch.ones(8, 16))
    with pytest.raises(ModelError, match="must have the same dtype") as caught:
        tg.analyze(Forgetful(None), (8, 16), scenario=tg.Scenario(device=device))
    message = str(caught.value)
    assert message.startswith("down (Linear) failed in forward")
    assert "x.float() where a region of autocast ends" in message
