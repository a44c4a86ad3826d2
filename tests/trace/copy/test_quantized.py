"""Quantized models of torch.ao: what is packed is counted, stored and in the memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.ao import quantization as ao
from torch.ao.quantization import quantize_fx

import torchgauge as tg
from real_memory import real_peak
from torchgauge.errors import ModelError
from torchgauge.trace.run import runs as running

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
    pytest.mark.skipif(
        "x86" not in torch.backends.quantized.supported_engines,
        reason="the scales per channel are those of the x86 engine",
    ),
]
DYNAMIC = {
    **ao.get_default_static_quant_module_mappings(),
    **ao.get_default_dynamic_quant_module_mappings(),
}


def dynamic(model: nn.Module, kinds: Any, dtype: torch.dtype = torch.qint8) -> nn.Module:
    made: nn.Module = ao.quantize_dynamic(model.eval(), kinds, dtype=dtype)
    return made


class Static(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.quantize, self.body, self.dequantize = ao.QuantStub(), body, ao.DeQuantStub()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dequantize(self.body(self.quantize(x)))  # type: ignore[no-any-return]


def static(body: nn.Module, x: torch.Tensor, fuse: Any = None) -> nn.Module:
    model = Static(body).eval()
    if fuse is not None:
        ao.fuse_modules(model, fuse, inplace=True)
    model.qconfig = ao.get_default_qconfig("x86")  # type: ignore[assignment]
    ao.prepare(model, inplace=True)
    model(x)
    ao.convert(model, inplace=True)
    return model


def by_graph(model: nn.Module, x: torch.Tensor) -> nn.Module:
    prepared = quantize_fx.prepare_fx(model.eval(), ao.get_default_qconfig_mapping("x86"), (x,))
    prepared(x)
    return quantize_fx.convert_fx(prepared)


class Recurrent(nn.Module):
    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer, self.linear = layer, nn.Linear(width, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.layer(x)[0])  # type: ignore[no-any-return]


def embedding(layer: nn.Module, bits: int) -> nn.Module:
    model = nn.Sequential(layer).eval()
    of = {8: ao.float_qparams_weight_only_qconfig, 4: ao.float_qparams_weight_only_qconfig_4bit}
    layer.qconfig = of[bits]
    ao.prepare(model, inplace=True)
    ao.convert(model, inplace=True, mapping=DYNAMIC)
    return model


def channels(count: int) -> int:
    """Bytes of the scales (float64) and zero points (int64) of a weight per channel."""
    return 16 * count


def linear() -> nn.Module:
    return nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 64))


IMAGES = torch.ones(2, 8, 16, 16)
ROWS = torch.ones(4, 256)
SEQUENCE = torch.ones(4, 10, 32)
IDS = torch.zeros(4, 10, dtype=torch.int64)
LINEAR_MACS = 4 * (256 * 512 + 512 * 64)
LINEAR_PARAMS = 256 * 512 + 512 + 512 * 64 + 64
LINEAR_BYTES = 256 * 512 + 512 * 64 + 4 * (512 + 64)
LSTM, GRU = 4 * 64 * 96, 3 * 64 * 96
HEAD_BYTES = 64 * 8 + 4 * 8
Case = tuple[Callable[[], nn.Module], torch.Tensor, int, int, int]
CASES: dict[str, Case] = {
    # model, input, MACs, parameters, stored bytes
    "dynamic": (
        lambda: dynamic(linear(), {nn.Linear}), ROWS, LINEAR_MACS, LINEAR_PARAMS, LINEAR_BYTES,
    ),
    "dynamic per channel": (
        lambda: dynamic(linear(), {nn.Linear: ao.per_channel_dynamic_qconfig}),
        ROWS, LINEAR_MACS, LINEAR_PARAMS, LINEAR_BYTES + channels(512 + 64),
    ),
    "dynamic half": (
        lambda: dynamic(linear(), {nn.Linear}, torch.float16),
        ROWS, LINEAR_MACS, LINEAR_PARAMS, 2 * (256 * 512 + 512 * 64) + 4 * (512 + 64),
    ),
    "static": (
        lambda: static(linear(), ROWS),
        ROWS, LINEAR_MACS, LINEAR_PARAMS, LINEAR_BYTES + channels(512 + 64),
    ),
    "fused linear": (
        lambda: static(linear(), ROWS, [["body.0", "body.1"]]),
        ROWS, LINEAR_MACS, LINEAR_PARAMS, LINEAR_BYTES + channels(512 + 64),
    ),
    "convolutions": (
        lambda: static(
            nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
                          nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, groups=2, bias=False)),
            IMAGES, [["body.0", "body.1", "body.2"]],
        ),
        IMAGES, 2 * (256 * 16 * 72 + 36 * 32 * 72), 16 * 72 + 16 + 32 * 72,
        16 * 72 + 4 * 16 + 32 * 72 + channels(48),
    ),
    "convolution 1d": (
        lambda: static(nn.Sequential(nn.Conv1d(8, 16, 3)), torch.ones(2, 8, 16)),
        torch.ones(2, 8, 16), 2 * 14 * 16 * 24, 16 * 24 + 16, 16 * 24 + 64 + channels(16),
    ),
    "convolution 3d": (
        lambda: static(nn.Sequential(nn.Conv3d(4, 8, 3)), torch.ones(1, 4, 5, 5, 5)),
        torch.ones(1, 4, 5, 5, 5), 27 * 8 * 4 * 27, 8 * 108 + 8, 8 * 108 + 32 + channels(8),
    ),
    "graph": (
        lambda: by_graph(
            nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                          nn.Flatten(), nn.Linear(16, 4)), IMAGES,
        ),
        IMAGES, 2 * (256 * 16 * 72 + 64), 16 * 72 + 16 + 68,
        16 * 72 + 64 + 64 + 16 + channels(16 + 4),
    ),
    "lstm": (
        lambda: dynamic(Recurrent(nn.LSTM(32, 64, batch_first=True), 64), {nn.LSTM, nn.Linear}),
        SEQUENCE, 40 * (LSTM + 64 * 8), LSTM + 512 + 520, LSTM + 4 * 512 + HEAD_BYTES,
    ),
    "gru": (
        lambda: dynamic(Recurrent(nn.GRU(32, 64, batch_first=True), 64), {nn.GRU, nn.Linear}),
        SEQUENCE, 40 * (GRU + 64 * 8), GRU + 384 + 520, GRU + 4 * 384 + HEAD_BYTES,
    ),
    "cell": (
        lambda: dynamic(Recurrent(nn.LSTMCell(32, 64), 64), {nn.LSTMCell, nn.Linear}),
        torch.ones(4, 32), 4 * (LSTM + 64 * 8), LSTM + 512 + 520, LSTM + 4 * 512 + HEAD_BYTES,
    ),
    "embedding": (
        lambda: embedding(nn.Embedding(100, 64), 8), IDS, 0, 6400, 100 * (64 + 8),
    ),
    "bag of 4 bits": (
        lambda: embedding(nn.EmbeddingBag(100, 64, mode="sum"), 4), IDS, 0, 6400, 100 * (32 + 4),
    ),
}  # fmt: skip
FLOAT_BETWEEN = ("dynamic", "dynamic half", "lstm", "gru", "cell", "embedding", "bag of 4 bits")


@pytest.mark.parametrize("name", CASES)
def test_packed_weights_are_in_every_figure(name: str) -> None:
    build, x, macs, params, stored = CASES[name]
    model = build()
    report = tg.analyze(model, input_data=x)
    assert report.memory is not None and report.execution == "real" and not report.not_counted
    assert (report.totals.forward_macs, report.totals.params) == (macs, params)
    assert report.totals.param_bytes == report.memory.parameter_bytes == stored
    assert report.memory.at_peak["parameter"] == stored
    plain = sum(t.nbytes for m in model.modules() for t in vars(m).values() if _is_bias(t))
    # The walk finds no packed object, and finds the biases that a cell also keeps as tensors.
    real = real_peak(model, x) + stored - plain
    assert report.memory.peak_allocated_bytes == real


def _is_bias(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() == 1


@pytest.fixture
def never_for_real(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(running, "_run_packed", lambda *_: None)
        patch.setattr(running, "allowed_bytes", lambda: 0)
        yield


@pytest.mark.usefixtures("never_for_real")
@pytest.mark.parametrize("name", FLOAT_BETWEEN)
def test_what_cannot_be_run_is_simulated_where_tensors_between_are_plain(name: str) -> None:
    build, x, macs, _, stored = CASES[name]
    model = build()
    report = tg.analyze(model, input_data=x)
    assert report.execution == "simulated" and report.totals.forward_macs == macs
    assert report.memory is not None and report.memory.parameter_bytes == stored
    with torch.no_grad():
        output = model(x)
    assert report.outputs[0].tensor is not None
    assert report.outputs[0].tensor.shape == tuple(output.shape)
    assert any("take for themselves" in text for text in report.assumptions)


@pytest.mark.usefixtures("never_for_real")
def test_static_layers_that_cannot_be_run_say_why() -> None:
    with pytest.raises(ModelError, match=r"run on real tensors only \(a meta tensor has no scale"):
        tg.analyze(CASES["convolutions"][0](), input_data=IMAGES)


def test_layers_that_share_their_packed_weights_count_once() -> None:
    layer = dynamic(nn.Sequential(nn.Linear(16, 16)), {nn.Linear})[0]
    report = tg.analyze(nn.Sequential(layer, nn.ReLU(), layer), (4, 16))
    assert report.memory is not None
    assert report.totals.param_bytes == report.memory.parameter_bytes == 256 + 64
    assert report.totals.forward_macs == 2 * 4 * 256


def test_a_scripted_quantized_model_has_the_same_bytes() -> None:
    build, x, _, params, stored = CASES["convolutions"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numbers become constants of the trace
        traced = torch.jit.trace(build(), x)
    report = tg.analyze(traced, input_data=x)
    assert report.memory is not None
    assert report.totals.params == params
    assert report.totals.param_bytes == report.memory.parameter_bytes == stored


def test_the_structure_alone_has_the_same_figures() -> None:
    build, _, _, params, stored = CASES["lstm"]
    totals = tg.analyze(build()).totals
    assert (totals.params, totals.param_bytes) == (params, stored)


def test_largest_batch_of_a_quantized_model_is_found() -> None:
    model = dynamic(linear(), {nn.Linear})
    answer = tg.fits(model, (8, 256), device="T4")
    assert answer.largest_batch is not None and answer.largest_batch.runs > 8


def test_the_assumptions_name_the_dequantization() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = " ".join(tg.analyze(CASES["dynamic"][0](), (4, 256)).assumptions)
    assert "a product is one MAC at any width" in text and "dequantizing" in text
    assert "what a backend also keeps" in text


@pytest.mark.parametrize("integer", [torch.int8, torch.uint8, torch.int32])
def test_a_scale_times_integers_casts_them_on_the_cpu(integer: torch.dtype) -> None:
    class Dequantize(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("q", torch.ones(64, 64, dtype=integer))
            self.register_buffer("scale", torch.ones(64, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ (self.q * self.scale)

    model = Dequantize()
    report = tg.analyze(model, (4, 64))
    assert report.memory is not None
    assert report.memory.peak_allocated_bytes == real_peak(model, torch.randn(4, 64))


_GUARDS = 80
"""Bytes around a block of ``DefaultMobileCPUAllocator``, which is QNNPACK's."""


@pytest.mark.skipif(
    "qnnpack" not in torch.backends.quantized.supported_engines, reason="built without QNNPACK"
)
@pytest.mark.parametrize("rows", [4, 32])
def test_the_input_that_qnnpack_quantizes_is_in_the_peak(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The profiler hears of its allocation alone, so the truth is the sum of what is there."""
    monkeypatch.setattr(torch.backends.quantized, "engine", "qnnpack")
    model, x = dynamic(nn.Sequential(nn.Linear(256, 512)), {nn.Linear}), torch.rand(rows, 256)
    report = tg.analyze(model, input_data=x)
    assert report.memory is not None
    stored = 256 * 512 + 4 * 512
    there = stored + 4 * rows * (256 + 512) + rows * 256 + _GUARDS
    assert report.memory.peak_allocated_bytes == there
