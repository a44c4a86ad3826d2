"""Normalisation, dropout, recurrent layers and autocast's lists on a CUDA device, by rule."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.torch_version import TorchVersion

import torchgauge as tg
from torchgauge.facts.trace import Execution, OpRecord, Phase, Role, TensorSpec, Trace
from torchgauge.request import Inputs
from torchgauge.trace.inputs.plan import plan_inputs
from torchgauge.trace.kernels import cuda
from torchgauge.trace.kernels.autocast_lists import Policy, policies_of
from torchgauge.trace.run.run_plan import RunPlan
from torchgauge.trace.run.session import Session

IMAGE = (2, 8, 6, 6)


def trace(
    model: nn.Module, size: Any, release: str = "2.13", inputs: Any = None, **scenario: Any
) -> Trace:
    """Return the simulated run of a model on an A100."""
    plan = plan_inputs(model, Inputs(size=size, data=inputs))
    request = RunPlan(
        model=model, plan=plan, scenario=tg.Scenario(**scenario), model_name="model",
        target=cuda.virtual_device((8, 0), release),
    )  # fmt: skip
    outcome = Session(request, Execution.SIMULATED).run()
    if outcome.error is not None:
        raise outcome.error
    return outcome.trace


def ops(found: Trace, part: str) -> list[OpRecord]:
    return [op for op in found.ops if part in op.name]


def spec(value: Any) -> TensorSpec:
    assert isinstance(value, TensorSpec)
    return value


# ------------------------------------------------------------------ batch normalisation


def normalisation(found: Trace) -> str:
    (op,) = [op for op in ops(found, "batch_norm") if "backward" not in op.name]
    return op.name.split(".")[1].removesuffix("_batch_norm")


class Half(nn.Module):
    """A convolution in half precision before a normalisation in float32."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(8, 8, 1)
        self.norm = nn.BatchNorm2d(8)
        self.dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.convolution(x).to(self.dtype))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("model", "size", "scenario", "expected"),
    [
        (nn.BatchNorm2d(8), IMAGE, {}, "cudnn"),
        (nn.BatchNorm2d(8), IMAGE, {"mode": "training"}, "cudnn"),
        (nn.BatchNorm1d(8), (4, 8), {}, "native"),  # input.dim() >= 3
        (nn.BatchNorm1d(8), (4, 8, 5), {}, "cudnn"),
        (nn.BatchNorm3d(8), (2, 8, 3, 3, 3), {}, "cudnn"),
        (nn.BatchNorm2d(8, affine=False), IMAGE, {}, "native"),  # weight.defined()
        (nn.BatchNorm2d(8, track_running_stats=False), IMAGE, {"mode": "training"}, "cudnn"),
        (nn.BatchNorm2d(8), IMAGE, {"precision": "bf16"}, "native"),  # kBFloat16
        (nn.BatchNorm2d(8), IMAGE, {"precision": "fp16"}, "native"),  # weight in kHalf
        (Half(torch.float16), IMAGE, {}, "cudnn"),  # input in kHalf, weight in kFloat
        (Half(torch.bfloat16), IMAGE, {}, "native"),
        (nn.BatchNorm2d(1), (65_536, 1, 1, 1), {}, "native"),  # sym_size(0) <= 65535
        (nn.BatchNorm2d(1), (65_536, 1, 1, 1), {"mode": "training"}, "cudnn"),
        (nn.BatchNorm2d(1), (880_802, 1, 1, 1), {"mode": "training"}, "native"),
        (nn.BatchNorm2d(64), (512, 64, 256, 256), {}, "native"),  # sym_numel() < 2^31 - 1
    ],
)
def test_the_choice_of_batch_normalisation(
    model: nn.Module, size: tuple[int, ...], scenario: dict[str, Any], expected: str
) -> None:
    assert normalisation(trace(model, size, **scenario)) == expected


def test_batch_normalisation_keeps_channels_last() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
    found = trace(model, IMAGE, channels_last=True, mode="training")
    assert not [op for op in ops(found, "aten.clone") if op.phase is Phase.FORWARD]
    (norm,) = ops(found, "aten.cudnn_batch_norm.default")
    assert spec(norm.outputs[0]).shape == IMAGE
    assert [spec(output).shape for output in norm.outputs[1:3]] == [(8,), (8,)]


def test_statistics_of_half_precision_are_in_float32() -> None:
    native = ops(trace(nn.BatchNorm2d(8), IMAGE, mode="training", precision="bf16"), "native_b")[0]
    assert {spec(output).dtype for output in native.outputs[1:3]} == {"float32"}
    layer = ops(trace(nn.LayerNorm(16), (2, 16), precision="fp16"), "native_layer_norm")[0]
    assert [spec(output).dtype for output in layer.outputs] == ["float16", "float32", "float32"]
    assert spec(layer.outputs[1]).shape == (2, 1)


def test_no_samples() -> None:
    found = trace(nn.BatchNorm2d(8), None, inputs=torch.zeros(0, 8, 4, 4))
    assert not ops(found, "batch_norm") and ops(found, "aten.clone")


# ------------------------------------------------------------------ root mean square


@pytest.mark.parametrize(
    ("release", "scenario", "dtype"),
    [
        ("2.13", {}, "float32"), ("2.9", {}, "float32"),
        ("2.13", {"precision": "bf16"}, "bfloat16"),
        ("2.13", {"precision": "bf16-autocast"}, "float32"),
        ("2.11", {"precision": "bf16-autocast"}, ""),  # a float32 weight meets bfloat16
        ("2.8", {}, ""), ("2.6", {"precision": "bf16"}, ""),
    ],
)  # fmt: skip
@pytest.mark.skipif(TorchVersion(torch.__version__) < "2.9", reason="has no such operator")
def test_rms_norm_is_one_kernel_from_2_9_on(
    release: str, scenario: dict[str, Any], dtype: str
) -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.RMSNorm(16))
    found = trace(model, (4, 16), release, mode="training", **scenario)
    fused = ops(found, "aten._fused_rms_norm.default")
    assert [spec(output).dtype for op in fused for output in op.outputs] == (
        [dtype, "float32"] if dtype else []
    )
    assert bool(ops(found, "aten.rsqrt")) == (not dtype)
    assert len(ops(found, "_fused_rms_norm_backward")) == len(fused)
    if dtype:
        assert [spec(output).shape for output in fused[0].outputs] == [(4, 16), (4, 1)]
        gradients = {s.label: s.nbytes for s in found.storages if s.role is Role.GRADIENT}
        assert gradients["1.weight"] == 16 * (2 if scenario == {"precision": "bf16"} else 4)


def test_rms_norm_in_an_inference_and_on_the_cpu() -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.RMSNorm(16))
    if TorchVersion(torch.__version__) >= "2.9":
        assert ops(trace(model, (4, 16)), "aten._fused_rms_norm.default")
    report = tg.analyze(model, (4, 16))
    assert report.failure is None
    meta = nn.RMSNorm(4, device="meta")  # outside of an analysis nothing has changed
    assert meta(torch.ones(2, 4, device="meta")).shape == (2, 4)


# ------------------------------------------------------------------ softmax


@pytest.mark.parametrize("kind", ["softmax", "log_softmax"])
@pytest.mark.parametrize(
    ("precision", "dtype", "copied"),
    [("fp16-autocast", "float16", False), ("bf16-autocast", "bfloat16", True)],
)
def test_a_softmax_of_float16_needs_no_copy(
    kind: str, precision: str, dtype: str, copied: bool
) -> None:
    layer: nn.Module = nn.Softmax(-1) if kind == "softmax" else nn.LogSoftmax(-1)
    found = trace(
        nn.Sequential(nn.Linear(16, 32), layer), (4, 16), mode="training", precision=precision
    )
    (forward,) = ops(found, f"aten._{kind}.default")
    (backward,) = ops(found, f"aten._{kind}_backward_data")
    assert spec(forward.outputs[0]).dtype == "float32"
    assert spec(forward.args[0]).dtype == ("float32" if copied else dtype)
    assert forward.args[2] is not copied
    assert spec(backward.outputs[0]).dtype == ("float32" if copied else dtype)


def test_a_softmax_in_the_dtype_that_is_asked_for() -> None:
    class Asking(nn.Module):
        def __init__(self, dtype: torch.dtype | None) -> None:
            super().__init__()
            self.linear, self.dtype = nn.Linear(16, 16), dtype

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.softmax(self.linear(x), dim=-1, dtype=self.dtype)

    for dtype in (None, torch.float32, torch.float64):
        found = trace(Asking(dtype), (4, 16), precision="fp16")
        expected = str(dtype or torch.float16).removeprefix("torch.")
        assert spec(found.outputs[0].tensor).dtype == expected
        casts = [op for op in ops(found, "aten._to_copy") if op.call > 0 or dtype is not None]
        assert len(casts) == (dtype is torch.float64)


# ------------------------------------------------------------------ dropout


def test_fused_dropout_keeps_a_mask_of_one_byte() -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.1), nn.Linear(16, 4))
    found = trace(model, (8, 16), mode="training")
    (dropout,) = ops(found, "aten.native_dropout.default")
    output, mask = map(spec, dropout.outputs)
    assert (output.nbytes, mask.nbytes, mask.dtype) == (8 * 16 * 4, 8 * 16, "bool")
    kept = [s for s in found.storages if s.op == dropout.index]
    assert [s.role for s in kept] == [Role.SAVED_ACTIVATION] * 2


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_dropout_that_needs_no_mask(p: float) -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.Dropout(p))
    found = trace(model, (8, 16), mode="training")
    assert not ops(found, "dropout")
    assert len(ops(found, "aten.mul.Tensor")) == (2 if p else 0)  # forward and backward


def test_dropout_in_place_makes_noise_as_wide_as_its_input() -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.5, inplace=True))
    found = trace(model, (8, 16), mode="training")
    names = [op.name for op in found.ops if op.phase is Phase.FORWARD][2:]
    assert names == [
        "aten.empty_like.default", "aten.bernoulli_.float", "aten.div_.Tensor", "aten.mul_.Tensor",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "noise"),
    [(nn.Dropout2d(0.5), (2, 8, 1, 1)), (nn.AlphaDropout(0.5), IMAGE),
     (nn.FeatureAlphaDropout(0.5), (2, 8, 1, 1))],
)  # fmt: skip
def test_other_kinds_of_dropout_are_not_fused(model: nn.Module, noise: tuple[int, ...]) -> None:
    found = trace(nn.Sequential(nn.Conv2d(8, 8, 1), model), IMAGE, mode="training")
    assert not ops(found, "native_dropout")
    (bernoulli,) = ops(found, "aten.bernoulli_.float")
    assert spec(bernoulli.outputs[0]).shape == noise


# ------------------------------------------------------------------ recurrent layers

LAYERS = {
    "rnn": (nn.RNN(8, 16), 1), "relu": (nn.RNN(8, 16, nonlinearity="relu"), 1),
    "gru": (nn.GRU(8, 16, 2), 2), "lstm": (nn.LSTM(8, 16, 2, batch_first=True), 2),
    "both": (nn.GRU(8, 16, bidirectional=True, bias=False), 2),
    "projected": (nn.LSTM(8, 16, proj_size=4), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_recurrent_layers_are_one_kernel(name: str) -> None:
    layer, states = LAYERS[name]
    found = trace(layer, (2, 7, 8), mode="training")
    (forward,) = ops(found, "aten._cudnn_rnn.default")
    (backward,) = ops(found, "aten._cudnn_rnn_backward.default")
    width = (layer.proj_size or 16) * (2 if layer.bidirectional else 1)
    assert spec(forward.outputs[0]).shape == (2, 7, width)
    batch = 2 if layer.batch_first else 7
    assert spec(forward.outputs[1]).shape == (states, batch, layer.proj_size or 16)
    gradients = {s.label: s.nbytes for s in found.storages if s.role is Role.GRADIENT and s.op >= 0}
    assert gradients == {n: p.numel() * 4 for n, p in layer.named_parameters()}
    cpu = tg.analyze(layer, (2, 7, 8), scenario=tg.Scenario(mode="training"))
    gpu = tg.analyze(
        layer, (2, 7, 8), scenario=tg.Scenario(mode="training", device="A100-SXM-80GB")
    )
    assert gpu.totals.forward_macs == cpu.totals.forward_macs > 0
    assert gpu.not_counted == ()
    assert backward.phase is Phase.BACKWARD


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_the_shapes_of_cudnn_are_those_of_the_real_layers() -> None:
    """What the kernel gives back has the shapes and dtypes that the layer really returns."""
    for layer, _ in LAYERS.values():
        found = trace(layer, (2, 7, 8))
        real = layer(torch.zeros(2, 7, 8))
        states = real[1] if isinstance(real[1], tuple) else (real[1],)
        outputs = ops(found, "aten._cudnn_rnn.default")[0].outputs
        shapes = [tuple(tensor.shape) for tensor in (real[0], *states)]
        assert [spec(output).shape for output in outputs][: len(shapes)] == shapes


def test_the_reserve_is_there_in_training_only() -> None:
    layer = nn.LSTM(8, 16)
    trained = ops(trace(layer, (7, 2, 8), mode="training"), "_cudnn_rnn.default")[0]
    assert spec(trained.outputs[3]).nbytes == 6 * 7 * 2 * 16 * 4
    inferred = ops(trace(layer, (7, 2, 8)), "_cudnn_rnn.default")[0]
    assert spec(inferred.outputs[3]).nbytes == 0


class Packed(nn.Module):
    """An LSTM over sequences of 5 and 3 steps."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 16, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lengths = torch.tensor([5, 3])
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        output, _ = self.lstm(packed)
        return nn.utils.rnn.pad_packed_sequence(output, batch_first=True)[0]  # type: ignore[no-any-return]


def test_packed_sequences() -> None:
    found = trace(Packed(), (2, 5, 8), mode="training")
    (forward,) = ops(found, "aten._cudnn_rnn.default")
    assert spec(forward.outputs[0]).shape == (8, 16)
    assert spec(found.outputs[0].tensor).shape == (2, 5, 16)


def test_recurrent_layers_compute_in_float16_under_any_autocast() -> None:
    """``AutocastRNN.cpp`` casts to ``kHalf``, and the weights anew."""
    found = trace(nn.LSTM(8, 16), (7, 2, 8), precision="bf16-autocast", mode="training")
    (forward,) = ops(found, "aten._cudnn_rnn.default")
    assert spec(forward.outputs[0]).dtype == "float16"
    weights = forward.args[1]
    assert isinstance(weights, tuple) and {spec(w).dtype for w in weights} == {"float16"}


class Steps(nn.Module):
    """Two steps of a cell."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = self.cell(x)
        state = self.cell(x, state)
        return state[0] if isinstance(state, tuple) else state


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("cell", "kernel", "kept"),
    [(nn.LSTMCell, "_thnn_fused_lstm_cell", 4), (nn.GRUCell, "_thnn_fused_gru_cell", 5)],
)
def test_single_steps_are_fused(cell: Any, kernel: str, kept: int, bias: bool) -> None:
    model = Steps(cell(8, 16, bias=bias))
    found = trace(model, (3, 8), mode="training")
    steps = ops(found, f"aten.{kernel}.default")
    assert len(steps) == 2
    assert spec(steps[0].outputs[-1]).shape == (3, kept * 16)
    assert len(ops(found, f"aten.{kernel}_backward")) == 2
    gradients = {s.label: s.nbytes for s in found.storages if s.role is Role.GRADIENT and s.label}
    assert gradients == {n: p.numel() * 4 for n, p in model.named_parameters()}
    scenario = {"mode": "training", "optimizer": "adamw"}
    cpu = tg.analyze(model, (3, 8), scenario=tg.Scenario(**scenario))
    gpu = tg.analyze(model, (3, 8), scenario=tg.Scenario(**scenario, device="A100-SXM-80GB"))
    assert gpu.totals.forward_macs == cpu.totals.forward_macs
    assert gpu.not_counted == ()


# ------------------------------------------------------------------ autocast's lists

_HEADER = Path(torch.__file__).parent / "include/ATen/autocast_mode.h"
_MACROS = {
    "LOWER_PRECISION_FP": Policy.LOWER, "FP32": Policy.FLOAT32,
    "FP32_SET_OPT_DTYPE": Policy.FLOAT32_OUTPUT, "PROMOTE": Policy.PROMOTE,
}  # fmt: skip
_ELSEWHERE = {Policy.FLOAT16, Policy.FLOAT32_APPENDED, Policy.BANNED}
"""Registered by hand in C++ files."""


def test_the_lists_of_cuda_are_those_of_the_installed_release() -> None:
    text = _HEADER.read_text(encoding="utf-8")
    declared: dict[str, Policy] = {}
    for macro in re.finditer(r"#define AT_FORALL_(\w+)\(_\)((?:.*\\\n)+.*)", text):
        if macro[1] in _MACROS:
            for name, overload in re.findall(r"_\((\w+)(?:, (\w+))?\)", macro[2]):
                declared[f"{name}.{overload or 'default'}"] = _MACROS[macro[1]]
    # Up to 2.6 with those that name a dimension; they call the others, which are on the list.
    declared = {n: policy for n, policy in declared.items() if "dimname" not in n.lower()}
    assert len(declared) > 90
    ours = policies_of("cuda", torch.__version__)
    assert {n: p for n, p in ours.items() if p not in _ELSEWHERE} == declared
    norms = {n for n in re.findall(r'"(norm\.\w+)"', text) if "names" not in n}
    assert {n for n, p in ours.items() if p is Policy.FLOAT32_APPENDED} == norms


def test_the_list_of_the_cpu_is_what_the_installed_release_registers() -> None:
    """With the CPU's lists, built into its library; those that name a dimension call others."""
    registered = torch._C._dispatch_get_registrations_for_dispatch_key("AutocastCPU")
    names = {
        name.removeprefix("aten::") for name in registered
        if name.startswith("aten::") and "dimname" not in name.lower()
    }  # fmt: skip
    ours = policies_of("cpu", torch.__version__)
    assert {name.removesuffix(".default") for name in ours} == names


@pytest.mark.parametrize(
    "call",
    [
        lambda x: nn.functional.adaptive_max_pool3d(x, 2),
        lambda x: nn.functional.fractional_max_pool2d(x[0], 2, output_size=2),
        lambda x: nn.functional.smooth_l1_loss(x, x),
        lambda x: torch.linalg.svdvals(x),
        lambda x: torch.linalg.qr(x)[0],
        lambda x: torch._addmm_activation(x[0, 0, 0, 0], x[0, 0, 0], x[0, 0, 0]),
    ],
    ids=["pool of volumes", "fractional pool", "smooth L1", "singular values", "QR", "activation"],
)
def test_the_cpu_casts_as_a_real_run_does(call: Callable[[torch.Tensor], torch.Tensor]) -> None:
    class Casts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return call(self.linear(x))

    model, x = Casts().eval(), torch.rand(2, 3, 4, 4, 4)
    with torch.no_grad():
        real = model(x)
    found = tg.analyze(model, input_data=x).modules[""].calls[0].outputs[0].tensor
    assert found is not None
    assert found.dtype == str(real.dtype).removeprefix("torch.")


def test_every_listed_operator_exists() -> None:
    for name in {**policies_of("cpu", torch.__version__), **policies_of("cuda", torch.__version__)}:
        base, overload = name.split(".")
        assert hasattr(torch.ops.aten, base), name
        assert overload in getattr(torch.ops.aten, base).overloads(), name


@pytest.mark.parametrize(("release", "dtype"), [("2.11", "bfloat16"), ("2.12", "float32")])
def test_rms_norm_is_listed_from_2_12_on(release: str, dtype: str) -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.RMSNorm(16, elementwise_affine=False))
    found = trace(model, (2, 16), release, precision="bf16-autocast")
    assert spec(found.outputs[0].tensor).dtype == dtype


def test_a_norm_is_taken_in_float32() -> None:
    class Norm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(16, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.linear(x)
            return torch.ops.aten.norm.ScalarOpt_dim(y, 2, [1]) + torch.ops.aten.norm.Scalar(y)  # type: ignore[no-any-return]

    found = trace(Norm(), (2, 16), precision="fp16-autocast")
    assert spec(found.outputs[0].tensor).dtype == "float32"


def test_binary_cross_entropy_is_refused_on_cuda_alone() -> None:
    class Scored(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(16, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.linear(x).sigmoid()
            return functional.binary_cross_entropy(y, torch.zeros_like(y))

    with pytest.raises(RuntimeError, match="unsafe to autocast"):
        trace(Scored(), (2, 16), precision="fp16-autocast")
    assert trace(Scored(), (2, 16)).outputs
    report = tg.analyze(Scored(), (2, 16), scenario=tg.Scenario(precision="bf16-autocast"))
    assert report.failure is None


def test_sizes_of_the_models_outputs() -> None:
    found = trace(nn.Linear(16, 4), (2, 16), precision="bf16-autocast")
    assert spec(found.outputs[0].tensor).nbytes == 2 * prod((2, 4))
