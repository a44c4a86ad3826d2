"""A checkpoint in bfloat16, as built and in each named precision, against closed forms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")

import torchgauge as tg
from torchgauge.cli.main import main
from torchgauge.facts.fit import Part
from torchgauge.facts.scenario import Precision
from torchgauge.models.spec import build_model, parse_model_spec
from torchgauge.render.pages.report import report_page

pytestmark = pytest.mark.models

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, HEAD, VOCABULARY = 8192, 28672, 4, 64, 8, 128, 32000
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN,
    "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS, "head_dim": HEAD, "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096, "tie_word_embeddings": False,
}  # fmt: skip
PARAMETERS = (
    2 * VOCABULARY * HIDDEN
    + HIDDEN
    + LAYERS
    * (2 * HIDDEN * HIDDEN + 2 * HIDDEN * KV_HEADS * HEAD + 3 * HIDDEN * INNER + 2 * HIDDEN)
)
GPU, CONTEXT, BATCH = "RTX 4090", 512, 2
SIZES = {"as-built": 2, "fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2,
         "bf16-autocast": 4, "fp16-autocast": 4}  # fmt: skip
"""Bytes of a parameter of the checkpoint in each precision."""
HEADERS = {"as-built": "as built: bf16"}


@pytest.fixture(scope="module", params=["dtype", "torch_dtype"])
def config(request, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp(request.param) / "config.json"
    path.write_text(json.dumps({**CONFIG, request.param: "bfloat16"}))
    return path


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> torch.nn.Module:
    path = tmp_path_factory.mktemp("llama") / "config.json"
    path.write_text(json.dumps({**CONFIG, "dtype": "bfloat16"}))
    return build_model(parse_model_spec(f"hf:{path}", {})).model


@pytest.mark.parametrize("precision", SIZES)
def test_the_bytes_of_a_training_step(llama, precision):
    scenario = tg.Scenario(mode="training", optimizer="adamw", device=GPU, precision=precision)
    report = tg.analyze(llama, (1, 16), scenario=scenario)
    memory, size = report.memory, SIZES[precision]
    assert report.totals.params == PARAMETERS
    assert report.totals.param_bytes == memory.parameter_bytes == size * PARAMETERS
    assert memory.gradient_bytes == size * PARAMETERS
    assert memory.optimizer_bytes == 2 * size * PARAMETERS  # the step counts lie in main memory
    assert next(llama.parameters()).dtype is torch.bfloat16  # the user's own is left as it was


@pytest.mark.parametrize("precision", SIZES)
def test_keys_and_values(llama, precision):
    """In autocast the keys and values are those of float32, see ``test_what_autocast_keeps``."""
    report = tg.fits(
        llama, device=GPU, context=CONTEXT, batch_size=BATCH, search=False, alternatives=False,
        scenario=tg.Scenario(precision=precision),
    )  # fmt: skip
    per_token = 2 * LAYERS * KV_HEADS * HEAD * SIZES[precision]
    assert report.cache.bytes_per_token == per_token
    assert report.cache.cache_bytes == per_token * CONTEXT * BATCH
    assert report.breakdown[Part.PARAMETERS] >= SIZES[precision] * PARAMETERS
    # What is returned, in the prompt or the last token: the cache and one position's logits.
    logits = 4 * BATCH * VOCABULARY
    assert 0 < report.breakdown[Part.OUTPUTS] <= report.cache.cache_bytes + logits


def test_what_autocast_keeps():
    """A real run: rotated keys are float32, and the cache promotes the values to their dtype."""
    from transformers import LlamaConfig, LlamaForCausalLM

    small = {**CONFIG, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
             "vocab_size": 100}  # fmt: skip
    model = LlamaForCausalLM(LlamaConfig(**small)).float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        cache = model(input_ids=torch.zeros(1, 8, dtype=torch.int64)).past_key_values
    assert {layer.keys.dtype for layer in cache.layers} == {torch.float32}
    assert {layer.values.dtype for layer in cache.layers} == {torch.float32}


@pytest.mark.parametrize("precision", [None, "fp32", "bf16", "bf16-autocast", "fp16"])
def test_header_and_verdict(config, capsys, precision):
    """3.9 billion parameters: 7.4 GiB in 16 bits fit into 12 GB, 14.7 GiB in 32 bits do not."""
    status = main(
        ["fit", f"hf:{config}", "--input-size", "1,512", "--device", "RTX 3060 12GB",
         "--no-search", "--no-alternatives", "--quiet", "--strict", "--width", "200",
         *(() if precision is None else ("--precision", precision))]
    )  # fmt: skip
    header, verdict = capsys.readouterr().out.split("\n\n")[:2]
    name = precision or "as-built"
    shown = header.split(" · ")
    assert HEADERS.get(name, name) in shown
    assert (status == 0) == (SIZES[name] == 2), verdict
    assert ("yes:" if SIZES[name] == 2 else "no:") in verdict


def test_the_title_of_a_summary(llama):
    titles = {
        precision: report_page(tg.analyze(llama, precision=precision)).title
        for precision in Precision
    }
    assert "as built: bf16" in titles[Precision.AS_BUILT]
    assert all(name in title for name, title in titles.items() if name != "as-built")
