"""Every method of PEFT on a small Llama: built without memory, and compared with a real step."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import torchgauge as tg
from real_memory import real_peak
from torchgauge.models.torchvision_operators import define_missing_operators

os.environ["HF_HUB_OFFLINE"] = "1"
define_missing_operators()
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

pytestmark = [
    pytest.mark.models,
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
]

SMALL = {
    "vocab_size": 128, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
LARGE = {
    "vocab_size": 128_256, "hidden_size": 3072, "intermediate_size": 8192,
    "num_hidden_layers": 28, "num_attention_heads": 24, "num_key_value_heads": 8,
    "head_dim": 128, "tie_word_embeddings": True,
}  # fmt: skip
"""Llama 3.2 3B."""
LARGE_PARAMETERS = 3_212_749_824

QV: Mapping[str, Any] = {"target_modules": ["q_proj", "v_proj"]}
PROMPT: Mapping[str, Any] = {"num_virtual_tokens": 4}
SETTINGS: dict[str, Mapping[str, Any]] = {
    "ADALORA": {**QV, "total_step": 100},
    "ADAPTION_PROMPT": {"adapter_len": 4, "adapter_layers": 1},
    "BEFT": {"target_modules": ["v_proj"]},
    "C3A": {**QV, "block_size": 16},
    "CARTRIDGE": PROMPT,
    "CPT": {
        "cpt_token_ids": [1, 2, 3, 4], "cpt_mask": [1, 1, 1, 1],
        "cpt_tokens_type_mask": [1, 1, 1, 1],
    },
    "FROD": {**QV, "progressbar": False},
    "LN_TUNING": {},
    "MULTITASK_PROMPT_TUNING": {**PROMPT, "num_tasks": 2},
    "P_TUNING": PROMPT,
    "PREFIX_TUNING": PROMPT,
    "PROMPT_TUNING": PROMPT,
    "ROAD": {**QV, "group_size": 16},
    "SHADOW": {},
    "SHIRA": {**QV, "r": 4},
    "SUPERTUNING": {},
    "TRAINABLE_TOKENS": {"target_modules": ["embed_tokens"], "token_indices": [1, 2, 3]},
    "VBLORA": {**QV, "num_vectors": 16, "vector_length": 16},
    "WAVEFT": {**QV, "n_frequency": 64},
}  # fmt: skip
"""Settings without which a method has no sense on so small a model; the others adapt q and v."""
BUILD_REFUSED = {
    "ADAMSS": (ImportError, "scikit-learn is required for AdaMSS"),
    "XLORA": (ValueError, "`use_cache` must be False"),
}
"""The library's own reasons: XLoRA mixes trained adapters, which it loads from files."""
TASKS = ("MULTITASK_PROMPT_TUNING", "POLY")
"""Methods whose forward is told the task of each row."""
METHODS = sorted(kind.value for kind in peft.PeftType)


class Trained(nn.Module):
    """The loss of a language model on ids, all of which are labels."""

    def __init__(self, model: nn.Module, *, has_tasks: bool) -> None:
        super().__init__()
        self.model, self.has_tasks = model, has_tasks

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        tasks = {"task_ids": ids[:, 0]} if self.has_tasks else {}
        loss: torch.Tensor = self.model(input_ids=ids, labels=ids, **tasks).loss
        return loss


def llama(sizes: Mapping[str, Any], dtype: torch.dtype) -> nn.Module:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        model: nn.Module = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))
    finally:
        torch.set_default_dtype(before)
    return model


def adapted(
    method: str, sizes: Mapping[str, Any] = SMALL, dtype: torch.dtype = torch.float32
) -> Trained:
    configuration = peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(method)](
        task_type="CAUSAL_LM", **SETTINGS.get(method, QV)
    )
    model = peft.get_peft_model(llama(sizes, dtype), configuration)
    return Trained(model, has_tasks=method in TASKS)
