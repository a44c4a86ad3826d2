"""Products of other numbers than plain floats: complex ones count four, FP8 ones are one byte."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode as TorchFlopCounterMode

import torchgauge as tg
from real_step import predicted_peak, real_peak
from small_models import streams
from torchgauge.compat.flop_counter import FlopCounterMode
from torchgauge.errors import ModelError
from torchgauge.estimate.compute.flops import op_cost
from torchgauge.estimate.compute.registry import register_flop_formula, unregister_flop_formula
from torchgauge.facts.report import Report
from torchgauge.facts.trace import OpRecord, Phase, TensorSpec

GPU = "H100-SXM"


class Calling(nn.Module):
    """A weight and a function of it and the input."""

    def __init__(self, weight: torch.Tensor, run: Any) -> None:
        super().__init__()
        self.weight, self.run = nn.Parameter(weight), run

    def forward(self, x: torch.Tensor) -> Any:
        return self.run(x, self.weight)


PRODUCTS = {
    "mm": ((32, 16), lambda x, w: x @ w, 8 * 32 * 16),
    "linear": ((16, 32), nn.functional.linear, 8 * 32 * 16),
    "bmm": ((2, 32, 16), lambda x, w: torch.bmm(x.view(2, 4, 32), w), 8 * 32 * 16),
    "einsum": ((16, 32), lambda x, w: torch.einsum("bi,oi->bo", x, w), 8 * 32 * 16),
    "mv": ((32,), lambda x, w: x.mv(w), 8 * 32),
    "vdot": ((32,), lambda x, w: torch.vdot(x[0], w), 32),
    "addbmm": (
        (2, 32, 16), lambda x, w: torch.addbmm(x[:4, :16], x.view(2, 4, 32), w), 8 * 32 * 16,
    ),
}  # fmt: skip


def analyzed(name: str, dtype: torch.dtype, mode: str = "inference", device: str = "cpu") -> Report:
    shape, run, _ = PRODUCTS[name]
    model = Calling(torch.randn(shape, dtype=dtype), lambda x, w: run(x, w).abs())
    inputs = (torch.randn(8, 32, dtype=dtype, requires_grad=mode == "training"),)
    scenario = tg.Scenario(mode=mode, device=device)
    return tg.analyze(model, input_data=inputs, scenario=scenario)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
@pytest.mark.parametrize("name", PRODUCTS)
def test_a_complex_product_is_four_of_real_numbers(name: str, dtype: torch.dtype) -> None:
    macs = PRODUCTS[name][2]
    real = analyzed(name, torch.float32)
    report = analyzed(name, dtype)
    assert real.totals.forward_macs == macs
    assert report.totals.forward_macs == 4 * macs
    assert report.totals.forward_flops == 8 * macs  # 4 multiplications and 4 additions each


@pytest.mark.parametrize("name", ["mm", "linear", "bmm", "einsum"])
def test_so_are_those_of_the_backward(name: str) -> None:
    report = analyzed(name, torch.complex64, "training")
    assert report.totals.backward_flops == 2 * report.totals.forward_flops


def test_mixed_numbers_are_promoted_before_they_are_multiplied() -> None:
    weight = torch.randn(32, 16)
    model = Calling(weight, lambda x, w: (x @ w.to(torch.complex64)).abs() + x.real @ w)
    report = tg.analyze(model, input_data=(torch.randn(8, 32, dtype=torch.complex64),))
    assert report.totals.forward_macs == (4 + 1) * 8 * 32 * 16


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_complex_convolution_is_the_three_that_run(mode: str, bias: bool) -> None:
    """``complex_convolution`` in PyTorch's ``Convolution.cpp`` multiplies as Gauss did."""
    convolution = nn.Conv2d(2, 3, 3, dtype=torch.complex64, bias=bias)
    model = nn.Sequential(convolution, nn.Flatten())
    inputs = (torch.randn(1, 2, 8, 8, dtype=torch.complex64),)

    class Absolute(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x).abs()

    report = tg.analyze(Absolute(), input_data=inputs, scenario=tg.Scenario(mode=mode))
    assert report.totals.forward_macs == 3 * (3 * 6 * 6) * (2 * 9)
    scenario = tg.Scenario(mode=mode)
    assert streams(Absolute(), (1, 2, 8, 8), scenario, ["complex64"]).identical


def test_linear_algebra_of_complex_matrices() -> None:
    def solve(dtype: torch.dtype) -> int:
        model = Calling(torch.randn(8, 8, dtype=dtype), lambda x, w: torch.linalg.solve(w, x))
        return tg.analyze(model, input_data=(torch.randn(8, 3, dtype=dtype),)).totals.forward_flops

    assert solve(torch.float32) == (2 * 8**3 + 6 * 8**2 * 3) // 3
    assert solve(torch.complex64) == 4 * ((2 * 8**3 + 6 * 8**2 * 3) // 3)


def test_the_time_is_that_of_four_products() -> None:
    def milliseconds(dtype: torch.dtype) -> float:
        model = nn.Linear(4096, 4096, bias=False, dtype=dtype, device="meta")
        found = tg.analyze(model, (4096, 4096), dtypes=[dtype], scenario=tg.Scenario(device=GPU))
        assert found.time is not None
        return found.time.total_ms

    ratio = milliseconds(torch.complex64) / milliseconds(torch.float32)
    assert 3.5 < ratio < 4.5


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("name", ["mm", "linear", "bmm", "einsum"])
def test_the_peak_is_the_profilers(name: str, mode: str) -> None:
    """Conjugates are written out inside of products, of batches in any order."""
    shape, run, _ = PRODUCTS[name]
    model = Calling(torch.randn(shape, dtype=torch.complex64), lambda x, w: run(x, w).abs())
    inputs = torch.randn(8, 32, dtype=torch.complex64)
    report = tg.analyze(model, input_data=(inputs,), scenario=tg.Scenario(mode=mode))
    training = mode == "training"
    real_peak(model, inputs, training=training)  # the first call keeps what it makes
    assert predicted_peak(report) == real_peak(model, inputs, training=training)


def test_absolute_values_are_taken_of_a_complex_copy() -> None:
    model = Calling(torch.randn(64, 64, dtype=torch.complex64), lambda x, w: (x @ w).abs())
    inputs = torch.randn(64, 64, dtype=torch.complex64)
    report = tg.analyze(model, input_data=(inputs,))
    numbers = 64 * 64 * 8
    # The weight, the input, the product, its absolute values, and those as complex numbers.
    assert report.memory is not None
    assert report.memory.peak_allocated_bytes == 3 * numbers + numbers // 2 + numbers


def test_a_users_formula_is_taken_as_it_is() -> None:
    spec = TensorSpec(shape=(2, 2), dtype="complex64", device="meta", nbytes=32)
    op = OpRecord(
        index=0, name="mylib.product.default", args=(spec, spec), kwargs=(), outputs=(spec,),
        call=-1, phase=Phase.FORWARD,
    )  # fmt: skip
    register_flop_formula("mylib.product")(lambda op: 5)
    try:
        cost = op_cost(op)
    finally:
        unregister_flop_formula("mylib.product")
    assert cost is not None
    assert cost.flops == 5


def test_the_flop_counter_keeps_torchs_figure() -> None:
    """``torch.utils.flop_counter`` reads shapes alone."""
    model, x = nn.Linear(32, 16, bias=False, dtype=torch.complex64), torch.randn(8, 32) + 0j
    counts = []
    for counter in (FlopCounterMode(display=False), TorchFlopCounterMode(display=False)):
        with counter, torch.no_grad():
            model(x)
        counts.append(counter.get_total_flops())
    assert counts == [2 * 8 * 32 * 16] * 2


# ---------------------------------------------------------------------------- FP8

FP8 = torch.float8_e4m3fn


class Scaled(nn.Module):
    """A product of FP8 numbers with their scales, in training too."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 64, bias=False)

    def forward(self, x: torch.Tensor) -> Any:
        return _Fp8Product.apply(x, self.linear.weight)  # type: ignore[no-untyped-call]


class _Fp8Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        scale = torch.ones((), device=x.device)
        low, low_weight = x.to(FP8), weight.to(FP8)
        ctx.save_for_backward(low, low_weight)
        return torch._scaled_mm(
            low, low_weight.t(), scale_a=scale, scale_b=scale, out_dtype=torch.float32
        )

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        low, low_weight = ctx.saved_tensors
        scale = torch.ones((), device=grad.device)
        gradient = grad.to(torch.float8_e5m2)

        def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return torch._scaled_mm(
                a, b.t().contiguous().t(), scale_a=scale, scale_b=scale, out_dtype=torch.float32
            )

        return product(gradient, low_weight), product(gradient.t().contiguous(), low)


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_fp8_products_are_counted_forward_and_backward(device: str) -> None:
    inputs = (torch.randn(32, 64, requires_grad=True),)
    scenario = tg.Scenario(mode="training", device=device)
    report = tg.analyze(Scaled(), input_data=inputs, scenario=scenario)
    macs = 32 * 64 * 64
    assert report.totals.forward_macs == macs
    assert report.totals.backward_flops == 2 * 2 * macs
    assert not report.not_counted


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_fp8_weights_take_one_byte(device: str) -> None:
    model = Calling(torch.randn(64, 64), lambda x, w: x.bfloat16() @ w.to(torch.bfloat16))
    model.weight = nn.Parameter(model.weight.detach().to(FP8), requires_grad=False)
    report = tg.analyze(
        model, input_data=(torch.randn(32, 64),), scenario=tg.Scenario(device=device)
    )
    assert report.totals.param_bytes == 64 * 64
    assert report.totals.forward_macs == 32 * 64 * 64


def test_an_fp8_product_that_is_asked_for_its_values_is_run_for_real() -> None:
    def run(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        scale = torch.ones((), device=x.device)
        low = weight.to(FP8)
        made = torch._scaled_mm(
            x.to(FP8), low.t(), scale_a=scale, scale_b=scale, out_dtype=torch.bfloat16
        )
        return made * 2 if float(x.sum()) > 1e9 else made

    model, data = Calling(torch.randn(64, 64), run), (torch.randn(32, 64),)
    try:
        model(*data)
    except NotImplementedError:  # 2.6 has no such kernel for the CPU
        with pytest.raises(ModelError, match="Could not run 'aten::_scaled_mm'") as caught:
            tg.analyze(model, input_data=data)
        assert caught.value.hint == (
            "the installed torch has no kernel of the operator for the CPU; use another operator, "
            "or a newer torch"
        )
        return
    report = tg.analyze(model, input_data=data)
    assert report.execution == "real"
    assert report.totals.forward_macs == 32 * 64 * 64
