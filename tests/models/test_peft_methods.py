"""Every method of PEFT on a small Llama: built without memory, and compared with a real step."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
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
    "XLORA": {"hidden_size": 64, "adapters": {}},
}  # fmt: skip
"""Settings without which a method has no sense on so small a model; the others adapt q and v."""
BUILD_REFUSED = {
    "ADAMSS": (ImportError, "scikit-learn is required for AdaMSS"),
    "XLORA": (ValueError, "`use_cache` must be False"),  # and it loads its adapters from files
}
"""The library's own reasons."""
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


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(level)


TRAINING = tg.Scenario(mode="training", optimizer="sgd")
IDS = torch.zeros(2, 16, dtype=torch.int64)
UNLIKE = {
    "SHADOW": -(2 * 16 * 64 * 4 + 4),  # a hidden state and a loss stay on the model between steps
    "XLORA": -2 * 16 * 4 * 2 * 4,  # as are its scalings of each layer
    "CPT": 4,  # a number of the branch on the norm of its embeddings
}
"""Bytes by which a predicted peak differs from a real one."""


def is_trained(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("method", [m for m in METHODS if m not in BUILD_REFUSED])
def test_a_small_llama_has_the_parameters_and_the_peak_of_a_real_step(method: str) -> None:
    before = torch.get_rng_state()
    with tg.meta_construction():
        model = adapted(method)
    report = tg.analyze(model, input_data=IDS, scenario=TRAINING)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert report.execution == ("real" if method == "FROD" else "simulated")  # products of COO
    real = adapted(method)
    assert report.totals.params == sum(p.numel() for p in real.parameters())
    assert report.totals.trainable_params == is_trained(real)
    assert report.memory is not None
    peak = real_peak(real, IDS, training=True)
    assert report.memory.peak_allocated_bytes - peak == UNLIKE.get(method, 0)


@pytest.mark.slow
@pytest.mark.parametrize("method", [m for m in METHODS if m not in BUILD_REFUSED])
def test_llama_3b_is_simulated_whatever_is_attached(method: str) -> None:
    with tg.meta_construction():
        model = adapted(method, LARGE, torch.bfloat16)
    report = tg.analyze(model, input_data=IDS, mode="training", optimizer="adamw", device="L40S")
    assert report.execution == "simulated"
    added = report.totals.params - LARGE_PARAMETERS
    assert 0 < added < LARGE_PARAMETERS / 8 and report.totals.trainable_params > 0
    assert report.memory is not None
    assert report.memory.peak_allocated_bytes > 2 * LARGE_PARAMETERS


@pytest.mark.parametrize("method", BUILD_REFUSED)
def test_what_the_library_refuses_it_says_itself(method: str) -> None:
    kind, reason = BUILD_REFUSED[method]
    for building in (tg.meta_construction(), nullcontext()):
        with building, pytest.raises(kind, match=re.escape(reason)):
            adapted(method)


def test_every_method_is_tried() -> None:
    """A method that a new release of PEFT adds is built with the settings of the others."""
    assert {*SETTINGS, *BUILD_REFUSED, *TASKS} <= set(METHODS)


def test_xlora_mixes_adapters_that_were_stored(tmp_path: Path) -> None:
    for name in ("first", "second"):
        lora = peft.LoraConfig(task_type="CAUSAL_LM", **QV)
        peft.get_peft_model(llama(SMALL, torch.float32), lora).save_pretrained(tmp_path / name)
    stored = {str(n): str(tmp_path / name) for n, name in enumerate(("first", "second"))}
    settings = peft.XLoraConfig(task_type="CAUSAL_LM", hidden_size=64, adapters=stored)
    base = llama({**SMALL, "use_cache": False}, torch.float32)
    model = Trained(peft.get_peft_model(base, settings), has_tasks=False)
    report = tg.analyze(model, input_data=IDS, scenario=TRAINING)
    assert report.totals.params == sum(p.numel() for p in model.parameters())
    assert report.totals.trainable_params == is_trained(model)
    assert report.memory is not None
    peak = real_peak(model, IDS, training=True)
    assert report.memory.peak_allocated_bytes - peak == UNLIKE["XLORA"]
