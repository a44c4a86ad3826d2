"""Settings without which the default configuration of a model type does not run at all.

transformers 5.23 leaves them open or at odds with each other, so ``hf:TYPE`` alone would lead to
an error of the model on any input. Each is the value of the published model, or the one with which
the other defaults fit together. Whoever names a setting or a file of their own gets none of these.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

_SHOWN = 400
"""Characters of a value up to which it is written out."""
_HALF_ROTARY = {"rope_theta": 10000.0, "rope_type": "default", "partial_rotary_factor": 0.5}
"""The rotary sections 8, 12 and 12 are a quarter of a head of 128: half of it is rotated."""
_ROTARY = {"rope_theta": 10000.0, "rope_type": "default"}
_FOUR_AXES = {**_ROTARY, "mrope_section": [16, 16, 16, 16]}
_PERCEPTION_ENCODER = {  # Perception-LM 1B: timm's PE core L/14 without its last block and pooling
    "model_type": "timm_wrapper",
    "architecture": "vit_pe_core_large_patch14_336",
    "model_args": {
        "embed_dim": 1024,
        "depth": 23,
        "img_size": [448, 448],
        "global_pool": "",
        "use_post_transformer_norm": False,
        "init_values": 0.1,
        "ref_feat_shape": [32, 32],
    },
}
_REPVIT = {  # EdgeTAM; transformers misspells "architecture" and gets a ResNet-50
    "model_type": "timm_wrapper",
    "architecture": "repvit_m1",
    "model_args": {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
    "num_classes": 1000,
}
_SIGLIP_896 = {"model_type": "siglip_vision_model", "image_size": 896, "patch_size": 14}
_CHAMELEON_WORDS = {  # the numbers of an image's words are written in letters: A is 0
    "<image>": 8711,
    **{
        f"IMGIMG{str(code).translate(str.maketrans('0123456789', 'ABCDEFGHIJ'))}Z": 4 + code
        for code in range(8192)
    },
}
_EMU3_WORDS = {
    "<image>": 151_646,
    "<|extra_200|>": 151_846,
    **{f"<|visual token {code:06d}|>": 151_854 + code for code in range(32_768)},
}
_SERIES = {"prediction_length": 24, "num_time_features": 2}
"""Of the models trained on tourism-monthly."""


def _attention_at(places: tuple[int, ...], count: int, *, otherwise: str) -> list[str]:
    return ["full_attention" if place in places else otherwise for place in range(count)]


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
    "idefics3": {"vision_config.image_size": 364, "vision_config.patch_size": 14},  # Idefics3 8B
    "smolvlm": {"vision_config.image_size": 512, "vision_config.patch_size": 16},  # SmolVLM2
    "ultravbert": {"vision_config.image_size": 512, "vision_config.patch_size": 16},
    "modernvbert": {"vision_config.image_size": 512, "vision_config.patch_size": 16},
    "granite_speech": {"projector_config.encoder_hidden_size": 1024},  # granite-speech-3.3
    "granite_speech_plus": {"projector_config.encoder_hidden_size": 1024},
    "deepseek_v2": {"num_experts_per_tok": 6},  # DeepSeek-V2
    "ministral": {"head_dim": 128},  # Ministral 8B
    "hunyuan_v1_dense": {"head_dim": 128},  # Hunyuan 7B
    "hunyuan_v1_moe": {"head_dim": 128},
    "hunyuan_vl_text": {"head_dim": 128, "rope_parameters": _FOUR_AXES},  # HunyuanOCR
    "timm_backbone": {"backbone": "resnet50"},
    "hunyuan_vl": {"text_config.head_dim": 128, "text_config.rope_parameters": _FOUR_AXES},
    "aya_vision": {"vision_config.num_attention_heads": 16},  # SigLIP2 so400m
    "diffusion_gemma": {  # DiffusionGemma 26B-A4B
        "text_config.num_experts": 128,
        "text_config.top_k_experts": 8,
        "text_config.moe_intermediate_size": 704,
    },
    "blt": {"num_hidden_layers": 9},  # as its decoder: what the cache is made for
    "deepseek_ocr2": {  # DeepSeek-OCR 2: its encoder is Qwen2 0.5B, all but a layer have experts
        "vision_config.encoder_config": {
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
        },
        "text_config.mlp_layer_types": ["dense", *["sparse"] * 31],
        "text_config.num_experts_per_tok": 6,
    },
    "dots1": {"n_routed_experts": 128, "n_shared_experts": 2, "num_experts_per_tok": 6},
    "lfm2_moe": {  # LFM2-8B-A1B
        "num_hidden_layers": 24,
        "layer_types": _attention_at((2, 6, 10, 14, 18, 21), 24, otherwise="conv"),
    },
    "granitemoehybrid": {  # none is an attention otherwise; every tenth is in Granite 4
        "layer_types": _attention_at((5, 15, 25), 32, otherwise="linear_attention")
    },
    "nemotron": {"num_key_value_heads": 8},  # Nemotron-4 15B
    "dbrx": {"attn_config.rope_theta": 500_000.0, "attn_config.clip_qkv": 8},  # DBRX
    "moonshine_streaming": {"num_key_value_heads": 8},  # as in its encoder
    "t5gemma2_encoder": {  # T5Gemma 2
        "text_config.dropout_rate": 0.0,
        "vision_config": _SIGLIP_896,
    },
    "step3p7": {"text_config.sliding_window": 512},  # Step-3.5-Flash
    "cohere_compass": {"text_config.rope_parameters": {"full_attention": _ROTARY}},
    "cohere_compass_text": {"rope_parameters": {"full_attention": _ROTARY}},
    "perception_lm": {"vision_config": _PERCEPTION_ENCODER},
    "edgetam": {"vision_config.backbone_config": _REPVIT},
    "edgetam_vision_model": {"backbone_config": _REPVIT},
    "granite4_vision": {  # 576 tokens for an image; the layers lie evenly over the default 12
        "vision_config": {"model_type": "clip_vision_model", "image_size": 336, "patch_size": 14},
        "downsample_rate": "1/2",
        "deepstack_layer_map": [[-10, 9], [-7, 6], [-4, 3], [-1, 0]],
    },
    "chameleon": {"vocabulary_map": _CHAMELEON_WORDS},
    "emu3": {"vocabulary_map": _EMU3_WORDS},
    "voxtral": {"audio_token_id": 24},  # Voxtral Mini and Small
    "pp_ocrv6_small_det": {  # the backbone that transformers declares, and its widths
        "backbone_config": {
            "model_type": "pp_lcnet_v3",
            "scale": 0.75,
            "divisor": 16,
            "out_features": ["stage2", "stage3", "stage4", "stage5"],
        },
        "layer_list_out_channels": [48, 96, 192, 384],
    },
    "janus": {"vision_config.projection_dim": 4096},  # as wide as its language model
    "ovis2": {"hidden_size": 4096},
    # Llama 4: the projector takes four patches at once, and what comes of it
    "llama4": {"vision_config.hidden_size": 1408, "vision_config.vision_output_dim": 4096},
    "t5gemma2": {"encoder.vision_config": _SIGLIP_896},
    "qwen3_omni_moe_thinker": {"text_config.head_dim": 128},  # Qwen3-Omni 30B-A3B
    "lw_detr": {"projector_scale_factors": [1.0]},  # LW-DETR tiny to medium
    "uvdoc": {
        "backbone_config": {
            "model_type": "uvdoc_backbone",
            "out_features": [f"stage{number}" for number in range(1, 7)],
        }
    },
    "lightglue": {  # SuperPoint finds as many as there are pixels otherwise
        "keypoint_detector_config": {"model_type": "superpoint", "max_keypoints": 2048}
    },
    "autoformer": _SERIES,
    "informer": _SERIES,
    "time_series_transformer": _SERIES,
}


def open_settings(model_type: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the required settings that were not given."""
    needed = _SETTINGS.get(model_type, {})
    parts = {name.partition(".")[0] for name in given}
    return {
        name: copy.deepcopy(value)
        for name, value in needed.items()
        if name.partition(".")[0] not in parts
    }


def fitting_settings(config: Any) -> dict[str, Any]:
    """Return the settings with which the default towers give what the language model takes.

    The towers of Qwen's kind say their own width, which the default text model does not have.
    Gemma 4's kind reads images, but has no tower for them by default.
    """
    fitting: dict[str, Any] = {}
    wanted = getattr(getattr(config, "text_config", None), "hidden_size", None)
    for part, setting in (("vision_config", "out_hidden_size"), ("audio_config", "output_dim")):
        width = getattr(getattr(config, part, None), setting, None)
        if isinstance(width, int) and isinstance(wanted, int) and width != wanted:
            fitting[f"{part}.{setting}"] = wanted
    if "vision_config" in _default_parts(config) and config.vision_config is None:
        fitting["vision_config"] = {}
    return fitting


def _default_parts(config: Any) -> Any:
    return getattr(type(config), "sub_configs_defaults", None) or ()


def said(model_type: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the line for the report's assumptions, if any setting was added."""
    if not settings:
        return ()
    listed = ", ".join(f"{name}={_shortened(value)}" for name, value in settings.items())
    return (f"{listed} was set: the default configuration of {model_type} does not run without it",)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{type(value).__name__} of {len(value)}"
