"""What a precision casts: what ``model.float()`` and its like cast, and nothing as built."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.compare.times import compare_times
from torchgauge.errors import ModelError, UsageError
from torchgauge.facts.codec.wire import to_dict
from torchgauge.facts.precision import arithmetic_of, dtypes_of, is_all_half
from torchgauge.facts.report import report_from_dict
from torchgauge.facts.scenario import Precision
from torchgauge.render.pages.report import report_page

CASTS = ("fp32", "tf32", "bf16", "fp16")


class Holder(nn.Module):
    """Parameters, buffers, whole and complex numbers, and tensors that are no part of either."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)
        self.register_buffer("scale", torch.ones(8, dtype=torch.float64))
        self.register_buffer("places", torch.arange(8))
        self.turn = nn.Parameter(torch.ones(8, dtype=torch.complex64))
        self.constant = torch.full((8,), 2.0)
        self.view = self.first.weight.detach()[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.first(x)) * self.scale.to(x.dtype) * self.constant
        return y + self.view + (self.turn * self.places).real


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 8)
        self.head = nn.Linear(8, 50, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.embedding(ids))


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(8, 64).bfloat16()
        self.norm = nn.LayerNorm(64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x.to(self.body.weight.dtype))
        return self.norm(y.to(self.norm.weight.dtype))


MODELS = {
    "holder": (Holder, (4, 8)),
    "tied": (Tied, (2, 6)),
    "mixed": (Mixed, (4, 8)),
    "convolutions": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), (2, 3, 8, 8)),
    "recurrent": (lambda: nn.LSTM(8, 8), (5, 2, 8)),
    "double": (lambda: nn.Linear(8, 8).double(), (4, 8)),
}


def report_of(model, size, precision, mode="training", **given):
    options = {"optimizer": "adamw"} if mode == "training" else {}
    scenario = tg.Scenario(mode=mode, precision=precision, **options)
    return tg.analyze(model, size, scenario=scenario, **given)


def facts(report):
    return (
        report.totals, report.memory, report.outputs,
        {name: [(p.name, p.dtype, p.stored_bytes) for p in module.own_parameters]
         for name, module in report.modules.items()},
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("precision", CASTS)
@pytest.mark.parametrize("name", MODELS)
def test_a_named_precision_is_that_of_the_cast_model(name, precision, mode):
    make, size = MODELS[name]
    model = make()
    before = [(t.dtype, t.data_ptr()) for t in (*model.parameters(), *model.buffers())]
    named = report_of(model, size, precision, mode)
    cast = _as_torch_casts(make(), precision)
    assert facts(named) == facts(report_of(cast, size, "as-built", mode))
    assert before == [(t.dtype, t.data_ptr()) for t in (*model.parameters(), *model.buffers())]


def _as_torch_casts(model, precision):
    """Not with ``.to(dtype)``, which would make complex numbers real."""
    return getattr(model, {"bf16": "bfloat16", "fp16": "half"}.get(precision, "float"))()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_as_built_nothing_is_cast(dtype):
    size = dtype.itemsize
    report = tg.analyze(nn.Linear(8, 8).to(dtype), (4, 8))
    assert report.scenario.precision is Precision.AS_BUILT
    assert report.totals.param_bytes == 72 * size
    assert report.inputs[0].tensor.dtype == str(dtype).removeprefix("torch.")


@pytest.mark.parametrize("precision", ["bf16-autocast", "fp16-autocast"])
@pytest.mark.parametrize("built", [torch.float32, torch.bfloat16, torch.float16])
def test_autocast_runs_over_float32_weights(precision, built):
    def model(dtype):
        return nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2)).to(dtype)

    found = report_of(model(built), (4, 8), precision)
    assert facts(found) == facts(report_of(model(torch.float32), (4, 8), precision))
    assert found.memory.parameter_bytes == 4 * found.totals.params
    assert found.outputs[0].tensor.dtype == ("bfloat16" if "bf16" in precision else "float16")


class Widened(nn.Module):
    """One layer in double precision between others, as solvers and losses have them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 2)
        self.middle = nn.Linear(8, 8).double()
        self.register_buffer("scale", torch.ones(8, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.middle(self.first(x).double()) * self.scale
        return self.last(y.float())


DOUBLES = {
    "linear": lambda: nn.Linear(8, 8).double(),
    "convolution": lambda: nn.Sequential(nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 4, 3)).double(),
    "norm": lambda: nn.LayerNorm(8).double(),
    "one layer": Widened,
    "script": lambda: torch.jit.script(nn.Linear(8, 8).double()),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is not supported:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("name", DOUBLES)
def test_autocast_leaves_double_precision_alone(name, mode):
    model = DOUBLES[name]()
    report = report_of(model, (4, 8), "bf16-autocast", mode)
    x = torch.ones(4, 8, dtype=next(model.parameters()).dtype)
    with torch.autocast("cpu", torch.bfloat16):
        real = model(x)
    assert report.outputs[0].tensor.dtype == str(real.dtype).removeprefix("torch.")
    sizes = sum(p.nbytes for p in model.parameters())
    assert report.memory.parameter_bytes == report.totals.param_bytes == sizes
    assert "parameters in float64 are not cast" in " ".join(report.assumptions)


def test_inputs_that_are_given_are_cast_but_for_autocast():
    x = torch.ones(4, 8, dtype=torch.float64)
    layer = nn.Linear(8, 8)

    def dtype(precision, data):
        report = report_of(layer, None, precision, "inference", input_data=data)
        return report.inputs[0].tensor.dtype

    assert [dtype(name, x) for name in CASTS] == ["float32", "float32", "bfloat16", "float16"]
    half = x.bfloat16()
    assert dtype("bf16-autocast", half) == "bfloat16"  # its linear casts both
    nested = report_of(Holder(), None, "bf16", "inference", input_data={"x": torch.ones(4, 8)})
    assert nested.inputs[0].tensor.dtype == "bfloat16"
    sized = tg.analyze(layer, (4, 8), dtypes=["float32"], scenario=tg.Scenario(precision="fp32"))
    assert sized.inputs[0].tensor.dtype == "float32"


SAME = r"must have the same dtype|bias type .* should be the same"


class Constant(nn.Module):
    """A tensor that is neither parameter nor buffer meets weights in its own dtype."""

    def __init__(self, layer: nn.Module, size: tuple[int, ...]) -> None:
        super().__init__()
        self.layer, self.constant = layer, torch.ones(size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x + self.constant)


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (nn.Linear(8, 8), (4, 8)), (nn.Linear(8, 8, bias=False), (4, 8)),
        (nn.Linear(8, 8), (2, 4, 8)), (nn.Conv1d(4, 4, 3), (2, 4, 8)),
        (nn.Conv2d(3, 4, 3, bias=False), (2, 3, 8, 8)), (nn.ConvTranspose1d(4, 4, 3), (2, 4, 8)),
    ],
)  # fmt: skip
def test_products_of_two_dtypes_fail_as_they_really_do(layer, size):
    """Meta kernels take them without a word."""
    model = Constant(layer, size)
    with pytest.raises(RuntimeError):
        Constant(layer, size).bfloat16()(torch.ones(size).bfloat16())
    layer.float()
    with pytest.raises(ModelError, match=SAME) as raised:
        tg.analyze(model, size, batch_size=None, scenario=tg.Scenario(precision="bf16"))
    assert raised.value.report.failure.path == "layer"
    assert "register it as a buffer" in raised.value.hint
    given = torch.ones(size)
    with pytest.raises(ModelError, match=SAME):
        tg.analyze(copy.deepcopy(layer).bfloat16(), input_data=given)
    assert tg.analyze(model, size, scenario=tg.Scenario(precision="fp32")).failure is None
    assert tg.analyze(model, size, scenario=tg.Scenario(precision="bf16-autocast")).failure is None


class Eight(nn.Module):
    """A weight in 8 bits beside its scale, as checkpoints in FP8 have it."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.ones(8, 8).to(torch.float8_e4m3fn)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.scale = nn.Parameter(torch.ones(8, 1))
        self.counts = nn.Parameter(torch.ones(8, dtype=torch.int8), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ (self.weight.to(x.dtype) * self.scale)


def test_quantized_parameters_are_not_cast_and_that_is_said():
    plain = tg.analyze(Eight(), (4, 8))
    assert "precision" not in " ".join(plain.assumptions)
    for precision, size in (("fp32", 4), ("bf16", 2)):
        report = tg.analyze(Eight(), (4, 8), scenario=tg.Scenario(precision=precision))
        assert report.totals.param_bytes == 64 + 8 + 8 * size
        said = f"precision {precision}: parameters in float8_e4m3fn, int8 are not cast"
        assert said in report.assumptions


def test_scripted_and_lazy_modules_are_cast():
    scripted = torch.jit.script(nn.Linear(8, 8))
    lazy = nn.LazyLinear(8)
    for model in (scripted, lazy):
        report = tg.analyze(model, (4, 8), scenario=tg.Scenario(precision="bf16"))
        assert report.totals.param_bytes == 2 * 72
        assert report.outputs[0].tensor.dtype == "bfloat16"
    assert scripted.weight.dtype is torch.float32


def test_a_measured_step_is_cast_too():
    half = nn.Sequential(nn.Linear(8, 8), nn.ReLU()).bfloat16()
    report = tg.measure(half, (4, 8), scenario=tg.Scenario(precision="fp32"), max_seconds=0.01)
    assert report.totals.param_bytes == 4 * 72
    assert report.outputs[0].tensor.dtype == "float32"
    built = tg.measure(half, (4, 8), max_seconds=0.01)
    assert built.totals.param_bytes == 2 * 72


# ---------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("model", "precision", "shown"),
    [
        (nn.Linear(8, 8), "as-built", "inference"),
        (nn.Linear(8, 8), "fp32", "inference · fp32"),
        (nn.Linear(8, 8).bfloat16(), "as-built", "inference · as built: bf16"),
        (nn.Linear(8, 8).half(), "bf16", "inference · bf16"),
        (nn.Linear(8, 8).double(), "as-built", "inference · as built: fp64"),
        (Mixed(), "as-built", "inference · as built: bf16 + fp32"),
        (Eight(), "as-built", "inference · as built: fp8 + fp32 + int8"),
        (nn.ReLU(), "as-built", "inference"),
    ],
)
def test_the_title_says_what_was_found(model, precision, shown):
    report = tg.analyze(model, (4, 8), scenario=tg.Scenario(precision=precision))
    assert " · ".join(report_page(report).title).endswith(f"B = 4 · {shown} · simulated")


def test_a_report_says_as_built_and_old_ones_are_read():
    report = tg.analyze(nn.Linear(8, 8), (4, 8))
    data = to_dict(report)
    assert data["scenario"]["precision"] == "as-built"
    assert report_from_dict(data) == report
    data["scenario"]["precision"] = "fp32"  # as version 0.1 wrote it
    assert report_from_dict(data).scenario.precision is Precision.FP32


@pytest.mark.parametrize(
    ("precision", "dtypes", "arithmetic", "half"),
    [
        ("as-built", ("float32",), "fp32", False),
        ("as-built", ("bfloat16",), "bf16", True),
        ("as-built", ("bfloat16", "float32"), "bf16", False),
        ("as-built", ("int8", "bfloat16"), "bf16", True),
        ("as-built", ("uint8",), "fp32", False),
        ("as-built", ("float8_e4m3fn",), "fp8", False),
        ("as-built", (), "fp32", False),
        ("tf32", ("float32",), "tf32", False),
        ("fp16", ("float16",), "fp16", True),
        ("bf16-autocast", ("float32",), "bf16", False),
    ],
)
def test_the_arithmetic_of_a_step(precision, dtypes, arithmetic, half):
    assert arithmetic_of(precision, dtypes) == arithmetic
    assert is_all_half(precision, dtypes) is half


def test_times_of_one_precision_compare():
    scenario = tg.Scenario(device="RTX 3090")
    predicted = tg.analyze(nn.Linear(64, 64).bfloat16(), (4, 64), scenario=scenario)
    named = replace(predicted, scenario=replace(scenario, precision="bf16"))
    assert dtypes_of(predicted) == ("bfloat16",)
    assert compare_times(predicted, named).total.ratio == 1
    with pytest.raises(UsageError, match="differ in the precision: bf16 and fp32"):
        compare_times(predicted, replace(predicted, scenario=replace(scenario, precision="fp32")))


# ---------------------------------------------------------------------------- on a GPU


def test_a_device_that_lacks_what_the_model_is_built_in():
    half = nn.Linear(64, 64).bfloat16()
    report = tg.fits(half, (4, 64), device="T4")
    assert report.parameter_dtypes == ("bfloat16",)
    assert [text for text in report.warnings if "T4 has no bf16 arithmetic" in text]
    assert tg.fits(nn.Linear(64, 64), (4, 64), device="T4").warnings == ()
    analyzed = tg.analyze(half, (4, 64), scenario=tg.Scenario(device="T4"))
    assert [text for text in analyzed.warnings if "T4 has no bf16 arithmetic" in text]


def test_what_would_take_less_depends_on_what_was_found():
    scenario = tg.Scenario(mode="training", optimizer="adamw")

    def names(dtype):
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)).to(dtype)
        report = tg.fits(model, (8, 64), device="RTX 4090", scenario=scenario, search=False)
        return {item.name for item in report.alternatives}

    assert {"autocast", "half precision"} <= names(torch.float32)
    assert not {"autocast", "half precision"} & names(torch.bfloat16)


def test_the_peak_rate_is_that_of_the_dtype():
    scenario = tg.Scenario(device="A100-SXM-80GB")

    def share(model, **changes):
        report = tg.analyze(model, (64, 512), scenario=replace(scenario, **changes))
        return report.time.total_ms, report.time.predicted.flops_share

    half = nn.Linear(512, 512).bfloat16()
    assert share(half) == share(nn.Linear(512, 512), precision="bf16")
    assert share(nn.Linear(512, 512)) == share(half, precision="fp32")


class Written(nn.Module):
    """Something is written into a tensor of another dtype."""

    def __init__(self, write: Any) -> None:
        super().__init__()
        self.write = write

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.write(x.bfloat16(), torch.tensor([0]), x)


@pytest.mark.parametrize(
    "write",
    [
        lambda into, at, x: into.index_add(0, at, x[:1]),
        lambda into, at, x: into.index_add_(0, at, x[:1]),
        lambda into, at, x: into.index_copy(0, at, x[:1]),
        lambda into, at, x: into.index_reduce(0, at, x[:1], "amax"),
        lambda into, at, x: into.index_put((at,), x[:1]),
        lambda into, at, x: into.put(at, x[0, :1]),
        lambda into, at, x: into.scatter(0, torch.zeros_like(x, dtype=torch.long), x),
    ],
)
def test_writing_in_another_dtype_fails_as_it_really_does(write):
    model, x = Written(write), torch.ones(6, 6)
    with pytest.raises(RuntimeError, match=r"dtype|scalar type"):
        model(x)
    with pytest.raises(ModelError, match="dtype"):
        tg.analyze(model, input_data=(x,), real_run=False)
    same = Written(lambda into, at, x: write(into, at, x.bfloat16()))
    assert tg.analyze(same, input_data=(x,), real_run=False).failure is None


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.LayerNorm(8), nn.GroupNorm(2, 4)])
@pytest.mark.parametrize("of_input", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("of_layer", ["float32", "bfloat16"])
def test_norms_of_two_dtypes_fail_where_they_really_do(layer, of_input, of_layer):
    layer = copy.deepcopy(layer).to(getattr(torch, of_layer))
    x = torch.ones(2, 4, 8, dtype=getattr(torch, of_input))
    try:
        layer(x)
    except RuntimeError as error:
        assert "mixed dtype" in str(error)
        with pytest.raises(ModelError, match="mixed dtype"):
            tg.analyze(layer, input_data=(x,), real_run=False)
    else:
        assert tg.analyze(layer, input_data=(x,), real_run=False).failure is None
