"""The virtual CUDA device: which kernels it runs, what they return, and what they cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.torch_version import TorchVersion

import torchgauge as tg
from small_models import MODELS, Language, Packed, dtypes_of, mlp, streams, trace
from torchgauge.compare.streams import DifferenceKind
from torchgauge.facts.scenario import OPTIMIZERS
from torchgauge.facts.trace import OpRecord, Role, Trace
from torchgauge.trace.kernels.cuda_attention import AttentionBackend, AttentionCase, choose

A100 = "A100-SXM-40GB"
PRECISIONS = ("fp32", "bf16", "fp16", "bf16-autocast", "fp16-autocast")


# ---------------------------------------------------------------------------- FLOPs


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("name", MODELS)
def test_all_is_counted_and_the_products_are_those_of_the_cpu(name: str, mode: str) -> None:
    build, size = MODELS[name]
    model, optimizer = build(), "adamw" if mode == "training" else None

    def totals(device: str, precision: str) -> Any:
        scenario = tg.Scenario(mode=mode, device=device, precision=precision, optimizer=optimizer)
        report = tg.analyze(model, size, dtypes=dtypes_of(name), scenario=scenario)
        assert report.not_counted == (), (device, precision)
        return report.totals

    cpu = totals("cpu", "fp32")
    for precision in PRECISIONS:
        found = totals(A100, precision)
        assert found.forward_macs == cpu.forward_macs, precision
        assert found.optimizer_flops == 0
        assert (found.backward_flops > 0) == (mode == "training")
        if name in ("mlp", "cnn", "volumes", "upsampling"):  # the others run fused kernels
            # Norms in evaluation, dropout in one kernel and the scaled loss differ a little.
            assert found.elementwise_flops == pytest.approx(cpu.elementwise_flops, rel=0.35)


@pytest.mark.parametrize("name", ["lstm", "projected", "gru", "rnn", "packed"])
def test_the_backward_of_recurrent_layers_is_twice_the_forward(name: str) -> None:
    build, size = MODELS[name]
    scenario = tg.Scenario(mode="training", device=A100)
    found = tg.analyze(build(), size, scenario=scenario).totals
    assert found.backward_flops == 2 * found.forward_flops


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "none"])
def test_every_optimizer_is_counted(optimizer: str) -> None:
    scenario = tg.Scenario(mode="training", device=A100, optimizer=optimizer)
    report = tg.analyze(mlp(), (8, 16), scenario=scenario)
    assert report.not_counted == ()
    # Adafactor multiplies its factors of rows and columns.
    assert (report.totals.optimizer_flops > 0) == (optimizer == "adafactor")


@pytest.mark.parametrize("optimizer", ["sgd", "sgd-momentum", "adam", "adamw", "adagrad"])
def test_every_fused_optimizer_is_counted(optimizer: str) -> None:
    scenario = tg.Scenario(
        mode="training", device=A100, optimizer=optimizer, optimizer_implementation="fused",
        precision="fp16-autocast", gradient_clipping=True, ema=True,
    )  # fmt: skip
    report = tg.analyze(mlp(), (8, 16), scenario=scenario)
    assert report.not_counted == ()
    kernel = "_fused_" + optimizer.partition("-")[0]
    assert any(kernel in op.name for op in ops(mlp(), (8, 16), scenario))


def ops(model: nn.Module, size: Any, scenario: tg.Scenario) -> tuple[OpRecord, ...]:
    return trace(model, size, scenario).ops


# ---------------------------------------------------------------------------- optimizers

STEP_BY_TENSOR = {
    (DifferenceKind.MISSING, "aten._foreach_add_.Tensor"),
    (DifferenceKind.KERNEL, "aten.lift_fresh.default"),
}
"""Optimizers that count their steps on the CPU add a tensor of one to them there, and a number
elsewhere; on CUDA the steps, and with them that tensor, lie beside the device."""
ASSIGNED_NUMBER = {(DifferenceKind.KERNEL, "aten.lift_fresh.default")}
"""Rprop assigns numbers where a mask says so, for which Python's indexing makes a tensor: in
another way on the CPU than elsewhere."""
EXCEPTIONS = {("rprop", "for-loop"): ASSIGNED_NUMBER}
EXCEPTIONS |= {(name, "foreach"): STEP_BY_TENSOR for name in OPTIMIZERS if name[:3] != "sgd"}
EXCEPTIONS[("adagrad", "foreach")] = set()


def run_of(optimizer: str, implementation: str, **scenario: Any) -> Any:
    return streams(
        mlp(), (8, 16),
        tg.Scenario(
            mode="training", optimizer=optimizer, optimizer_implementation=implementation,
            **scenario,
        ),
    )  # fmt: skip


@pytest.mark.parametrize("implementation", ["for-loop", "foreach", "fused"])
@pytest.mark.parametrize("optimizer", [o for o in OPTIMIZERS if o not in ("none", "adamw-8bit")])
def test_the_optimizer_is_the_real_one(optimizer: str, implementation: str) -> None:
    if implementation == "fused" and optimizer[:4] not in ("sgd", "sgd-", "adam", "adag"):
        pytest.skip("has no fused implementation")
    if implementation == "fused" and optimizer == "adamax":
        pytest.skip("has no fused implementation")
    found = run_of(optimizer, implementation)
    allowed = EXCEPTIONS.get((optimizer, implementation), set())
    assert {(d.kind, d.name) for d in found.differences} == allowed, found.differences[:5]


@pytest.mark.parametrize("implementation", ["for-loop", "fused"])
@pytest.mark.parametrize(
    "scenario",
    [
        {"gradient_clipping": True}, {"ema": True}, {"accumulation": 3},
        {"zero_grad": "before-backward"}, {"zero_grad": "set-to-zero", "accumulation": 2},
        {"optimizer_options": {"weight_decay": 0.1, "amsgrad": True}},
        {"optimizer_options": {"maximize": True}, "zero_grad": "before-backward", "ema": True},
    ],
    ids=str,
)  # fmt: skip
def test_what_surrounds_the_optimizer_is_the_real_one(
    scenario: dict[str, Any], implementation: str
) -> None:
    found = run_of("adamw", implementation, **scenario)
    assert found.identical, found.differences[:5]


def test_states_that_lie_beside_the_device() -> None:
    def host(optimizer: str, **options: Any) -> set[str]:
        scenario = tg.Scenario(mode="training", device=A100, optimizer=optimizer, **options)
        return {s.label for s in trace(mlp(), (8, 16), scenario).storages if s.is_host}

    assert host("adamw") == {"step"} and host("nadam") == {"step", "mu_product"}
    assert host("asgd") == set() and host("sgd-momentum") == set()
    assert host("adam", optimizer_implementation="fused") == set()
    assert host("adam", optimizer_options={"capturable": True}) == set()


# ---------------------------------------------------------------------------- attention

FLASH, EFFICIENT, CUDNN, MATH = (
    AttentionBackend.FLASH, AttentionBackend.EFFICIENT, AttentionBackend.CUDNN,
    AttentionBackend.MATH,
)  # fmt: skip
BF16, FP16, FP32, FP64 = torch.bfloat16, torch.float16, torch.float32, torch.float64


def case(
    *,
    dtype: torch.dtype = BF16,
    size: int = 64,
    values: int | None = None,
    heads: tuple[int, int, int] = (8, 8, 8),
    lengths: tuple[int, int] = (32, 32),
    mask: tuple[int, ...] | None = None,
    dropout: float = 0.0,
    causal: bool = False,
    gradients: bool = False,
    grouped: bool = False,
    strided: bool = False,
    batch: int = 2,
) -> AttentionCase:
    def make(count: int, length: int, width: int) -> torch.Tensor:
        shape = (batch, count, width, length) if strided else (batch, count, length, width)
        tensor = torch.empty(shape, dtype=dtype, device="meta", requires_grad=gradients)
        return tensor.transpose(-1, -2) if strided else tensor

    return AttentionCase(
        query=make(heads[0], lengths[0], size),
        key=make(heads[1], lengths[1], size),
        value=make(heads[2], lengths[1], values or size),
        mask=None if mask is None else torch.empty(mask, dtype=dtype, device="meta"),
        dropout=dropout, is_causal=causal, grouped=grouped,
    )  # fmt: skip


TURING, AMPERE, RTX30, ADA, HOPPER, BLACKWELL, ULTRA, RTX50 = (
    (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0),
)  # fmt: skip
RULES: list[tuple[str, dict[str, Any], tuple[int, int], str, AttentionBackend]] = [
    ("flash comes first", {}, AMPERE, "2.6", FLASH),
    ("flash comes first", {}, RTX50, "2.13", FLASH),
    ("check_dtypes_low_precision", {"dtype": FP32}, AMPERE, "2.6", EFFICIENT),
    ("check_dtypes_low_precision", {"dtype": FP16}, RTX30, "2.6", FLASH),
    ("check_tensor_dtype: no kernel has float64", {"dtype": FP64}, AMPERE, "2.6", MATH),
    ("check_flash_attention_hardware_support", {"dtype": FP16}, TURING, "2.6", EFFICIENT),
    ("less_than_sm80_mem_efficient_dtypes", {"dtype": BF16}, TURING, "2.6", MATH),
    ("check_for_attn_mask", {"mask": (32, 32)}, AMPERE, "2.6", EFFICIENT),
    ("check_last_dim_stride_equals_1_dense", {"strided": True}, AMPERE, "2.13", MATH),
    ("check_head_dim_size_flash", {"size": 256}, AMPERE, "2.6", FLASH),
    ("check_head_dim_size_flash", {"size": 264}, AMPERE, "2.6", EFFICIENT),
    ("check_head_dim_size_flash: one size", {"values": 32}, AMPERE, "2.6", EFFICIENT),
    ("flash pads its heads", {"size": 60}, AMPERE, "2.6", FLASH),
    ("check_head_dim_size_mem_efficient", {"size": 60, "mask": (32, 32)}, AMPERE, "2.6", MATH),
    ("minimum_gemm_alignment: 4 in float32", {"size": 60, "dtype": FP32}, AMPERE, "2.6", EFFICIENT),
    ("minimum_gemm_alignment: 4 in float32", {"size": 62, "dtype": FP32}, AMPERE, "2.6", MATH),
    ("minimum_gemm_alignment: 1 in float32", {"size": 61, "dtype": FP32}, TURING, "2.6", EFFICIENT),
    ("minimum_gemm_alignment: 8 in float16", {"size": 60, "dtype": FP16}, TURING, "2.6", MATH),
    ("check_flash_causal_non_square_seqlens", {"causal": True}, AMPERE, "2.6", FLASH),
    (
        "check_flash_causal_non_square_seqlens", {"causal": True, "lengths": (1, 32)}, AMPERE,
        "2.6", EFFICIENT,
    ),
    ("check_nonzero_sequence_lengths_dense", {"lengths": (32, 0)}, AMPERE, "2.6", MATH),
    ("dropout stays fused", {"dropout": 0.1}, AMPERE, "2.6", FLASH),
    # check_requires_grad_and_head_dim_gt192_constraints_on_sm86_89_or_120
    ("head_dim_gt192: no gradient", {"size": 224}, RTX30, "2.6", FLASH),
    ("head_dim_gt192", {"size": 224, "gradients": True}, RTX30, "2.6", EFFICIENT),
    ("head_dim_gt192", {"size": 224, "gradients": True}, ADA, "2.13", EFFICIENT),
    ("head_dim_gt192", {"size": 224, "gradients": True}, RTX50, "2.13", EFFICIENT),
    ("head_dim_gt192", {"size": 192, "gradients": True}, RTX30, "2.6", FLASH),
    ("head_dim_gt192: not on sm80", {"size": 224, "gradients": True}, AMPERE, "2.6", FLASH),
    ("head_dim_gt224", {"size": 256, "gradients": True}, RTX30, "2.6", FLASH),
    (
        "head_dim_gt224 with dropout", {"size": 256, "gradients": True, "dropout": 0.1}, RTX30,
        "2.6", EFFICIENT,
    ),
    # check_batch_size_and_num_heads_dense
    ("supports_gqa: flash", {"heads": (8, 2, 2), "grouped": True}, AMPERE, "2.6", FLASH),
    (
        "supports_gqa: not the efficient one",
        {"heads": (8, 2, 2), "grouped": True, "dtype": FP32}, AMPERE, "2.6", MATH,
    ),
    (
        "supports_gqa: not the efficient one",
        {"heads": (8, 2, 2), "grouped": True, "mask": (32, 32)}, AMPERE, "2.13", MATH,
    ),
    ("enable_gqa was not asked for", {"heads": (8, 2, 2)}, AMPERE, "2.6", MATH),
    ("heads must divide", {"heads": (8, 3, 3), "grouped": True}, AMPERE, "2.6", MATH),
    # check_prefer_cudnn_attention
    ("cuDNN is not preferred yet", {}, HOPPER, "2.6", FLASH),
    ("cuDNN is not preferred yet", {}, HOPPER, "2.8", FLASH),
    ("cuDNN 9.9 is enough", {}, HOPPER, "2.9", CUDNN),
    ("cuDNN above 9.15 is asked for", {}, HOPPER, "2.10", FLASH),
    ("cuDNN 9.19 is there", {}, HOPPER, "2.11", CUDNN),
    ("cuDNN 9.19 is there", {}, BLACKWELL, "2.13", CUDNN),
    ("sm103 since 2.11", {}, ULTRA, "2.9", FLASH),
    ("sm103 since 2.11", {}, ULTRA, "2.13", CUDNN),
    ("consumer Blackwell prefers flash", {}, RTX50, "2.13", FLASH),
    # check_cudnn_tensor_shapes and what else cuDNN refuses
    ("cuDNN takes no float32", {"dtype": FP32}, HOPPER, "2.13", EFFICIENT),
    ("head_dim_limit: 256 on sm90", {"size": 256}, HOPPER, "2.13", CUDNN),
    ("head_dim_limit: 128 on sm100", {"size": 256}, BLACKWELL, "2.13", FLASH),
    ("head_dim_limit: DeepSeek's", {"size": 192, "values": 128}, BLACKWELL, "2.13", CUDNN),
    ("head_dim should be a multiple of 8", {"size": 60}, HOPPER, "2.13", FLASH),
    ("key length 1", {"lengths": (4, 1)}, HOPPER, "2.13", FLASH),
    ("query length 1", {"lengths": (1, 32)}, HOPPER, "2.13", CUDNN),
    ("query length 1 with dropout", {"lengths": (1, 32), "dropout": 0.5}, HOPPER, "2.13", FLASH),
    ("check_cudnn_dropout", {"dropout": 0.1}, HOPPER, "2.13", FLASH),
    ("check_cudnn_dropout", {"dropout": 0.25}, HOPPER, "2.13", CUDNN),
    ("check_cudnn_dropout: since 2.12", {"dropout": 0.1}, HOPPER, "2.11", CUDNN),
    ("check_attn_mask_shape", {"mask": (2, 1, 1, 32)}, HOPPER, "2.13", CUDNN),
    ("check_attn_mask_shape: three dimensions", {"mask": (8, 32, 32)}, HOPPER, "2.13", EFFICIENT),
    (
        "requires_same_num_heads=false", {"heads": (8, 2, 4), "grouped": True}, HOPPER, "2.13",
        CUDNN,
    ),
    ("flash wants as many values", {"heads": (8, 2, 4), "grouped": True}, AMPERE, "2.13", MATH),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "given", "capability", "release", "expected"), RULES)
def test_the_attention_kernel(
    rule: str,
    given: dict[str, Any],
    capability: tuple[int, int],
    release: str,
    expected: AttentionBackend,
) -> None:
    """Each row is a rule of ``sdp_utils.cpp`` (2.6 and later), by the name it has there."""
    assert choose(case(**given), capability, TorchVersion(release)) is expected, rule


def test_gradients_count_only_where_they_are_taken() -> None:
    training = case(size=224, gradients=True)
    with torch.no_grad():
        assert choose(training, RTX30, TorchVersion("2.6")) is FLASH


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        ([SDPBackend.MATH], MATH),
        ([SDPBackend.EFFICIENT_ATTENTION], EFFICIENT),
        ([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH], EFFICIENT),
        ([SDPBackend.CUDNN_ATTENTION], CUDNN),
        ([SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH], MATH),
        ([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION], FLASH),
    ],
)
def test_backends_that_are_switched_off(
    allowed: list[SDPBackend], expected: AttentionBackend
) -> None:
    with sdpa_kernel(allowed):
        assert choose(case(), AMPERE, TorchVersion("2.13")) is expected


def test_no_backend_is_left() -> None:
    with (
        sdpa_kernel(SDPBackend.FLASH_ATTENTION),
        pytest.raises(RuntimeError, match="No available kernel"),
    ):
        choose(case(dtype=FP32), AMPERE, TorchVersion("2.13"))


def attention_of(device: str, precision: str, name: str, mode: str = "inference") -> list[OpRecord]:
    build, size = MODELS[name]
    found = trace(build(), size, tg.Scenario(device=device, precision=precision, mode=mode))
    return [op for op in found.ops if "_attention" in op.name]


@pytest.mark.parametrize(
    ("precision", "kernel", "kept"),
    [
        # [B, H, L] of float32; the efficient kernel pads L to 32 and keeps it for training alone.
        ("bf16", "flash", ((2, 4, 16), (2, 4, 16))),
        ("fp32", "efficient", ((2, 4, 0), (2, 4, 32))),
    ],
)
def test_what_fused_attention_returns(
    precision: str, kernel: str, kept: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    for mode, statistics in zip(("inference", "training"), kept, strict=True):
        forward, *backward = attention_of(A100, precision, "attention", mode)
        assert forward.name == f"aten._scaled_dot_product_{kernel}_attention.default"
        assert forward.outputs[0].shape == (2, 4, 16, 16)
        assert forward.outputs[1].shape == statistics
        assert forward.outputs[1].dtype == "float32"
        assert [op.name for op in backward] == (
            [f"aten._scaled_dot_product_{kernel}_attention_backward.default"]
            if mode == "training"
            else []
        )


def test_heads_lie_beside_each_other_in_the_output() -> None:
    """The kernels write ``[B, L, H, E]``, so that what follows needs no copy."""
    for precision in ("fp32", "bf16"):
        build, size = MODELS["attention"]
        names = [
            op.name for op in ops(build(), size, tg.Scenario(device=A100, precision=precision))
        ]
        after = names[next(i for i, n in enumerate(names) if "_attention" in n) :]
        assert "aten.clone.default" not in after and "aten.copy_.default" not in after


@pytest.mark.parametrize(("width", "pads"), [(16, False), (12, True)])
def test_a_mask_whose_rows_are_not_aligned_is_copied(width: int, pads: bool) -> None:

    class Masked(nn.Module):
        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            key = x[:, :, :width]
            y: torch.Tensor = nn.functional.scaled_dot_product_attention(x, key, key, mask)
            return y

    size, dtypes = [(1, 4, 16, 16), (16, width)], ["float32", "float32"]
    report = trace(Masked(), size, tg.Scenario(device=A100), dtypes=dtypes)
    assert any("constant_pad" in op.name for op in report.ops) is pads


# ---------------------------------------------------------------------------- norms, dropout


@pytest.mark.parametrize(
    ("precision", "mode", "name", "kernel"),
    [
        ("fp32", "training", "cnn", "cudnn_batch_norm"),
        ("fp32", "inference", "cnn", "cudnn_batch_norm"),
        ("fp32", "training", "volumes", "cudnn_batch_norm"),
        ("fp16-autocast", "training", "cnn", "cudnn_batch_norm"),
        ("bf16-autocast", "training", "cnn", "native_batch_norm"),
        ("bf16", "training", "cnn", "native_batch_norm"),
        ("fp16", "training", "cnn", "native_batch_norm"),
        ("fp32", "training", "mlp", "native_batch_norm"),
    ],
)
def test_the_norm_of_a_batch(precision: str, mode: str, name: str, kernel: str) -> None:
    """``_select_batch_norm_backend``: cuDNN with three dimensions, no bfloat16, float32 weights."""
    build, size = MODELS[name]
    scenario = tg.Scenario(device=A100, precision=precision, mode=mode)
    found = [op for op in ops(build(), size, scenario) if "batch_norm" in op.name]
    assert found[0].name == f"aten.{kernel}.default"
    channels = found[0].outputs[0].shape[1]
    statistics = channels if mode == "training" else 0
    assert [spec.shape for spec in found[0].outputs[1:3]] == [(statistics,)] * 2
    assert {spec.dtype for spec in found[0].outputs[1:3]} == {"float32"} or precision == "fp32"
    assert len(found) == 1 + (mode == "training")


def test_a_norm_without_weights_is_pytorchs_own() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False))
    found = ops(model, (2, 3, 8, 8), tg.Scenario(device=A100, mode="training"))
    assert any(op.name == "aten.native_batch_norm.default" for op in found)


def test_dropout_keeps_one_byte_an_element() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5))
    found = trace(model, (64, 8), tg.Scenario(device=A100, mode="training"))
    (op,) = [op for op in found.ops if "dropout" in op.name and "backward" not in op.name]
    assert op.name == "aten.native_dropout.default"
    assert [spec.dtype for spec in op.outputs] == ["float32", "bool"]
    saved = [s for s in found.storages if s.role is Role.SAVED_ACTIVATION and s.op == op.index]
    assert 64 * 8 in [s.nbytes for s in saved]


@pytest.mark.parametrize(("p", "mode"), [(0.0, "training"), (0.5, "inference")])
def test_dropout_that_does_nothing(p: float, mode: str) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(p))
    found = ops(model, (4, 8), tg.Scenario(device=A100, mode=mode))
    assert not any("dropout" in op.name for op in found)


def test_dropout_in_place_keeps_noise_in_the_dtype_of_the_input() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5, inplace=True))
    names = [op.name for op in ops(model, (4, 8), tg.Scenario(device=A100, mode="training"))]
    assert "aten.bernoulli_.float" in names and "aten.native_dropout.default" not in names


# ---------------------------------------------------------------------------- recurrent layers

LAYERS: dict[str, tuple[nn.Module, int, int]] = {
    "lstm": (nn.LSTM(8, 12), 6, 1), "two layers": (nn.LSTM(8, 12, 2), 6, 2),
    "both ways": (nn.LSTM(8, 12, 2, bidirectional=True), 6, 4),
    "batch first": (nn.LSTM(8, 12, batch_first=True), 6, 1),
    "projected": (nn.LSTM(8, 12, proj_size=5), 6, 1), "gru": (nn.GRU(8, 12, bias=False), 5, 1),
    "tanh": (nn.RNN(8, 12), 1, 1), "relu": (nn.RNN(8, 12, nonlinearity="relu"), 1, 1),
}  # fmt: skip
"""Module, values that are kept per unit and step, directions times layers."""


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
def test_recurrent_outputs_are_those_of_the_cpu(name: str, mode: str) -> None:
    module, kept, cells = LAYERS[name]
    scenario = tg.Scenario(mode=mode, device=A100)
    (op,) = [op for op in ops(module, (7, 3, 8), scenario) if op.name == "aten._cudnn_rnn.default"]
    output, states = module(torch.zeros(7, 3, 8))
    states = states if isinstance(states, tuple) else (states, torch.empty(0))
    expected = [tuple(tensor.shape) for tensor in (output, *states)]
    assert [spec.shape for spec in op.outputs[:3]] == expected
    assert op.outputs[3].dtype == "uint8"
    assert op.outputs[3].numel == (kept * 7 * 3 * cells * 12 * 4 if mode == "training" else 0)


def test_packed_sequences_and_their_gradients() -> None:
    found = trace(Packed(), (3, 5, 8), tg.Scenario(mode="training", device=A100))
    forward, backward = (op for op in found.ops if "_cudnn_rnn" in op.name)
    assert [spec.shape for spec in forward.outputs[:3]] == [(11, 24), (4, 3, 12), (4, 3, 12)]
    assert found.outputs[0].tensor is not None
    assert found.outputs[0].tensor.shape == (5, 3, 24)
    weights = [p.shape for p in Packed().parameters()]
    assert [spec.shape for spec in backward.outputs[-len(weights) :]] == weights


# ---------------------------------------------------------------------------- checkpointing

KINDS: tuple[bool | str, ...] = (False, True, "reentrant", "selective", "offload")


@pytest.mark.parametrize("precision", ["fp32", "bf16-autocast"])
@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing_is_the_real_one(kind: bool | str, precision: str) -> None:
    scenario = tg.Scenario(mode="training", checkpointing=kind, precision=precision)
    found = streams(Language(), (2, 16), scenario, ["int64"])
    assert found.identical, found.differences[:5]


def saved_bytes(found: Trace) -> int:
    return sum(
        s.nbytes for s in found.storages if s.role is Role.SAVED_ACTIVATION and not s.is_host
    )


def test_what_each_kind_saves() -> None:
    saved, flops = {}, {}
    for kind in KINDS:
        scenario = tg.Scenario(mode="training", device=A100, checkpointing=kind, precision="bf16")
        saved[kind] = saved_bytes(trace(Language(), (8, 16), scenario, dtypes=["int64"]))
        report = tg.analyze(Language(), (8, 16), dtypes=["int64"], scenario=scenario)
        flops[kind] = report.totals.backward_flops
        assert report.not_counted == ()
    assert saved[False] > saved["selective"] > saved[True] > saved["offload"]
    assert saved["reentrant"] <= saved[True]
    assert flops[False] == flops["offload"] < flops["selective"] < flops[True]
    # Reentrant runs a block to its end; the other stops when all that is needed is there.
    assert flops[True] <= flops["reentrant"]


def test_kinds_in_a_scenario() -> None:
    same = tg.Scenario(mode="training", checkpointing="non-reentrant")
    assert same.checkpointing is True and same == tg.Scenario(mode="training", checkpointing=True)
    away = tg.Scenario(mode="training", checkpointing="offload")
    assert away == tg.Scenario(mode="training", offload_activations=True)
    assert tg.Scenario(mode="training", checkpointing="selective").to_dict()["checkpointing"] == (
        "selective"
    )
    with pytest.raises(tg.errors.ScenarioError, match="unknown checkpointing 'twice'"):
        tg.Scenario(mode="training", checkpointing="twice")
    with pytest.raises(tg.errors.ScenarioError, match="has no meaning in inference"):
        tg.Scenario(checkpointing="selective")


@pytest.mark.parametrize("kind", ["reentrant", "selective", "offload", True, False])
def test_kinds_are_saved_with_a_report(kind: bool | str, tmp_path: Any) -> None:
    scenario = tg.Scenario(mode="training", checkpointing=kind)
    report = tg.analyze(mlp(), (8, 16), scenario=scenario)
    report.save(tmp_path / "report.json")
    assert tg.load(tmp_path / "report.json").scenario == scenario
