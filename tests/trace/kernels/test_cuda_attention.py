"""The kernels that a CUDA device runs, rule by rule, each with its name in PyTorch's source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.torch_version import TorchVersion

import torchgauge as tg
from torchgauge.errors import ModelError
from torchgauge.facts.trace import Execution, OpRecord, TensorSpec, Trace
from torchgauge.request import Inputs
from torchgauge.trace.inputs.plan import plan_inputs
from torchgauge.trace.kernels import cuda
from torchgauge.trace.kernels.cuda_attention import AttentionCase, choose
from torchgauge.trace.run.run_plan import RunPlan
from torchgauge.trace.run.session import Session

HALF, BF16, FP32 = torch.float16, torch.bfloat16, torch.float32


@dataclass(frozen=True, kw_only=True)
class Attention:
    """One call; the default is what flash attention likes best."""

    dtype: torch.dtype = HALF
    size: int = 64
    value_size: int | None = None
    length: int = 16
    keys: int | None = None
    heads: int = 8
    key_heads: int | None = None
    mask: tuple[int, ...] | None = None
    mask_gradient: bool = False
    dropout: float = 0.0
    causal: bool = False
    grouped: bool = False
    gradient: bool = False
    strided: bool = False
    dimensions: int = 4

    def case(self) -> AttentionCase:
        def make(heads: int, length: int, size: int) -> torch.Tensor:
            if self.dimensions == 3:
                tensor = torch.empty((heads, length, size), dtype=self.dtype, device="meta")
            elif self.strided:
                shape = (2, heads, size, length)
                tensor = torch.empty(shape, dtype=self.dtype, device="meta").transpose(-1, -2)
            else:
                tensor = torch.empty((2, heads, length, size), dtype=self.dtype, device="meta")
            return tensor.requires_grad_(self.gradient)

        keys = self.length if self.keys is None else self.keys
        heads = self.key_heads or self.heads
        mask = None
        if self.mask is not None:
            mask = torch.empty(self.mask, dtype=self.dtype, device="meta")
            mask.requires_grad_(self.mask_gradient)
        return AttentionCase(
            query=make(self.heads, self.length, self.size),
            key=make(heads, keys, self.size),
            value=make(heads, keys, self.value_size or self.size),
            mask=mask, dropout=self.dropout, is_causal=self.causal, grouped=self.grouped,
        )  # fmt: skip

    def on(self, capability: tuple[int, int], release: str = "2.13") -> str:
        return str(choose(self.case(), capability, TorchVersion(release)))


SM75, SM80, SM86, SM89, SM90 = (7, 5), (8, 0), (8, 6), (8, 9), (9, 0)
SM100, SM103, SM120 = (10, 0), (10, 3), (12, 0)
DEFAULT = Attention()
MASK = Attention(mask=(16, 16))
GROUPED = Attention(key_heads=2, grouped=True)

ROWS: list[tuple[str, Attention, tuple[int, int], str, str]] = [
    # what comes first
    ("sdp_priority_order", DEFAULT, SM80, "2.13", "flash"),
    ("sdp_priority_order", DEFAULT, SM120, "2.13", "flash"),
    ("check_prefer_cudnn_attention", DEFAULT, SM90, "2.13", "cudnn"),
    ("check_prefer_cudnn_attention", DEFAULT, SM100, "2.13", "cudnn"),
    ("check_prefer_cudnn_attention", DEFAULT, SM103, "2.13", "cudnn"),
    ("check_prefer_cudnn_attention", DEFAULT, SM90, "2.11", "cudnn"),
    ("check_prefer_cudnn_attention, cuDNN 9.10", DEFAULT, SM90, "2.10", "flash"),
    ("check_prefer_cudnn_attention", DEFAULT, SM90, "2.9", "cudnn"),
    ("check_prefer_cudnn_attention, minor version", DEFAULT, SM103, "2.9", "flash"),
    ("sdp_priority_order", DEFAULT, SM90, "2.8", "flash"),
    ("sdp_priority_order", DEFAULT, SM90, "2.6", "flash"),
    # flash
    ("check_dtypes_low_precision", Attention(dtype=BF16), SM80, "2.13", "flash"),
    ("check_dtypes_low_precision", Attention(dtype=FP32), SM80, "2.13", "efficient"),
    ("check_dtypes_low_precision", Attention(dtype=FP32), SM90, "2.13", "efficient"),
    ("check_dtypes_low_precision", Attention(dtype=torch.float64), SM80, "2.13", "math"),
    ("check_flash_attention_hardware_support", DEFAULT, SM75, "2.13", "efficient"),
    ("check_tensor_shapes", Attention(dimensions=3), SM80, "2.13", "math"),
    ("check_for_attn_mask", MASK, SM80, "2.13", "efficient"),
    ("check_head_dim_size_flash", Attention(size=256), SM80, "2.13", "flash"),
    ("check_head_dim_size_flash", Attention(size=264), SM80, "2.13", "efficient"),
    ("check_head_dim_size_flash", Attention(value_size=32), SM80, "2.13", "efficient"),
    ("pad_last_dim", Attention(size=20), SM80, "2.13", "flash"),
    ("check_flash_causal_non_square_seqlens", Attention(causal=True), SM80, "2.13", "flash"),
    ("check_flash_causal_non_square_seqlens", Attention(causal=True, keys=32), SM80, "2.13",
     "efficient"),
    ("check_flash_causal_non_square_seqlens", Attention(keys=32), SM80, "2.13", "flash"),
    ("check_requires_grad_and_head_dim_gt192", Attention(size=200, gradient=True), SM86, "2.13",
     "efficient"),
    ("check_requires_grad_and_head_dim_gt192", Attention(size=200, gradient=True), SM120, "2.13",
     "efficient"),
    ("check_requires_grad_and_head_dim_gt192", Attention(size=200), SM89, "2.13", "flash"),
    ("check_requires_grad_and_head_dim_gt192", Attention(size=200, gradient=True), SM80, "2.13",
     "flash"),
    ("check_requires_grad_and_head_dim_gt192", Attention(size=192, gradient=True), SM89, "2.13",
     "flash"),
    ("check_requires_grad_and_head_dim_gt192", Attention(size=256, gradient=True), SM89, "2.13",
     "flash"),
    ("check_requires_grad_and_head_dim_gt192", Attention(size=256, gradient=True, dropout=0.1),
     SM89, "2.13", "efficient"),
    ("check_grouped_query_attention", GROUPED, SM80, "2.6", "flash"),
    ("check_grouped_query_attention", Attention(key_heads=3, grouped=True), SM80, "2.13", "math"),
    ("check_batch_size_and_num_heads_dense", Attention(key_heads=2), SM80, "2.13", "math"),
    ("check_nonzero_sequence_lengths_dense", Attention(keys=0), SM80, "2.13", "math"),
    ("check_last_dim_stride_equals_1_dense", Attention(strided=True), SM80, "2.13", "math"),
    # memory-efficient
    ("less_than_sm80_mem_efficient_dtypes", Attention(dtype=BF16), SM75, "2.13", "math"),
    ("minimum_gemm_alignment", Attention(dtype=FP32, size=20), SM80, "2.13", "efficient"),
    ("minimum_gemm_alignment", Attention(dtype=FP32, size=18), SM80, "2.13", "math"),
    ("minimum_gemm_alignment", Attention(dtype=FP32, size=18), SM75, "2.13", "efficient"),
    ("minimum_gemm_alignment", Attention(size=20, mask=(16, 16)), SM80, "2.13", "math"),
    ("check_batch_size_and_num_heads_dense<supports_gqa=false>",
     replace(GROUPED, mask=(16, 16)), SM80, "2.13", "math"),
    ("check_batch_size_and_num_heads_dense<supports_gqa=false>",
     replace(GROUPED, dtype=FP32), SM120, "2.11", "math"),
    ("check_last_dim_stride_equals_1_dense, mask", Attention(mask=(16, 1)), SM80, "2.13",
     "efficient"),
    # cuDNN
    ("check_attn_mask_shape", MASK, SM90, "2.13", "cudnn"),
    ("check_attn_mask_shape", Attention(mask=(2, 1, 1, 16)), SM90, "2.13", "cudnn"),
    ("check_attn_mask_shape", Attention(mask=(1, 16, 16)), SM90, "2.13", "efficient"),
    ("check_attn_mask_shape", Attention(mask=(16, 16), mask_gradient=True), SM90, "2.13",
     "efficient"),
    ("check_cudnn_dropout", Attention(dropout=0.125), SM90, "2.13", "cudnn"),
    ("check_cudnn_dropout", Attention(dropout=0.1), SM90, "2.13", "flash"),
    ("check_cudnn_tensor_shapes", Attention(size=136), SM90, "2.12", "cudnn"),
    ("check_cudnn_tensor_shapes", Attention(size=136), SM100, "2.12", "flash"),
    ("check_cudnn_tensor_shapes", Attention(size=256), SM90, "2.9", "cudnn"),
    ("check_cudnn_tensor_shapes", Attention(size=192, value_size=128), SM90, "2.13", "cudnn"),
    ("check_cudnn_tensor_shapes", Attention(size=20), SM90, "2.13", "flash"),
    ("check_cudnn_tensor_shapes", Attention(keys=1), SM90, "2.13", "flash"),
    ("check_cudnn_tensor_shapes", Attention(length=1, keys=16), SM90, "2.13", "cudnn"),
    ("check_cudnn_tensor_shapes", Attention(length=1, keys=16, dropout=0.5), SM90, "2.13",
     "flash"),
    ("check_batch_size_and_num_heads_dense", replace(GROUPED, mask=(16, 16)), SM90, "2.13",
     "cudnn"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "attention", "capability", "release", "expected"), ROWS)
def test_the_choice_of_attention(
    rule: str, attention: Attention, capability: tuple[int, int], release: str, expected: str
) -> None:
    assert attention.on(capability, release) == expected, rule


def test_backends_that_are_switched_off() -> None:
    with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
        assert DEFAULT.on(SM80) == "efficient"
    with sdpa_kernel(SDPBackend.MATH):
        assert DEFAULT.on(SM90) == "math"
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        assert DEFAULT.on(SM80) == "cudnn"
    with (
        sdpa_kernel(SDPBackend.FLASH_ATTENTION),
        pytest.raises(RuntimeError, match="No available kernel"),
    ):
        MASK.on(SM80)


def test_the_users_own_order() -> None:
    order = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.FLASH_ATTENTION]
    with sdpa_kernel(order, set_priority=True):
        assert DEFAULT.on(SM80) == "efficient"
    assert DEFAULT.on(SM80) == "flash"


def test_no_gradient_is_needed_without_gradients() -> None:
    large = Attention(size=200, gradient=True)
    with torch.no_grad():
        assert large.on(SM86) == "flash"


def test_deterministic_algorithms_leave_cudnn_out() -> None:
    torch.use_deterministic_algorithms(True)
    try:
        assert DEFAULT.on(SM90) == "flash"
    finally:
        torch.use_deterministic_algorithms(False)


# ------------------------------------------------------------------ what is run


def trace(
    model: nn.Module,
    size: Any,
    capability: tuple[int, int] = SM80,
    release: str = "2.13",
    **scenario: Any,
) -> Trace:
    """Return the simulated run of a model on a GPU of that capability."""
    plan = plan_inputs(model, Inputs(size=size))
    request = RunPlan(
        model=model, plan=plan, scenario=tg.Scenario(**scenario), model_name="model",
        target=cuda.virtual_device(capability, release),
    )  # fmt: skip
    outcome = Session(request, Execution.SIMULATED).run()
    if outcome.error is not None:
        raise outcome.error
    return outcome.trace


def ops(found: Trace, part: str) -> list[OpRecord]:
    return [op for op in found.ops if part in op.name]


class Attend(nn.Module):
    """Self-attention of ``[B, L, H · E]`` as transformers write it."""

    def __init__(
        self, mask: torch.Tensor | None = None, width: int = 64, dtype: Any = None, **options: Any
    ) -> None:
        super().__init__()
        self.heads, self.options = 4, options
        self.mask, self.dtype = mask, dtype
        self.project = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        heads = self.project(x).to(self.dtype or x.dtype)
        heads = heads.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
        y = functional.scaled_dot_product_attention(heads, heads, heads, self.mask, **self.options)
        return y.transpose(1, 2).reshape(batch, length, width)


@pytest.mark.parametrize(
    ("precision", "capability", "kernel"),
    [
        ("bf16", SM80, "_scaled_dot_product_flash_attention"),
        ("fp32", SM80, "_scaled_dot_product_efficient_attention"),
        ("bf16", SM90, "_scaled_dot_product_cudnn_attention"),
    ],
)
def test_the_output_lies_as_the_query_does(
    precision: str, capability: tuple[int, int], kernel: str
) -> None:
    """Storage ``[B, L, H, E]``: merging the heads again is a view, as on a GPU."""
    found = trace(Attend(), (2, 16, 64), capability, precision=precision)
    (attention,) = ops(found, kernel)
    after = [op.name for op in found.ops[attention.index + 1 :]]
    assert after == ["aten.transpose.int", "aten.view.default"]
    written = attention.outputs[0]
    assert written.shape == (2, 4, 16, 16)


def test_the_rows_of_statistics() -> None:
    flash = ops(trace(Attend(), (2, 20, 64), SM80, precision="bf16"), "_flash_attention")[0]
    assert flash.outputs[1] == spec(2, 4, 20)
    efficient = ops(trace(Attend(), (2, 20, 64), SM80), "_efficient_attention")[0]
    assert efficient.outputs[1].shape == (2, 4, 0)  # no gradient is needed
    trained = trace(Attend(), (2, 20, 64), mode="training")
    assert ops(trained, "_efficient_attention.")[0].outputs[1] == spec(2, 4, 32)


def spec(*shape: int) -> TensorSpec:
    elements = 1
    for size in shape:
        elements *= size
    return TensorSpec(shape=shape, dtype="float32", device="cuda", nbytes=4 * elements)


def test_heads_are_padded_for_flash() -> None:
    found = trace(Attend(width=80), (2, 16, 80), precision="bf16")  # heads of 20
    assert len(ops(found, "constant_pad_nd")) == 3
    assert ops(found, "_flash_attention")[0].args[0].shape == (2, 4, 16, 24)  # type: ignore[union-attr]
    assert found.ops[ops(found, "_flash_attention")[0].index + 1].name == "aten.slice.Tensor"


@pytest.mark.parametrize(("keys", "pads"), [(16, 0), (20, 1), (21, 1)])
def test_masks_are_aligned_for_the_efficient_kernel(keys: int, pads: int) -> None:
    mask = torch.zeros(keys, keys)
    found = trace(Attend(mask), (2, keys, 64))
    assert len(ops(found, "constant_pad_nd")) == pads
    bias = ops(found, "_efficient_attention")[0].args[3]
    assert isinstance(bias, TensorSpec) and bias.shape == (2, 4, keys, keys)


def test_a_mask_with_odd_strides_gets_eight_columns_more() -> None:
    mask = torch.zeros(16, 20)[:, :16]
    padded = ops(trace(Attend(mask), (2, 16, 64)), "constant_pad_nd")[0]
    assert padded.outputs[0].shape == (16, 24)


def test_boolean_masks_become_additive() -> None:
    found = trace(Attend(torch.ones(16, 16, dtype=torch.bool)), (2, 16, 64))
    (where,) = ops(found, "aten.where")
    assert where.outputs[0] == spec(16, 16)


def test_a_mask_and_causality_together() -> None:
    """The memory-efficient kernel takes both, the math path refuses them as PyTorch does."""
    found = trace(Attend(torch.zeros(16, 16), is_causal=True), (2, 16, 64))
    assert ops(found, "_efficient_attention")
    mask = torch.zeros(16, 16, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="Explicit attn_mask should not be set"):
        trace(Attend(mask, dtype=torch.float64, is_causal=True), (2, 16, 64))


@pytest.mark.parametrize("execution", list(Execution))
def test_masks_of_another_dtype_are_refused(execution: Execution) -> None:
    model = Attend(torch.zeros(16, 16, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="Expected attn_mask dtype to be bool or float"):
        trace(model, (2, 16, 64))
    plan = plan_inputs(model, Inputs(size=(2, 16, 64)))
    request = RunPlan(model=model, plan=plan, scenario=tg.Scenario(), model_name="model")
    error = Session(request, execution).run().error
    assert error is not None and "Expected attn_mask dtype to be bool or float" in str(error)


def test_a_mask_guessed_as_integers_is_explained() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attend = Attend()

        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            self.attend.mask = mask
            return self.attend(x)  # type: ignore[no-any-return]

    with pytest.raises(ModelError, match="Expected attn_mask dtype") as caught:
        tg.analyze(Masked(), [(2, 16, 64), (16, 16)])
    assert caught.value.hint is not None and "--dtype bool" in caught.value.hint
    report = tg.analyze(Masked(), [(2, 16, 64), (16, 16)], dtypes=["float32", "bool"])
    assert report.failure is None


def test_multi_head_attention_modules() -> None:
    """``nn.MultiheadAttention`` asks for weights or not: math or a fused kernel."""

    class Layer(nn.Module):
        def __init__(self, weights: bool) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(64, 4, batch_first=True)
            self.weights = weights

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.attention(x, x, x, need_weights=self.weights)[0]  # type: ignore[no-any-return]

    fused = trace(Layer(False), (2, 16, 64), precision="bf16", mode="training")
    assert len(ops(fused, "_scaled_dot_product_flash_attention.default")) == 1
    assert len(ops(fused, "_scaled_dot_product_flash_attention_backward")) == 1
    weighted = trace(Layer(True), (2, 16, 64), precision="bf16", mode="training")
    assert not ops(weighted, "_scaled_dot_product") and ops(weighted, "aten._softmax.default")
