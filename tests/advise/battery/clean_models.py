"""Models of libraries as they come: none of them has a fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import nn

from torchgauge.models.torchvision_operators import define_missing_operators


def torchvision_model(name: str) -> nn.Module:
    """Return a model of torchvision, without weights of a training."""
    define_missing_operators()
    from torchvision import models

    more = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model: nn.Module = models.get_model(name, weights=None, **more)
    return model


def timm_model(name: str) -> nn.Module:
    """Return a model of timm."""
    define_missing_operators()
    import timm

    model: nn.Module = timm.create_model(name)
    return model


def transformers_model(name: str, **more: Any) -> nn.Module:
    """Return a small model of transformers; ``more`` are settings of its configuration."""
    define_missing_operators()
    import transformers

    settings: dict[str, Any] = {
        "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }  # fmt: skip
    settings |= _SETTINGS.get(name, {}) | more
    config = getattr(transformers, f"{name}Config")(**settings)
    model: nn.Module = getattr(transformers, _CLASSES[name])(config)
    return model


_SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "GPT2": {"n_embd": 64, "n_layer": 2, "n_head": 4},
    "DistilBert": {"dim": 64, "n_heads": 4, "n_layers": 2, "hidden_dim": 128},
    "T5": {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4},
    "Albert": {"embedding_size": 32},
    "Llama": {"num_key_value_heads": 2},
    "Mistral": {"num_key_value_heads": 2},
    "Qwen2": {"num_key_value_heads": 2},
}
_CLASSES: Final = {
    "Llama": "LlamaForCausalLM", "Mistral": "MistralForCausalLM", "Qwen2": "Qwen2ForCausalLM",
    "GPT2": "GPT2LMHeadModel", "GPTNeoX": "GPTNeoXForCausalLM", "Bert": "BertForMaskedLM",
    "Roberta": "RobertaForMaskedLM", "Albert": "AlbertForMaskedLM",
    "DistilBert": "DistilBertForMaskedLM", "Electra": "ElectraForMaskedLM",
}  # fmt: skip
_TORCHVISION = (
    "alexnet", "vgg11_bn", "resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_large",
    "efficientnet_b0", "densenet121", "squeezenet1_1", "shufflenet_v2_x1_0", "mnasnet1_0",
    "regnet_y_400mf", "convnext_tiny", "swin_t", "vit_b_16",
)  # fmt: skip
_TIMM = (
    "resnet26", "efficientnet_b0", "mobilenetv3_small_100", "vit_tiny_patch16_224",
    "deit_tiny_patch16_224", "mixer_s32_224", "poolformer_s12", "convnextv2_atto",
    "ghostnet_100", "repvgg_a0", "levit_128s", "edgenext_xx_small", "mobilevit_xxs",
    "coat_lite_tiny", "gmlp_s16_224",
)  # fmt: skip


def clean_models() -> dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]]:
    """Return each model by its name, with what ``advise`` needs to run it."""
    found: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {}
    image: dict[str, Any] = {"input_size": (2, 3, 224, 224)}
    for name in _TORCHVISION:
        found[f"torchvision:{name}"] = (lambda name=name: torchvision_model(name)), image
    for name in _TIMM:
        found[f"timm:{name}"] = (lambda name=name: timm_model(name)), image
    words = torch.arange(32).reshape(2, 16)
    for name in _CLASSES:
        data = {"input_data": {"input_ids": words, "labels": words}}
        found[f"transformers:{name}"] = (lambda name=name: transformers_model(name)), data
    return found
