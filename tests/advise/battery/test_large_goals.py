"""The way to a GPU that is far too small for a step: found, or said that there is none."""

from __future__ import annotations

import pytest

import torchgauge as tg
from torchgauge.advise.goal.search import LIMIT
from torchgauge.facts.loop.advice import Advice

pytest.importorskip("transformers")
pytestmark = [pytest.mark.models]

LLAMA_3B = (
    "hf:llama(hidden_size=3072,intermediate_size=8192,num_hidden_layers=28,"
    "num_attention_heads=24,num_key_value_heads=8,vocab_size=128256,tie_word_embeddings=True)"
)
SIZE = (4, 768)
STEP = {"mode": "training", "optimizer": "adamw", "precision": "bf16"}
GPU = "RTX 3060 12GB"


def advised(allow: str) -> Advice:
    return tg.advise(LLAMA_3B, SIZE, goal=f"fit:{GPU}", allow=allow, prove=False, **STEP)


def device_bytes(advice: Advice) -> float:
    figures = {figure.name: figure.after for figure in advice.path[-1].figures}
    after = figures["memory.device_bytes"]
    assert after is not None
    return after


def test_adapters_and_a_plan_fit_a_small_gpu() -> None:
    """Micro-batches and adapters would too."""
    advice = advised("retrain")
    assert advice.reached and 0 < advice.combinations <= LIMIT
    assert [step.rule for step in advice.path] == ["scenario"] * 2 + ["lora", "plan-checkpoints"]
    assert advice.path[0].text == "use expandable segments in the allocator"
    assert advice.path[1].text == "use the fused adamw"
    # docs/advice.md
    assert round(advice.figures["memory.device_bytes"] / 2**30, 2) == 33.40
    assert round(device_bytes(advice) / 2**30, 2) == 11.21


def test_the_same_parameters_in_the_same_precision_do_not_fit() -> None:
    advice = advised("small")
    assert advice.reached is False
    least = 2 * 2 * advice.figures["totals.params"]  # bf16 parameters and gradients
    assert device_bytes(advice) > least > 12e9
    name = advice.nearest.removeprefix("it fits ")
    assert name and name != advice.nearest
