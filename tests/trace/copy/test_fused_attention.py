"""Attention's fused fast path of an inference: where it runs, what it holds, whose work."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import torchgauge as tg
from real_memory import real_peak
from small_models import trace

_WIDTH, _LENGTH = 64, 48
_X = torch.randn(8, _LENGTH, _WIDTH)
_PADDING = torch.arange(_LENGTH).expand(8, _LENGTH) >= 40
_CAUSAL = torch.ones(_LENGTH, _LENGTH).triu(1).bool()


class Attention(nn.Module):
    """Self-attention, with the weights where they are asked for."""

    def __init__(self, *, batch_first: bool = True, heads: int = 4, width: int = _WIDTH,
                 **options: Any) -> None:  # fmt: skip
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=batch_first)
        self.options = options

    def forward(
        self,
        x: torch.Tensor,
        padding: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> Any:
        return self.attention(
            x, x, x, key_padding_mask=padding, attn_mask=mask, **self.options
        )  # fmt: skip


class Given(nn.Module):
    """A layer that gets its second argument by name, or runs in a context."""

    def __init__(self, inner: nn.Module, name: str = "", context: Any = None) -> None:
        super().__init__()
        self.inner, self.name, self.context = inner, name, context

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Any:
        if self.context is not None:
            with self.context():
                return self.inner(x)
        return self.inner(x, **{self.name: mask}) if self.name else self.inner(x)


def layer(**options: Any) -> nn.TransformerEncoderLayer:
    """Return a small encoder layer."""
    options = {"batch_first": True, **options}
    return nn.TransformerEncoderLayer(_WIDTH, 4, 128, **options)


def encoder(**options: Any) -> nn.TransformerEncoder:
    """Return two of them."""
    return nn.TransformerEncoder(layer(), 2, **options)


def hooked() -> nn.TransformerEncoderLayer:
    """Return a layer that a hook keeps from the fast path."""
    module = layer()
    module.linear1.register_forward_hook(lambda *_: None)
    return module


FAST: dict[str, tuple[nn.Module, tuple[torch.Tensor, ...]]] = {
    "attention": (Attention(need_weights=False), (_X,)),
    "weights": (Attention(), (_X,)),
    "weights of each head": (Attention(average_attn_weights=False), (_X,)),
    "padding": (Attention(need_weights=False), (_X, _PADDING)),
    "mask and padding": (Attention(), (_X, _PADDING, _CAUSAL)),
    "one position": (Attention(need_weights=False), (_X[:, :1],)),
    "layer": (layer(), (_X,)),
    "norm first, gelu": (layer(norm_first=True, activation="gelu"), (_X,)),
    "relu as a module": (layer(activation=nn.ReLU()), (_X,)),
    "layer with padding": (Given(layer(), "src_key_padding_mask"), (_X, _PADDING)),
    "encoder": (encoder(norm=nn.LayerNorm(_WIDTH)), (_X,)),
    "encoder with a mask": (Given(encoder(), "mask"), (_X, _CAUSAL)),
    "padding that stays": (
        Given(encoder(enable_nested_tensor=False), "src_key_padding_mask"),
        (_X, _PADDING),
    ),
}
SLOW: dict[str, tuple[nn.Module, tuple[torch.Tensor, ...]]] = {
    "positions first": (Attention(need_weights=False, batch_first=False), (_X,)),
    "odd heads": (Attention(need_weights=False, heads=3, width=60), (_X[..., :60].contiguous(),)),
    "silu": (layer(activation=nn.functional.silu), (_X,)),
    "no bias": (layer(bias=False), (_X,)),
    "hooked": (hooked(), (_X,)),
    "gradients": (Given(layer(), context=torch.enable_grad), (_X,)),
}


@pytest.mark.parametrize("kind", [*FAST, *SLOW])
def test_the_peak_is_that_of_a_real_run(kind: str) -> None:
    model, inputs = {**FAST, **SLOW}[kind]
    report = tg.analyze(model, input_data=inputs)
    assert report.memory is not None
    assert report.memory.peak_allocated_bytes == real_peak(model.eval(), *inputs)
    assert report.assumptions == () and report.not_counted == ()


@pytest.mark.parametrize("kind", ["layer", "norm first, gelu", "relu as a module", "encoder"])
def test_each_layer_keeps_its_row(kind: str) -> None:
    """The same calls, shapes and MACs as without the fast path."""
    model, inputs = FAST[kind]
    fast = tg.analyze(model, input_data=inputs)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        slow = tg.analyze(model, input_data=inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    assert fast.totals.forward_macs == slow.totals.forward_macs > 0
    for path, info in slow.modules.items():
        other = fast.modules[path]
        assert [call.forward_macs for call in info.calls] == [c.forward_macs for c in other.calls]
        shapes = [[v.tensor and v.tensor.shape for v in call.outputs] for call in info.calls]
        assert shapes == [[v.tensor and v.tensor.shape for v in c.outputs] for c in other.calls]


def test_an_encoder_that_would_drop_padding_says_so() -> None:
    model = Given(encoder(), "src_key_padding_mask")
    report = tg.analyze(model, input_data=(_X, _PADDING))
    assert any("counted on padded rows" in text for text in report.assumptions)
    assert "counted on padded rows" not in str(
        tg.analyze(Given(encoder(), "mask"), input_data=(_X, _CAUSAL)).assumptions
    )


@pytest.mark.parametrize(
    ("device", "options", "expected"),
    [
        ("A100-SXM-40GB", {"need_weights": False}, "aten._scaled_dot_product_flash_attention"),
        ("H100-SXM", {"need_weights": False}, "aten._transform_bias_rescale_qkv"),
        ("A100-SXM-40GB", {}, "aten._transform_bias_rescale_qkv"),
    ],
    ids=["flash comes first", "cuDNN comes first", "weights"],
)
def test_on_gpus(device: str, options: dict[str, bool], expected: str) -> None:
    """Flash or efficient attention where one comes first and no weights are asked for."""
    scenario = tg.Scenario(device=device, precision="fp16", torch_release="2.13")
    ops = trace(Attention(**options), (8, _LENGTH, _WIDTH), scenario).ops
    assert f"{expected}.default" in [op.name for op in ops]
    assert not any("_native_multi_head_attention" in op.name for op in ops)


@pytest.mark.parametrize("kind", ["layer", "attention"])
def test_a_region_of_autocast_on_the_cpu_leaves_it_on(kind: str) -> None:
    """PyTorch asks whether autocast is on for CUDA; the kernel's products are cast."""
    inner = layer() if kind == "layer" else Attention(need_weights=False)
    context = lambda: torch.autocast("cpu", torch.bfloat16)  # noqa: E731
    report = tg.analyze(Given(inner, context=context), input_data=(_X,))
    assert report.outputs[0].tensor is not None
    assert report.outputs[0].tensor.dtype == "bfloat16"
