"""Settings without which the default configuration of a model type does not run at all.

transformers 5.23 leaves them open or at odds with each other, so ``hf:TYPE`` alone would lead to
an error of the model on any input. Each is the value of the published model, or the one with which
the other defaults fit together. Whoever names a setting or a file of their own gets none of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HALF_ROTARY = {"rope_theta": 10000.0, "rope_type": "default", "partial_rotary_factor": 0.5}
"""The rotary sections 8, 12 and 12 are a quarter of a head of 128: half of it is rotated."""
_SERIES = {"prediction_length": 24, "num_time_features": 2}
"""Of the models trained on tourism-monthly."""

_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "glm4v": {"text_config.rope_parameters": _HALF_ROTARY},
    "glm46v": {"text_config.rope_parameters": _HALF_ROTARY},
    "glm4v_text": {"rope_parameters": _HALF_ROTARY},
    "glmga": {"text_config.rope_parameters": _HALF_ROTARY},
    "glm_image": {"text_config.rope_parameters": _HALF_ROTARY},
    "glm_image_text": {"rope_parameters": _HALF_ROTARY},
    "glm4v_moe": {"text_config.head_dim": 128},  # GLM-4.5V
    "glm4v_moe_text": {"head_dim": 128},
    "esm": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32},  # ESM-2
    "bamba": {"attn_layer_indices": [9, 18, 27]},  # Bamba-9B; none is an attention otherwise
    "blip-2": {"image_token_index": 50_265},  # blip2-opt-2.7b
    "instructblip": {"image_token_index": 50_265},
    "instructblipvideo": {"video_token_index": 50_265},
    "qwen2_vl": {"vision_config.hidden_size": 8192},  # Qwen2-VL-72B: its merger's width
    "gemma3": {"vision_config.image_size": 896, "vision_config.patch_size": 14},  # Gemma 3 4B
    "aria": {"vision_config.image_size": 980, "vision_config.patch_size": 14},  # Aria
    "granite_speech": {"projector_config.encoder_hidden_size": 1024},  # granite-speech-3.3
    "granite_speech_plus": {"projector_config.encoder_hidden_size": 1024},
    "deepseek_v2": {"num_experts_per_tok": 6},  # DeepSeek-V2
    "ministral": {"head_dim": 128},  # Ministral 8B
    "hunyuan_v1_dense": {"head_dim": 128},  # Hunyuan 7B
    "hunyuan_v1_moe": {"head_dim": 128},
    "hunyuan_vl_text": {"head_dim": 128},
    "timm_backbone": {"backbone": "resnet50"},
    "aya_vision": {"vision_config.num_attention_heads": 16},  # SigLIP2 so400m
    "autoformer": _SERIES,
    "informer": _SERIES,
    "time_series_transformer": _SERIES,
}


def open_settings(model_type: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are needed and not given."""
    needed = _SETTINGS.get(model_type, {})
    parts = {name.partition(".")[0] for name in given}
    return {name: value for name, value in needed.items() if name.partition(".")[0] not in parts}


def fitting_settings(config: Any) -> dict[str, Any]:
    """Return the settings with which a default tower gives what the language model takes.

    The towers of Qwen's kind say their own width, which the default text model does not have.
    """
    tower, text = getattr(config, "vision_config", None), getattr(config, "text_config", None)
    width, wanted = getattr(tower, "out_hidden_size", None), getattr(text, "hidden_size", None)
    if not isinstance(width, int) or not isinstance(wanted, int) or width == wanted:
        return {}
    return {"vision_config.out_hidden_size": wanted}


def said(model_type: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the line for the report's assumptions, if any setting was added."""
    if not settings:
        return ()
    listed = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    return (f"{listed} was set: the default configuration of {model_type} does not run without",)
