"""Shape rules against the real kernels: shape, dtype and strides of every answer that they give."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.errors import ModelError
from torchgauge.trace.operators.op_facts import facts_of
from torchgauge.trace.shapes.table import SHAPE_RULES

aten = torch.ops.aten


def layouts() -> Iterator[torch.Tensor]:
    """One operand in each layout that matters."""
    base = torch.rand(2, 3, 4, 5) * 0.5 + 0.25
    yield base
    yield base.to(memory_format=torch.channels_last)
    yield base.transpose(1, 2).contiguous().transpose(1, 2)
    yield base[:, ::2]
    yield base[:, :, :1].expand(2, 3, 4, 5)
    yield base[0, 0]
    yield base[0, :, 0, 0][:, None, None].clone()
    yield base[0, 0, 0, 0]
    yield base.to(torch.bfloat16)
    yield base.double()[0, 0, 0, 0]
    yield torch.tensor(3)
    yield base > 0.5


_CRASHES = ("aten.mvlgamma_.default",)
"""A whole number, in place: the kernel of 2.9 ends the process by a signal."""


def pointwise() -> list[Any]:
    found = []
    for name in sorted(torch._C._dispatch_get_all_op_names()):
        if not name.startswith("aten::") or not torch._C._dispatch_has_kernel(name):
            continue
        base, _, overload = name.removeprefix("aten::").partition(".")
        func = getattr(getattr(aten, base), overload or "default")
        known = (*SHAPE_RULES, *_CRASHES)
        if facts_of(func).rule is not None and str(func) not in known:
            found.append(func)
    return found


def argument_lists(func: Any) -> Iterator[tuple[Any, ...]]:
    """All layouts for the tensors of a schema; a fixed scalar for each scalar without default."""
    arguments = [a for a in func._schema.arguments if not a.has_default_value()]
    tensors = [i for i, a in enumerate(arguments) if str(a.type) in ("Tensor", "Optional[Tensor]")]
    scalars = {"number": 2, "int": 2, "float": 0.5, "bool": True, "Optional[number]": 1}
    fixed = [scalars.get(str(a.type)) for a in arguments]
    if not tensors or any(v is None for i, v in enumerate(fixed) if i not in tensors):
        return
    options = list(layouts())
    for left in options:
        for right in options if len(tensors) > 1 else options[:1]:
            values = list(fixed)
            for position, index in enumerate(tensors):
                values[index] = (
                    (left if position == 0 else right).clone(memory_format=torch.preserve_format)
                    if position
                    else left
                )
            yield tuple(values)


def layout(value: torch.Tensor) -> tuple[Any, ...]:
    return tuple(value.shape), value.dtype, value.stride() if value.numel() > 1 else None


def test_element_wise_rules_answer_as_the_kernels_do() -> None:
    checked = answered = 0
    operators = pointwise()
    assert len(operators) > 200
    for func in operators:
        rule = facts_of(func).rule
        assert rule is not None
        for args in argument_lists(func):
            meta = tuple(
                torch.empty_strided(a.shape, a.stride(), dtype=a.dtype, device="meta")
                if isinstance(a, torch.Tensor)
                else a
                for a in args
            )
            answer = rule(meta, {})
            if answer is NotImplemented:
                continue
            real_args = tuple(a.clone() if isinstance(a, torch.Tensor) else a for a in args)
            if func._schema.is_mutable:
                real_args = tuple(a.clone() if isinstance(a, torch.Tensor) else a for a in args)
            else:
                real_args = args
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    real = func(*real_args)
                except (RuntimeError, NotImplementedError, IndexError, TypeError):
                    continue  # the kernel refuses these operands
            checked += 1
            if func._schema.is_mutable:
                assert tuple(answer.shape) == tuple(real.shape), func
                assert answer.dtype == real.dtype, func
            else:
                described = [(tuple(a.shape), a.dtype, a.stride()) for a in args
                             if isinstance(a, torch.Tensor)]  # fmt: skip
                assert layout(answer) == layout(real), (str(func), described)
                answered += 1
    assert answered > 1_000 and checked > answered


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("affine", [True, False])
def test_normalisation_rules(training: bool, dtype: torch.dtype, affine: bool) -> None:
    for layer, source in (
        (nn.BatchNorm2d(4, affine=affine), torch.rand(2, 4, 5, 5)),
        (nn.LayerNorm((3, 5), elementwise_affine=affine), torch.rand(2, 4, 3, 5)),
    ):
        layer.to(dtype).train(training)
        source = source.to(dtype).requires_grad_()
        if isinstance(layer, nn.BatchNorm2d):
            args: tuple[Any, ...] = (
                source, layer.weight, layer.bias, layer.running_mean, layer.running_var,
                training, 0.1, 1e-5,
            )  # fmt: skip
            forward, name = aten.native_batch_norm.default, "aten.native_batch_norm.default"
        else:
            args = (source, [3, 5], layer.weight, layer.bias, 1e-5)
            forward, name = aten.native_layer_norm.default, "aten.native_layer_norm.default"
        real = forward(*args)
        meta = tuple(a.to("meta") if isinstance(a, torch.Tensor) else a for a in args)
        answer = SHAPE_RULES[name](meta, {})
        assert [layout(item) for item in answer] == [layout(item) for item in real]
        grads = torch.autograd.grad(real[0].sum(), source)
        assert grads[0].shape == source.shape


LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("weight_shape", "groups"),
    [((8, 8, 3, 3), 1), ((8, 4, 3, 3), 2), ((8, 1, 3, 3), 8), ((8, 8, 1, 1), 1),
     ((8, 8, 3, 3, 3), 1), ((8, 1, 3, 3, 3), 8), ((8, 8, 3), 1)],
)  # fmt: skip
def test_convolutions_answer_in_the_layout_of_the_kernels(
    weight_shape: tuple[int, ...], groups: int, transposed: bool, dtype: torch.dtype
) -> None:
    dims = len(weight_shape) - 2
    plain = torch.rand(2, 8, *[6] * dims, dtype=dtype), torch.rand(weight_shape, dtype=dtype)
    last = LAST.get(dims + 2, torch.contiguous_format)
    for layouts in itertools.product((torch.contiguous_format, last), repeat=3):
        source, weight = (t.to(memory_format=f) for t, f in zip(plain, layouts, strict=False))
        options = ([2] * dims, [1] * dims, [1] * dims, transposed, [0] * dims, groups)
        real = aten.convolution(source, weight, None, *options)
        grad = torch.ones_like(real).to(memory_format=layouts[2])
        backward = (grad, source, weight, [8], *options, [True] * 3)
        forward = (source, weight, None, *options)
        rule = SHAPE_RULES["aten.convolution.default"]
        assert strides(rule(on_meta(forward), {})) == strides(real)
        reals = aten.convolution_backward(*backward)
        rule = SHAPE_RULES["aten.convolution_backward.default"]
        assert [strides(t) for t in rule(on_meta(backward), {})] == [strides(t) for t in reals]


@pytest.mark.parametrize(
    ("layer", "size"),
    [(nn.Conv1d(3, 4, 7), (1, 3, 4)), (nn.Conv2d(3, 4, 7), (1, 3, 4, 4)),
     (nn.Conv2d(3, 4, 2, stride=2), (1, 3, 1, 1)), (nn.Conv2d(3, 4, 2, dilation=4), (2, 3, 4, 9)),
     (nn.Conv3d(3, 4, (2, 8, 8), stride=(2, 8, 8)), (1, 3, 1, 32, 32)),
     (nn.Conv2d(4, 4, 5, padding=1, groups=4), (1, 4, 2, 2)),
     (nn.ConvTranspose2d(3, 4, 3, padding=5), (1, 3, 2, 2)),
     (nn.ConvTranspose1d(3, 4, 2, padding=1), (1, 3, 1))],
)  # fmt: skip
def test_an_input_smaller_than_the_kernel_is_refused(layer: nn.Module, size: Any) -> None:
    """PyTorch 2.6's meta kernel makes outputs of no pixels, or of a negative number."""
    said = "greater than actual input size|Output size is too small"
    with pytest.raises(RuntimeError, match=said):
        layer(torch.zeros(size))
    with pytest.raises(ModelError, match=said) as caught:
        tg.analyze(layer, input_size=size)
    assert "use a larger input" in caught.value.hint


def test_a_batch_of_none_is_convolved() -> None:
    rule = SHAPE_RULES["aten.convolution.default"]
    none = torch.zeros((0, 3, 8, 8), device="meta"), torch.zeros((4, 3, 3, 3), device="meta")
    made = rule((*none, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1), {})
    assert made.shape == (0, 4, 6, 6)


def on_meta(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.to("meta") if isinstance(a, torch.Tensor) else a for a in args)


def strides(tensor: torch.Tensor) -> list[tuple[int, int]]:
    """Sizes with their strides, where a stride means something."""
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return [(size, stride if size > 1 else 0) for size, stride in pairs]


def test_grouped_matmul_in_float32() -> None:
    rule = SHAPE_RULES["aten._grouped_mm.default"]

    def meta(*shape: int) -> torch.Tensor:
        return torch.empty(shape, device="meta")

    offsets = torch.empty(3, dtype=torch.int32, device="meta")
    assert rule((meta(10, 4), meta(3, 4, 6), offsets), {}).shape == (10, 6)
    assert rule((meta(4, 10), meta(10, 6), offsets), {}).shape == (3, 4, 6)
    assert rule((meta(3, 5, 4), meta(3, 4, 6)), {}).shape == (3, 5, 6)


# ---------------------------------------------------------------------------- Fourier transforms


FOURIER = {
    "real, first two": lambda x: torch.fft.rfft2(x, dim=(0, 1)),
    "real, all": torch.fft.rfftn,
    "real, all in another order": lambda x: torch.fft.rfftn(x, dim=(2, 0, 1)),
    "real, last": torch.fft.rfft,
    "real, middle": lambda x: torch.fft.rfft(x, dim=1),
    "complex, last two": torch.fft.fft2,
    "complex, first": lambda x: torch.fft.fft(x, dim=0),
    "complex, all": torch.fft.fftn,
    "both sides": lambda x: torch.ops.aten._fft_r2c(x, [0, 1], 0, False),
    "back to real, first two": lambda x: torch.fft.irfft2(x.to(torch.complex64), dim=(0, 1)),
    "back to real, all": lambda x: torch.fft.irfftn(x.to(torch.complex64)),
    "back to real, first": lambda x: torch.fft.irfft(x.to(torch.complex64), dim=0),
    "half": lambda x: torch.fft.hfft(x.to(torch.complex64), dim=1),
}
FOURIER_SOURCES = {
    "contiguous": torch.randn(6, 10, 8),
    "transposed": torch.randn(6, 10, 8).transpose(0, 2),
    "every second": torch.randn(6, 20, 8)[:, ::2],
    "four dimensions": torch.randn(2, 6, 10, 8).to(memory_format=torch.channels_last),
}


class Transforming(nn.Module):
    """Notes the strides of what a transform gives."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = FOURIER[self.name](x)
        STRIDES.append((out.shape, out.stride(), out.dtype))
        return out


STRIDES: list[Any] = []


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="the transforms are MKL's")
@pytest.mark.parametrize("name", FOURIER)
def test_a_fourier_transform_gives_the_strides_of_the_real_one(name: str) -> None:
    model = Transforming(name)
    for source in FOURIER_SOURCES.values():
        STRIDES.clear()
        report = tg.analyze(model, input_data=source)
        assert report.execution == "simulated"
        model(source)
        assert STRIDES[0] == STRIDES[-1] and len(STRIDES) >= 2
