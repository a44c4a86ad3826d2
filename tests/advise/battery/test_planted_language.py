"""Language models of transformers: the loss in parts, shared keys, weights of 8 bits."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from clean_models import transformers_model
from torch import nn

import torchgauge as tg

pytestmark = [
    pytest.mark.models,
    pytest.mark.filterwarnings("ignore"),  # what the libraries warn of when they are imported
]
KINDS = ("Llama", "Mistral", "Qwen2", "GPTNeoX")
WORDS = torch.arange(128).reshape(2, 64)
DATA: dict[str, Any] = {"input_data": {"input_ids": WORDS, "labels": WORDS}}
TRAINING: dict[str, Any] = DATA | {"mode": "training"}
LARGE: dict[str, Any] = {"vocab_size": 8000}


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_in_parts(kind: str) -> None:
    model = transformers_model(kind, **LARGE)
    (found,) = tg.advise(model, rules=("chunked-loss",), **TRAINING).suggestions
    assert found.proof[0].startswith("run on the CPU in train mode: loss equal within")
    assert found.gain("memory.peak_allocated_bytes") > 0.2
    changed = found.apply(model)
    report = tg.analyze(changed, **TRAINING)
    for figure in found.figures:
        part, _, field = figure.name.partition(".")
        assert getattr(getattr(report, part), field) == figure.after, figure.name
    labels = WORDS.clone()
    labels[0, :9] = -100
    for copied in (model.train(), changed.train()):
        copied(input_ids=WORDS, labels=labels).loss.backward()
    assert set(model.state_dict()) == set(changed.state_dict())
    for before, after in zip(model.parameters(), changed.parameters(), strict=True):
        torch.testing.assert_close(after.grad, before.grad, rtol=1e-4, atol=1e-6)


def test_without_a_loss_it_returns_logits() -> None:
    model = transformers_model("Llama", **LARGE)
    (found,) = tg.advise(model, rules=("chunked-loss",), prove=False, **TRAINING).suggestions
    changed = found.apply(model)
    for copied in (model, changed):
        copied.train()
    torch.testing.assert_close(
        changed(input_ids=WORDS).logits, model(input_ids=WORDS).logits, rtol=1e-5, atol=1e-6
    )
    for copied in (model, changed):
        copied.eval()
    assert torch.equal(changed(input_ids=WORDS, labels=WORDS).logits, model(input_ids=WORDS).logits)


def test_small_logits_are_left() -> None:
    model = transformers_model("Llama", vocab_size=128, hidden_size=256)
    (quiet,) = tg.advise(model, rules=("chunked-loss",), prove=False, **TRAINING).quiet
    assert "less than 5 %" in quiet.why


def test_a_loss_of_masked_words_is_left() -> None:
    model = transformers_model("Bert", **LARGE)
    (quiet,) = tg.advise(model, rules=("chunked-loss",), prove=False, **TRAINING).quiet
    assert "right after a linear head" in quiet.why or "next token" in quiet.why


@pytest.mark.parametrize("kind", ["Llama", "Mistral", "Qwen2"])
def test_shared_keys(kind: str) -> None:
    more = {"num_attention_heads": 8, "num_key_value_heads": 8}
    model = transformers_model(kind, **more)
    (found,) = tg.advise(model, rules=("shared-keys",), **DATA).suggestions
    changed = tg.analyze(found.apply(model), **DATA)
    written = tg.analyze(transformers_model(kind, **more | {"num_key_value_heads": 2}), **DATA)
    for figure in found.figures:
        part, _, field = figure.name.partition(".")
        assert getattr(getattr(changed, part), field) == figure.after, figure.name
        assert getattr(getattr(written, part), field) == figure.after, figure.name


def test_heads_that_are_equal_lose_nothing() -> None:
    more = {"num_attention_heads": 8, "num_key_value_heads": 8}
    model: Any = transformers_model("Llama", **more).eval()
    for layer in model.model.layers:
        for name in ("k_proj", "v_proj"):
            weight = getattr(layer.self_attn, name).weight
            with torch.no_grad():
                weight.copy_(weight[::32].repeat_interleave(4, 0).repeat(8, 1)[: len(weight)])
                heads = weight.unflatten(0, (2, 4, 8))
                heads.copy_(heads[:, :1].expand_as(heads).clone())
    (found,) = tg.advise(model, rules=("shared-keys",), **DATA).suggestions
    changed = found.apply(model).eval()
    torch.testing.assert_close(
        changed(input_ids=WORDS).logits, model(input_ids=WORDS).logits, rtol=1e-4, atol=1e-5
    )


@pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")
def test_weights_of_8_bits() -> None:
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 10)).eval()
    (found,) = tg.advise(model, (4, 256), rules=("int8-weights",)).suggestions
    changed = found.apply(model)
    bytes_of = {figure.name: figure.after for figure in found.figures}["totals.param_bytes"]
    scales, biases, zero_points = 4 * 522, 4 * 522, 522
    assert bytes_of == 256 * 512 + 512 * 10 + scales + biases + zero_points
    x = torch.randn(4, 256)
    torch.testing.assert_close(changed(x), model(x), rtol=0.05, atol=0.02)
    assert model[0].weight.dtype is torch.float32
