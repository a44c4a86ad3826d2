"""How long advice takes, in seconds of the CPU."""

from __future__ import annotations

import time
from typing import Any

import pytest
from clean_models import torchvision_model

import torchgauge as tg
from torchgauge.advise.goal.front import LIMIT, limit_of

pytestmark = [pytest.mark.models, pytest.mark.timed]

TRAINING = {"mode": "training", "optimizer": "adamw"}
LLAMA_1B = (
    "hf:llama(hidden_size=2048,intermediate_size=8192,num_hidden_layers=16,"
    "num_attention_heads=32,num_key_value_heads=8,vocab_size=128256,tie_word_embeddings=True)"
)


def seconds_of(model: Any, size: tuple[int, ...], **options: Any) -> float:
    said: list[str] = []
    start = time.process_time()
    advice = tg.advise(model, size, on_progress=said.append, **options)
    taken = time.process_time() - start
    assert sum(line.startswith("trace ") for line in said) == advice.traces
    assert advice.combinations <= LIMIT
    return taken


@pytest.mark.parametrize(
    ("size", "options", "limit"),
    [
        ((3, 224, 224), {}, 10),
        # each of some twenty traces has two thousand operators, an optimizer and an allocator
        ((32, 3, 224, 224), {"device": "T4", **TRAINING}, 20),
        # a goal that checkpoints have to be planned for, in eight more
        ((32, 3, 224, 224), {"device": "T4", "goal": "memory:2GB", **TRAINING}, 20),
    ],
)
def test_resnet50(size: tuple[int, ...], options: dict[str, Any], limit: float) -> None:
    assert seconds_of(torchvision_model("resnet50"), size, **options) < limit


def test_a_llama_of_a_billion_parameters() -> None:
    pytest.importorskip("transformers")
    options = {"device": "H100-SXM", "precision": "bf16", **TRAINING}
    assert seconds_of(LLAMA_1B, (1, 2048), **options) < 30
    assert limit_of(4000) < LIMIT, "a long step traces fewer combinations"
