"""Inputs for a transformers model when the user names none: from its configuration."""

from __future__ import annotations

import inspect
from typing import Any

from torchgauge.cli.model_build import DefaultInputs

_TOKENS = 128
_SECOND_OF_AUDIO = 16_000
"""Samples of one second at 16 kHz, what the speech models of transformers are trained on."""

_Sizes = dict[str, tuple[int, ...]]


def default_inputs(model: Any, config: Any) -> DefaultInputs | None:
    """Return sizes by argument name, ``None`` for a kind of input that is not known here.

    Tokens: 128, or as many as the model has positions for. Images, spectrograms: as configured.
    """
    main = getattr(model, "main_input_name", "input_ids")
    sizes = _main_size(main, config)
    if sizes is None:
        return None
    arguments = inspect.signature(model.forward).parameters
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in arguments:
        sizes["decoder_input_ids"] = (_token_count(config),)
    if main == "input_ids" and "pixel_values" in arguments and not _generates(model):
        sizes |= _image_size(config) or {}  # CLIP and its kind need both
    if not set(sizes) <= set(arguments):
        return None
    text = " ".join(f"{name}={','.join(map(str, size))}" for name, size in sizes.items())
    is_tokens = all(name.endswith("input_ids") for name in sizes)
    return DefaultInputs(
        sizes=sizes,
        dtypes=("int64",) * len(sizes) if is_tokens else (),
        why=f"input size {text} per sample, the usual for {config.model_type} "
        "(choose with --input-size)",
    )


def _main_size(name: str, config: Any) -> _Sizes | None:
    if name == "input_ids":
        return {"input_ids": (_token_count(config),)}
    if name == "pixel_values":
        return _image_size(config)
    if name == "input_values":
        return {"input_values": (_SECOND_OF_AUDIO,)}
    bins = getattr(config, "num_mel_bins", None)
    positions = getattr(config, "max_source_positions", None)
    if name == "input_features" and bins and positions:
        # Whisper's encoder halves the number of frames before it adds the positions.
        return {"input_features": (bins, 2 * positions)}
    return None


def _token_count(config: Any) -> int:
    text = getattr(config, "text_config", None) or config
    positions = getattr(text, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        return min(_TOKENS, positions)
    return _TOKENS


def _image_size(config: Any) -> _Sizes | None:
    vision = getattr(config, "vision_config", None) or config
    side = getattr(vision, "image_size", None)
    if not side:
        return None
    height, width = (side, side) if isinstance(side, int) else tuple(side)[:2]
    return {"pixel_values": (getattr(vision, "num_channels", 3), height, width)}


def _generates(model: Any) -> bool:
    return bool(getattr(model, "can_generate", lambda: False)())
