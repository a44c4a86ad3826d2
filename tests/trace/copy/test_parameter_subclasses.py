"""Parameters that are more than numbers: classes, tensors inside, attributes, in the copy too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import torchgauge as tg
from real_memory import real_peak

TRAINING = tg.Scenario(mode="training", optimizer="sgd")


class WithScale(nn.Parameter):
    """As ``bitsandbytes.nn.Int8Params``: data and statistics ride on the parameter."""

    scale: torch.Tensor

    def __new__(cls, data: torch.Tensor, scale: torch.Tensor) -> WithScale:
        made = torch.Tensor._make_subclass(cls, data, False)
        made.scale = scale
        return made

    def to(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the copy is not made by to()")

    def __deepcopy__(self, memo: Any) -> Any:
        raise AssertionError("nor by deepcopy")


class Int8(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = WithScale(torch.ones(128, 64, dtype=torch.int8), torch.ones(128))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert type(self.weight) is WithScale
        return x @ (self.weight.to_float() * self.weight.scale[:, None]).t()


WithScale.to_float = lambda self: torch.Tensor.to(self, torch.float32)  # type: ignore[attr-defined]


class Statistics:
    def __init__(self, of: nn.Parameter) -> None:
        self.of = of
        self.factors = {"row": torch.full((8, 1), 0.5), "list": [torch.ones(64)]}


class Marked(nn.Module):
    """An ordinary parameter with marks, an object, a link to its module and one of its methods."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, 64))
        self.weight.gain = 2.0
        self.weight._no_weight_decay = True
        self.weight.statistics = Statistics(self.weight)
        self.weight.owner = self
        self.weight.loader = self.load

    def load(self) -> nn.Module:
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight: Any = self.weight
        assert weight._no_weight_decay and weight.owner is self and weight.loader() is self
        assert weight.statistics.of is weight
        factors = weight.statistics.factors
        return x @ (weight * factors["row"] * factors["list"][0]).t() * weight.gain


class Gguf(nn.Parameter):
    """Blocks of 32 values: a half-precision scale, and a byte for each value."""

    quant_type: str
    quant_shape: tuple[int, int]

    def __new__(cls, data: torch.Tensor) -> Gguf:
        made = torch.Tensor._make_subclass(cls, data, False)
        made.quant_type, made.quant_shape = "q8_0", (data.shape[0], data.shape[1] // 34 * 32)
        return made

    @property
    def is_packed(self) -> bool:
        return self.dtype == torch.uint8


class GgufLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = Gguf(torch.zeros(16, 2 * 34, dtype=torch.uint8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert self.weight.is_packed and self.weight.quant_type == "q8_0"
        blocks = self.weight.as_subclass(torch.Tensor).view(16, 2, 34)
        scales = blocks[..., :2].contiguous().view(torch.float16).float()
        values = blocks[..., 2:].view(torch.int8).float()
        return x @ (values * scales).view(self.weight.quant_shape).t()


class Labelled(torch.Tensor):
    """With ``__torch_function__`` alone, which carries a label on."""

    label: int

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = super().__torch_function__(func, types, args, kwargs or {})
        if isinstance(output, cls) and not hasattr(output, "label"):
            output.label = next(item.label for item in args if isinstance(item, cls))
        return output

    @property
    def twice(self) -> int:
        return 2 * self.label


class Label(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        table = torch.ones(64, 8).as_subclass(Labelled)
        table.label = 3
        self.register_buffer("table", table)
        self.linear = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x @ self.table
        assert isinstance(y, Labelled) and y.twice == 6
        return self.linear(y.as_subclass(torch.Tensor))


class Wrapped(torch.Tensor):
    """A wrapper that is dequantized by its own ``__torch_dispatch__``."""

    @staticmethod
    def __new__(cls, q: torch.Tensor, scale: torch.Tensor) -> Wrapped:
        made = torch.Tensor._make_wrapper_subclass(cls, q.shape, dtype=scale.dtype, device=q.device)
        made.q, made.scale = q, scale
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.detach.default:
            return cls(args[0].q, args[0].scale)

        def plain(value: Any) -> Any:
            return value.q.to(value.scale.dtype) * value.scale if isinstance(value, cls) else value

        return func(*map(plain, args), **(kwargs or {}))


class Flattened(Wrapped):
    """The same with the protocol that compilers use, and a device in its context."""

    def __tensor_flatten__(self) -> Any:
        return ["q", "scale"], {"device": self.q.device}

    @staticmethod
    def __tensor_unflatten__(inner: Any, context: Any, size: Any, stride: Any) -> Flattened:
        assert inner["q"].device == context["device"]
        return Flattened(inner["q"], inner["scale"])


class Quantized(nn.Module):
    def __init__(self, kind: type[Wrapped]) -> None:
        super().__init__()
        inside = torch.ones(128, 64, dtype=torch.int8), torch.ones(128, 1)
        self.weight = nn.Parameter(kind(*inside), requires_grad=False)
        self.head = nn.Linear(128, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert isinstance(self.weight, nn.Parameter) and isinstance(self.weight, Wrapped)
        return self.head(nn.functional.linear(x, self.weight))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Int8(), Int8()
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert self.second.weight.scale is self.first.weight.scale
        return self.first(x) + self.second(x)


class Buffers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kept = nn.Buffer(torch.ones(64))
        self.lost = nn.Buffer(torch.ones(64), persistent=False)
        self.kept.shift = torch.ones(64)
        self.linear = nn.Linear(64, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert self.kept.persistent and not self.lost.persistent
        return self.linear(x * self.kept + self.kept.shift * self.lost)


CASES: dict[str, tuple[Callable[[], nn.Module], int, int, int, int]] = {
    # model, MACs of four rows, parameters, their bytes, bytes of buffers
    "data and statistics": (Int8, 4 * 64 * 128, 128 * 64, 128 * 64 + 512, 0),
    "marks": (Marked, 4 * 64 * 8, 8 * 64, 8 * 64 * 4 + 32 + 256, 0),
    "packed bytes": (GgufLinear, 4 * 64 * 16, 16 * 64, 16 * 68, 0),
    "torch function": (Label, 4 * 64 * 8 + 4 * 64, 72, 288, 64 * 8 * 4),
    "wrapper": (lambda: Quantized(Wrapped), 4 * 128 * 68, 128 * 68, 128 * 64 + 512 + 2048, 0),
    "flattened": (lambda: Quantized(Flattened), 4 * 128 * 68, 128 * 68, 128 * 64 + 512 + 2048, 0),
    "tied": (Tied, 2 * 4 * 64 * 128, 128 * 64, 128 * 64 + 512, 0),
    "buffers": (Buffers, 4 * 64 * 4, 256, 1024, 3 * 256),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_on_a_parameter_is_in_the_copy_and_in_the_memory(name: str) -> None:
    build, macs, params, param_bytes, buffer_bytes = CASES[name]
    report = tg.analyze(build(), (4, 64))
    totals, memory = report.totals, report.memory
    assert memory is not None and report.execution == "simulated" and not report.not_counted
    assert (totals.forward_macs, totals.params) == (macs, params)
    assert (totals.param_bytes, totals.buffer_bytes) == (param_bytes, buffer_bytes)
    assert (memory.parameter_bytes, memory.buffer_bytes) == (param_bytes, buffer_bytes)
    assert memory.peak_allocated_bytes == real_peak(build(), torch.randn(4, 64))


@pytest.mark.parametrize("name", ["marks", "torch function", "wrapper", "flattened", "buffers"])
def test_training_beside_them_is_exact_too(name: str) -> None:
    build = CASES[name][0]
    report = tg.analyze(build(), (4, 64), scenario=TRAINING)
    assert report.memory is not None and report.totals.backward_flops > 0
    real = real_peak(build(), torch.randn(4, 64), training=True)
    assert report.memory.peak_allocated_bytes == real


def test_the_original_keeps_its_attributes_and_their_identity() -> None:
    model = Marked()
    weight: Any = model.weight
    before = dict(weight.__dict__)
    tg.analyze(model, (4, 64), scenario=TRAINING)
    assert weight.__dict__ == before and weight.statistics.of is weight


def test_an_uninitialized_parameter_keeps_its_marks() -> None:
    class Lazy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.LazyLinear(8, bias=False)
            self.linear.weight.gain = torch.full((8,), 2.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x) * self.linear.weight.gain

    report = tg.analyze(Lazy(), (4, 64))
    assert report.memory is not None
    assert report.totals.param_bytes == report.memory.parameter_bytes == 8 * 64 * 4 + 32


def test_a_precision_casts_the_parameter_and_not_what_it_carries() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(8, 64))
            self.weight.scale = torch.ones(8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert self.weight.scale.dtype == torch.float32
            return x @ (self.weight * self.weight.scale.to(x.dtype)).t()

    report = tg.analyze(Scaled(), (4, 64), scenario=tg.Scenario(precision="bf16"))
    assert report.totals.param_bytes == 8 * 64 * 2 + 8 * 4


def test_classes_that_choose_a_kernel_by_device_find_the_cpu() -> None:
    class Choosing(WithScale):
        pass

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = Choosing(torch.ones(8, 64, dtype=torch.int8), torch.ones(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.device.type == self.weight.device.type == "cpu"
            made = torch.zeros(8, 64, device=x.device)
            return x @ (made + self.weight.to_float()).t()

    model = Model()
    report = tg.analyze(model, (4, 64))
    assert report.execution == "simulated" and report.memory is not None
    assert report.memory.peak_allocated_bytes == real_peak(model, torch.randn(4, 64))
    assert "device" not in torch.Tensor.__dict__
