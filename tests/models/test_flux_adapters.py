"""A FLUX transformer with LoRA from PEFT: a small one as a real step, the real ones without data.

The inputs are those of the loop in diffusers' ``train_dreambooth_lora_flux.py``: packed latents of
a 512 × 512 image (1,024 tokens of 64 channels), 512 tokens of T5, a pooled embedding of CLIP, and
the mean squared error against noise minus latents.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import torchgauge as tg
from real_memory import real_peak
from torchgauge.models.torchvision_operators import define_missing_operators

os.environ["HF_HUB_OFFLINE"] = "1"
define_missing_operators()
diffusers = pytest.importorskip("diffusers")
peft = pytest.importorskip("peft")

pytestmark = [
    pytest.mark.models,
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
]

SMALL: Mapping[str, Any] = {
    "in_channels": 16, "num_layers": 1, "num_single_layers": 2, "attention_head_dim": 16,
    "num_attention_heads": 4, "joint_attention_dim": 32, "pooled_projection_dim": 24,
    "guidance_embeds": True, "axes_dims_rope": (4, 6, 6),
}  # fmt: skip
DEV: Mapping[str, Any] = {"guidance_embeds": True}
"""FLUX.1-dev: the defaults of diffusers."""
DEV_PARAMETERS = 11_901_408_320
TARGETS = [
    "attn.to_k", "attn.to_q", "attn.to_v", "attn.to_out.0", "attn.add_k_proj",
    "attn.add_q_proj", "attn.add_v_proj", "attn.to_add_out", "ff.net.0.proj", "ff.net.2",
    "ff_context.net.0.proj", "ff_context.net.2",
]  # fmt: skip
"""What the script adapts where ``--lora_layers`` is not given."""
RANK = 4


class Step(nn.Module):
    """The loss of one step: ``latents [B, tokens, C]``, text ``[B, words, D]``, pooled ``[B, P]``.

    Weights are those of the sigmas: one each.
    """

    def __init__(self, transformer: nn.Module, side: int) -> None:
        super().__init__()
        self.transformer, self.side = transformer, side

    def forward(
        self, latents: torch.Tensor, text: torch.Tensor, pooled: torch.Tensor
    ) -> torch.Tensor:
        batch, dtype = latents.shape[0], latents.dtype
        places = torch.zeros(self.side, self.side, 3, device=latents.device, dtype=dtype)
        places[..., 1] += torch.arange(self.side, device=latents.device)[:, None]
        places[..., 2] += torch.arange(self.side, device=latents.device)[None, :]
        noise = torch.randn_like(latents)
        sigma = torch.full((batch, 1, 1), 0.5, device=latents.device, dtype=dtype)
        noisy = (1.0 - sigma) * latents + sigma * noise
        predicted = self.transformer(
            hidden_states=noisy,
            timestep=sigma.flatten(),
            guidance=torch.full((batch,), 3.5, device=latents.device, dtype=dtype),
            pooled_projections=pooled,
            encoder_hidden_states=text,
            txt_ids=torch.zeros(text.shape[1], 3, device=latents.device, dtype=dtype),
            img_ids=places.reshape(-1, 3),
            return_dict=False,
        )[0]
        return functional.mse_loss(predicted.float(), (noise - latents).float())


def adapted(settings: Mapping[str, Any], dtype: torch.dtype) -> nn.Module:
    """Return the transformer, frozen but for the adapters, which are float32 as in the script."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        transformer: nn.Module = diffusers.FluxTransformer2DModel(**settings)
    finally:
        torch.set_default_dtype(before)
    transformer.requires_grad_(False)
    transformer.add_adapter(  # type: ignore[operator]
        peft.LoraConfig(
            r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=TARGETS
        )
    )
    for parameter in transformer.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return transformer


def test_small_flux_is_a_real_step_to_the_byte() -> None:
    def make() -> Step:
        return Step(adapted(SMALL, torch.float32), side=4)

    inputs = torch.randn(2, 16, 16), torch.randn(2, 8, 32), torch.randn(2, 24)
    with tg.meta_construction():
        model = make()
    scenario = tg.Scenario(mode="training", optimizer="sgd")
    report = tg.analyze(model, input_data=inputs, scenario=scenario)
    assert report.execution == "simulated" and report.memory is not None
    real = make()
    assert report.totals.params == sum(p.numel() for p in real.parameters())
    assert report.totals.trainable_params == sum(
        p.numel() for p in real.parameters() if p.requires_grad
    )
    assert report.memory.peak_allocated_bytes == real_peak(real, *inputs, training=True)


def test_flux_dev_trains_adapters_without_data() -> None:
    with tg.meta_construction():
        model = Step(adapted(DEV, torch.bfloat16), side=32)
    inputs = tuple(
        torch.empty(shape, dtype=torch.bfloat16, device="meta")
        for shape in ((1, 1024, 64), (1, 512, 4096), (1, 768))
    )
    report = tg.analyze(
        model, input_data=inputs, mode="training", optimizer="adamw", device="H100-SXM"
    )
    assert report.execution == "simulated" and report.memory is not None
    assert report.totals.params - report.totals.trainable_params == DEV_PARAMETERS
    assert report.memory.fits and report.memory.peak_allocated_bytes > 2 * DEV_PARAMETERS
    assert any("attention was traced as the fused kernel" in text for text in report.assumptions)
