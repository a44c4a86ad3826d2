"""What a configuration of transformers says of sizes, wherever in its parts it says so."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

_TOKENS = 128
_FRAMES = 8 * _TOKENS
"""Ten seconds at 10 ms each: as many as give 128 steps where an encoder joins 8."""
_DEFAULT_SIDE = 224
"""Of images where a convolutional network takes any: what ImageNet models are evaluated with."""


def parts(config: Any) -> Iterator[tuple[str, Any]]:
    """Return the configuration and those inside of it with their names, the outer ones first."""
    level = [("", config)]
    while level:
        yield from level
        level = [
            (name, value)
            for _, part in level
            for name, value in vars(part).items()
            if hasattr(value, "to_dict") and hasattr(value, "model_type")
        ]


def setting(config: Any, name: str, otherwise: Any = None) -> Any:
    """Return a setting; raise where it is missing or differs between layers."""
    try:
        return getattr(config, name, otherwise)
    except Exception:
        return otherwise


def find(config: Any, *names: str, within: tuple[str, ...] = ()) -> Any:
    """Return the first of the settings that has a value, ``None`` where none has.

    Parts whose name contains one of ``within`` are asked first.
    """
    known = list(parts(config))
    preferred = [part for part in known if any(word in part[0] for word in within)]
    for _, part in (*preferred, *known):
        for name in names:
            value = setting(part, name)
            if value is not None and not isinstance(value, bool):
                return value
    return None


def number(config: Any, *names: str, within: tuple[str, ...] = (), otherwise: int = 0) -> int:
    """Return a setting that is a positive number, or the last of several."""
    value = find(config, *names, within=within)
    if isinstance(value, (list, tuple)) and value:
        value = value[-1]
    return value if isinstance(value, int) and value > 0 else otherwise


def token_count(config: Any) -> int:
    """Return 128, or as many tokens as the model has positions for."""
    text = getattr(config, "text_config", None) or config
    positions = getattr(text, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        return min(_TOKENS, positions)
    return _TOKENS


VISION = ("vision", "backbone", "video", "image")
SPEECH = ("audio", "speech", "encoder", "acoustic", "asr")


def image_size(config: Any, *, part: str = "") -> tuple[int, int]:
    """Return height and width: as configured, 224 where any would do."""
    within = (part,) if part else VISION
    side = find(config, "image_size", "img_size", "crop_size", "max_img_size", within=within)
    ratios = find(config, "scaled_images_ratios")
    if isinstance(ratios, (list, tuple)) and ratios:  # depth_pro: the smallest is one patch
        side = round(number(config, "patch_size", otherwise=16) / min(ratios))
    timm = find(config, "model_args", within=within)
    if side is None and isinstance(timm, dict):
        side = timm.get("img_size")
    if isinstance(side, int):
        step = number(config, "patch_size") * number(config, "num_windows")
        side = -(-side // step) * step if step else side  # RF-DETR's backbone: whole windows
        return (side, side)
    if isinstance(side, (list, tuple)) and len(side) >= 2:
        return (int(side[0]), int(side[1]))
    patches = number(config, "num_patches", within=within)
    if patches:
        side = round(patches**0.5) * patch_size(config)
        return (side, side)
    if side := _largest_map(config):
        return (side, side)
    return (_DEFAULT_SIDE, _DEFAULT_SIDE)


def _largest_map(config: Any) -> int:
    """Return the side of an image whose feature maps are given (SAM's: a quarter of it)."""
    maps = find(config, "backbone_feature_sizes")
    first = maps[0] if isinstance(maps, (list, tuple)) and maps else None
    return 4 * int(first[0]) if isinstance(first, (list, tuple)) else 0


def patch_size(config: Any) -> int:
    """Return the side of a patch, 16 where there are none."""
    return number(config, "patch_size", within=VISION, otherwise=16)


def channels(config: Any) -> int:
    """Return the channels of an image."""
    found = find(config, "num_channels", "in_channels", "in_chans", within=VISION)
    return found if isinstance(found, int) else 3


def frames(config: Any) -> int:
    """Return the frames of a clip, 0 where the model takes images alone."""
    return number(config, "num_frames", "frames_per_clip", within=VISION)


def merge_size(config: Any) -> int:
    """Return the side of the square of patches that become one, 1 where each stays alone."""
    return number(
        config, "spatial_merge_size", "merge_size", "merge_kernel_size", "pooling_kernel_size",
        within=VISION, otherwise=1,
    )  # fmt: skip


def patch_grid(config: Any) -> tuple[int, int, int]:
    """Return frames, rows and columns of the patches of one image of 448 × 448 at most."""
    merge = merge_size(config)
    step = patch_size(config) * merge
    rows, columns = (
        max(1, min(side, 448) // step) * merge
        for side in (
            image_size(config) if find(config, "image_size", within=VISION) else (448,) * 2
        )
    )
    return (1, rows, columns)


def patch_elements(config: Any, *, temporal: bool = True) -> int:
    """Return the numbers of one patch: channels × frames × height × width."""
    depth = number(config, "temporal_patch_size", "patch_temporal", within=VISION, otherwise=1)
    return channels(config) * (depth if temporal else 1) * patch_size(config) ** 2


def audio_samples(config: Any) -> int:
    """Return the samples of one second: at 16 kHz where nothing else is said."""
    rate = number(
        config, "sampling_rate", "input_sampling_rate", "sample_rate", within=SPEECH,
        otherwise=16_000,
    )  # fmt: skip
    hop = find(config, "upsampling_ratios", "downsampling_ratios", within=SPEECH)
    step = prod(hop) if isinstance(hop, (list, tuple)) and hop else 1
    return -(-rate // step) * step


def spectrogram(config: Any) -> tuple[int, int]:
    """Return the bins of a spectrogram and its frames: of ten seconds, or as many as it must be."""
    bins = number(
        config, "num_mel_bins", "input_feat_size", "feature_projection_input_dim", "mel_bins",
        "feature_size", "num_mel_bands", "input_feature_size", "input_feat_per_channel",
        within=SPEECH, otherwise=80,
    )  # fmt: skip
    positions = number(config, "max_source_positions", within=SPEECH)
    # Whisper's encoder halves the number of frames before it adds the positions.
    bins *= number(config, "num_stacked_frames", otherwise=1)
    return bins, 2 * positions if 0 < positions <= 1500 else _FRAMES
