"""Language models made from their published ``config.json``, without the hub.

The sizes are written down from the models' cards and configurations; each is checked by the
parameter count that its publisher states (``PARAMETERS``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from torchgauge.models.torchvision_operators import define_missing_operators


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Classes of transformers, the settings that differ from their defaults, the true count."""

    config: str
    model: str
    parameters: int
    """Unique parameters, tied weights once."""
    settings: dict[str, Any] = field(default_factory=dict)


_GPT_NEO = {
    "num_layers": 12, "attention_types": [[["global", "local"], 6]], "hidden_size": 768,
    "num_heads": 12, "intermediate_size": None, "max_position_embeddings": 2048,
    "vocab_size": 50_257,
}  # fmt: skip
_OPT = {"max_position_embeddings": 2048, "vocab_size": 50_272, "activation_function": "relu"}
_LLAMA = {"vocab_size": 128_256, "num_key_value_heads": 8, "head_dim": 128,
          "tie_word_embeddings": True}  # fmt: skip
_QWEN3 = {"vocab_size": 151_936, "num_key_value_heads": 8, "head_dim": 128,
          "tie_word_embeddings": True}  # fmt: skip
_PYTHIA = {"vocab_size": 50_304, "max_position_embeddings": 2048, "rotary_pct": 0.25,
           "tie_word_embeddings": False}  # fmt: skip

MODELS: dict[str, Published] = {
    "openai-community/gpt2": Published(
        config="GPT2Config", model="GPT2LMHeadModel", parameters=124_439_808),
    "distilbert/distilgpt2": Published(
        config="GPT2Config", model="GPT2LMHeadModel", parameters=81_912_576,
        settings={"n_layer": 6}),
    "cerebras/Cerebras-GPT-111M": Published(
        config="GPT2Config", model="GPT2LMHeadModel", parameters=111_050_496,
        settings={"n_layer": 10, "n_inner": 3072, "n_positions": 2048,
                  "activation_function": "gelu", "resid_pdrop": 0.0, "embd_pdrop": 0.0,
                  "attn_pdrop": 0.0}),
    "EleutherAI/gpt-neo-125M": Published(
        config="GPTNeoConfig", model="GPTNeoForCausalLM", parameters=125_198_592,
        settings=_GPT_NEO),
    "facebook/opt-125m": Published(
        config="OPTConfig", model="OPTForCausalLM", parameters=125_239_296,
        settings={**_OPT, "hidden_size": 768, "num_hidden_layers": 12, "ffn_dim": 3072,
                  "num_attention_heads": 12, "word_embed_proj_dim": 768}),
    "facebook/opt-350m": Published(
        config="OPTConfig", model="OPTForCausalLM", parameters=331_196_416,
        settings={**_OPT, "hidden_size": 1024, "num_hidden_layers": 24, "ffn_dim": 4096,
                  "num_attention_heads": 16, "word_embed_proj_dim": 512,
                  "do_layer_norm_before": False}),
    "EleutherAI/pythia-160m": Published(
        config="GPTNeoXConfig", model="GPTNeoXForCausalLM", parameters=162_322_944,
        settings={**_PYTHIA, "hidden_size": 768, "num_hidden_layers": 12,
                  "num_attention_heads": 12, "intermediate_size": 3072}),
    "EleutherAI/pythia-410m": Published(
        config="GPTNeoXConfig", model="GPTNeoXForCausalLM", parameters=405_334_016,
        settings={**_PYTHIA, "hidden_size": 1024, "num_hidden_layers": 24,
                  "num_attention_heads": 16, "intermediate_size": 4096}),
    "EleutherAI/pythia-1b": Published(
        config="GPTNeoXConfig", model="GPTNeoXForCausalLM", parameters=1_011_781_632,
        settings={**_PYTHIA, "hidden_size": 2048, "num_hidden_layers": 16,
                  "num_attention_heads": 8, "intermediate_size": 8192}),
    "google-t5/t5-small": Published(
        config="T5Config", model="T5ForConditionalGeneration", parameters=60_506_624,
        settings={"d_model": 512, "d_ff": 2048, "num_layers": 6, "num_heads": 8,
                  "decoder_start_token_id": 0}),
    "google-t5/t5-base": Published(
        config="T5Config", model="T5ForConditionalGeneration", parameters=222_903_552,
        settings={"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12,
                  "decoder_start_token_id": 0}),
    "Qwen/Qwen3-0.6B": Published(
        config="Qwen3Config", model="Qwen3ForCausalLM", parameters=596_049_920,
        settings={**_QWEN3, "hidden_size": 1024, "intermediate_size": 3072,
                  "num_hidden_layers": 28, "num_attention_heads": 16}),
    "Qwen/Qwen3-4B": Published(
        config="Qwen3Config", model="Qwen3ForCausalLM", parameters=4_022_468_096,
        settings={**_QWEN3, "hidden_size": 2560, "intermediate_size": 9728,
                  "num_hidden_layers": 36, "num_attention_heads": 32}),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": Published(
        config="Qwen2Config", model="Qwen2ForCausalLM", parameters=1_777_088_000,
        settings={"vocab_size": 151_936, "hidden_size": 1536, "intermediate_size": 8960,
                  "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
                  "tie_word_embeddings": False}),
    "meta-llama/Llama-3.2-1B": Published(
        config="LlamaConfig", model="LlamaForCausalLM", parameters=1_235_814_400,
        settings={**_LLAMA, "head_dim": 64, "hidden_size": 2048, "intermediate_size": 8192,
                  "num_hidden_layers": 16, "num_attention_heads": 32}),
    "meta-llama/Llama-3.2-3B": Published(
        config="LlamaConfig", model="LlamaForCausalLM", parameters=3_212_749_824,
        settings={**_LLAMA, "hidden_size": 3072, "intermediate_size": 8192,
                  "num_hidden_layers": 28, "num_attention_heads": 24}),
    "google/gemma-2-2b": Published(
        config="Gemma2Config", model="Gemma2ForCausalLM", parameters=2_614_341_888,
        settings={"vocab_size": 256_000, "hidden_size": 2304, "intermediate_size": 9216,
                  "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4,
                  "head_dim": 256, "query_pre_attn_scalar": 256}),
}  # fmt: skip
"""Name on the hub → what it is made of."""

ALIASES = {
    "T5-small": "google-t5/t5-small",
    "t5-small": "google-t5/t5-small",
    "t5-base": "google-t5/t5-base",
    "meta-llama/Llama-3.2-3B-Instruct": "meta-llama/Llama-3.2-3B",
}


def published(name: str) -> Published:
    """Return what is known of a model.

    Raises:
        KeyError: when nothing is written down for it.
    """
    return MODELS[ALIASES.get(name, name)]


def language_model(name: str, *, dtype: str = "float32") -> nn.Module:
    """Return a model of the hub without weights, with the attention it takes by itself."""
    define_missing_operators()
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    known = published(name)
    config = getattr(transformers, known.config)(**known.settings)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        model: nn.Module = getattr(transformers, known.model)(config)
    finally:
        torch.set_default_dtype(before)
    return model
