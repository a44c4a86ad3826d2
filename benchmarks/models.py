"""The models that the benchmark measures, on any device, and their inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from torchgauge.models.torchvision_operators import define_missing_operators

TOKENS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model and how to feed it."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int, str], dict[str, Any]]
    """Batch size and device → keyword arguments of the forward."""

    def model(self, device: str) -> nn.Module:
        """Build the model; on the CPU all weights are alike, which saves drawing them."""
        with torch.device("meta"):
            model = self.build()
        if device != "meta":
            model.to_empty(device=device)
            if hasattr(model, "tie_weights"):  # to_empty gives each name a tensor of its own
                model.tie_weights()
            with torch.no_grad():
                for tensor in [*model.parameters(), *model.buffers()]:
                    tensor.fill_(0.01 if tensor.is_floating_point() else 0)
        return model.eval()


def _image(batch: int, device: str) -> dict[str, Any]:
    return {"x": torch.ones(batch, 3, 224, 224, device=device)}


def _tokens(batch: int, device: str) -> dict[str, Any]:
    return {"input_ids": torch.zeros(batch, TOKENS, dtype=torch.int64, device=device)}


def _torchvision(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        define_missing_operators()
        import torchvision

        return torchvision.models.get_model(name)

    return build


def _bert() -> nn.Module:
    define_missing_operators()
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig())


def _llama_1b() -> nn.Module:
    define_missing_operators()
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
            num_attention_heads=32, num_key_value_heads=8, vocab_size=128256,
            tie_word_embeddings=True,
        )
    )  # fmt: skip


def blocks(count: int, width: int = 64) -> nn.Module:
    """Return a chain of ``count`` blocks of two linear layers, for the scaling measurement."""
    return nn.Sequential(
        *(nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
          for _ in range(count))
    )  # fmt: skip


CASES = (
    Case(name="resnet50", build=_torchvision("resnet50"), inputs=_image),
    Case(name="vit_b_16", build=_torchvision("vit_b_16"), inputs=_image),
    Case(name="bert_base", build=_bert, inputs=_tokens),
    Case(name="llama_1b", build=_llama_1b, inputs=_tokens),
)
