"""The sizes that an argument of a transformers model may have: by its name, from the configuration.

Several where models of the same argument differ; which one is right, a run finds out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torchgauge.models.huggingface import fields

if TYPE_CHECKING:
    import torch

    from torchgauge.trace.inputs.plan import InputTensor

_NOT_MADE = ("past_key_values", "cache", "labels", "encoder_outputs", "output_",
             "return_", "use_", "head_mask", "session")  # fmt: skip
"""Arguments that are never made: another way to say the same, or not a tensor."""


def may_be_tensor(name: str) -> bool:
    """Return whether an argument of this name is ever made."""
    return not any(word in name for word in _NOT_MADE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An argument of a forward that needs an input."""

    name: str
    config: Any
    arguments: frozenset[str]
    """All names in the signature."""
    dtype: torch.dtype
    """Of the model's floating-point weights."""
    given: Mapping[str, InputTensor]
    """What is made already: masks have its shape."""


def candidates(wanted: Wanted) -> list[InputTensor]:
    """Return the tensors that the argument may take, the likeliest first, for one sample."""
    name = wanted.name
    if name == "inputs_embeds" and "input_ids" in wanted.arguments:
        return []
    if not may_be_tensor(name):
        return []
    for applies, make in _RULES:
        if applies(name):
            return list(make(wanted))
    return []


# ---------------------------------------------------------------------------- makers


def _made(name: str, shape: tuple[int, ...], dtype: Any, **more: Any) -> InputTensor:
    import torch

    from torchgauge.trace.inputs.plan import InputTensor

    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    return InputTensor(name=name, keyword=True, shape=shape, dtype=dtype, **more)


def floats(wanted: Wanted, *size: int, rows: int = 0) -> InputTensor:
    """Return a floating-point input; ``rows`` of it belong to a sample in place of a batch."""
    return _made(wanted.name, (rows or 1, *size), wanted.dtype, per_sample=rows or 1)


def integers(wanted: Wanted, *size: int) -> InputTensor:
    """Return an input of whole numbers whose values are a guess."""
    return _made(wanted.name, (1, *size), "int64", is_guess=False)


def ones(wanted: Wanted, *size: int, is_bool: bool = False) -> InputTensor:
    """Return a mask that leaves nothing out."""
    dtype = "bool" if is_bool else "int64"
    return _made(wanted.name, (1, *size), dtype, is_guess=False, ones=True)


def known(name: str, *rows: Any) -> InputTensor:
    """Return an input of whole numbers whose values the other inputs' sizes decide."""
    import torch

    shape = tuple(torch.tensor(rows).shape)
    return _made(name, shape, "int64", is_guess=False, values=rows, per_sample=len(rows))


# ---------------------------------------------------------------------------- text


def _tokens(wanted: Wanted) -> Iterator[InputTensor]:
    """Numbers of tokens; those of sound come in several books for each step."""
    count = fields.token_count(wanted.config)
    yield integers(wanted, count)
    is_decoder = wanted.name.startswith("decoder")
    if "decoder_input_ids" in wanted.arguments and not is_decoder:
        return  # text
    names = ("num_codebooks", "n_codes_total", "num_quantizers")
    part = getattr(wanted.config, "decoder_config", None) or getattr(wanted.config, "decoder", None)
    books = fields.number(part, *names, "num_channels") if is_decoder and part else 0
    books = books or fields.number(wanted.config, *names)
    if not books:
        return
    rows = replace(integers(wanted, count), shape=(books, count), per_sample=books)
    if is_decoder:
        yield from (rows, integers(wanted, count, books))
    yield from (integers(wanted, count, books + 1), integers(wanted, count, books))
    yield from (integers(wanted, books, count), rows)


def _regions(wanted: Wanted) -> Iterator[InputTensor]:
    """What a detector found in an image, 36 regions as LXMERT and VisualBERT were trained with."""
    names = ("visual_feat_dim", "visual_embedding_dim")
    width = fields.number(wanted.config, *names, otherwise=2048)
    yield floats(wanted, 36, 4 if wanted.name.endswith("pos") else width)


def _like_tokens(wanted: Wanted) -> Iterator[InputTensor]:
    ids = wanted.given.get("input_ids")
    yield integers(wanted, ids.shape[1] if ids is not None else fields.token_count(wanted.config))
    yield integers(wanted)


def _boxes(wanted: Wanted) -> Iterator[InputTensor]:
    yield integers(wanted, fields.token_count(wanted.config), 4)


def _task(wanted: Wanted) -> Iterator[InputTensor]:
    length = fields.number(wanted.config, "task_seq_len", "text_encoder_context_length")
    yield integers(wanted, length or fields.token_count(wanted.config))


def _hidden(wanted: Wanted) -> Iterator[InputTensor]:
    config = wanted.config
    if {"grid_thw", "image_grid_thw"} & wanted.arguments:
        yield from _packed(wanted)
        return
    names = ("encoder_hidden_size", "hidden_size", "d_model")
    within = ("dit",) if wanted.name.startswith("action") else ()  # what acts on images and words
    width = fields.number(config, *names, within=within, otherwise=768)
    count = fields.number(config, "num_query_tokens", "chunk_size", "num_queries")
    yield floats(wanted, count or fields.token_count(config), width)
    yield floats(wanted, fields.number(config, "channels", otherwise=1),
                 fields.audio_samples(config))  # fmt: skip


def _condition(wanted: Wanted) -> Iterator[InputTensor]:
    """One vector that every step is scaled by (Voxtral Realtime)."""
    yield floats(wanted, 1, fields.number(wanted.config, "hidden_size"))


def _context(wanted: Wanted) -> Iterator[InputTensor]:
    """Hidden states of several layers of the model that an assistant drafts for."""
    layers = fields.find(wanted.config, "target_layer_ids")
    width = fields.number(wanted.config, "hidden_size") * (len(layers) if layers else 1)
    yield floats(wanted, fields.token_count(wanted.config), width)


def _noise(wanted: Wanted) -> Iterator[InputTensor]:
    count = fields.number(wanted.config, "block_size", otherwise=fields.token_count(wanted.config))
    yield floats(wanted, count, fields.number(wanted.config, "hidden_size"))


def _latents(wanted: Wanted) -> Iterator[InputTensor]:
    yield floats(wanted, fields.number(wanted.config, "hidden_size", "latent_dim", "vae_dim"), 25)


# ---------------------------------------------------------------------------- images


def _packed(wanted: Wanted) -> Iterator[InputTensor]:
    """Patches of all images one after the other, with their grids beside."""
    config = wanted.config
    time, height, width = fields.patch_grid(config)
    count = time * height * width
    side = fields.patch_size(config)
    yield floats(wanted, fields.patch_elements(config), rows=count)
    yield floats(wanted, fields.channels(config), side, side, rows=count)
    yield floats(wanted, fields.patch_elements(config, temporal=False), rows=count)
    merged = side * fields.merge_size(config)
    yield floats(wanted, merged, merged, fields.channels(config), rows=count)


def _images(wanted: Wanted) -> Iterator[InputTensor]:
    config, arguments = wanted.config, wanted.arguments
    part = "high_res" if wanted.name.startswith("high_res") else ""
    image = (fields.channels(config), *fields.image_size(config, part=part))
    side, clip = fields.patch_size(config), fields.frames(config)
    _, rows, columns = fields.patch_grid(config)
    if "prompt_pixel_values" in arguments:  # both stand on top of each other
        image = (image[0], image[1] // 2, image[2])
    if "pixel_mask" in arguments and fields.find(config, "image_size", "img_size") is None:
        image = (image[0], 640, 640)  # detectors take any size; transformers trains them on COCO
    if {"grid_thw", "image_grid_thw"} & arguments:
        yield from _packed(wanted)
    if {"spatial_shapes", "pixel_position_ids", "image_position_ids"} & arguments:
        yield floats(wanted, rows * columns, fields.patch_elements(config))
    if "target_sizes" in arguments:  # rows of pixels of all patches beside each other
        yield floats(wanted, image[0], side, rows * columns * side)
    if "aspect_ratio_ids" in arguments:  # tiles of one image (Llama 3.2 Vision)
        yield floats(wanted, 1, _tiles(wanted), *image)
    if clip:
        yield floats(wanted, clip, *image)
    if "pixel_attention_mask" in arguments or "image_attention_mask" in arguments:
        yield floats(wanted, 1, *image)
    yield floats(wanted, *image)
    yield floats(wanted, 1, *image)
    yield from (floats(wanted, 8, *image), floats(wanted, 2, *image))
    if "patch_size" in dir(config) or part == "":
        yield floats(wanted, rows * columns, fields.patch_elements(config))
        yield floats(wanted, 1, rows * columns, fields.patch_elements(config))


def _tiles(wanted: Wanted) -> int:
    return fields.number(wanted.config, "max_num_tiles", otherwise=1)


def _tile_mask(wanted: Wanted) -> Iterator[InputTensor]:
    yield ones(wanted, 1, _tiles(wanted))


def _aspect(wanted: Wanted) -> Iterator[InputTensor]:
    yield known(wanted.name, (1,))


def _videos(wanted: Wanted) -> Iterator[InputTensor]:
    config = wanted.config
    image = (fields.channels(config), *fields.image_size(config))
    clip = fields.frames(config) or 8
    yield floats(wanted, clip, *image)
    yield floats(wanted, image[0], clip, *image[1:])


def _grid(wanted: Wanted) -> Iterator[InputTensor]:
    yield known(wanted.name, fields.patch_grid(wanted.config))


def _rows_and_columns(wanted: Wanted) -> Iterator[InputTensor]:
    yield known(wanted.name, fields.patch_grid(wanted.config)[1:])


def _sizes(wanted: Wanted) -> Iterator[InputTensor]:
    yield known(wanted.name, fields.image_size(wanted.config))


def _positions(wanted: Wanted) -> Iterator[InputTensor]:
    _, rows, columns = fields.patch_grid(wanted.config)
    yield known(wanted.name, tuple((x, y) for y in range(rows) for x in range(columns)))


def _merges(wanted: Wanted) -> Iterator[InputTensor]:
    yield known(wanted.name, 1)


def _pixel_mask(wanted: Wanted) -> Iterator[InputTensor]:
    pixels = wanted.given.get("pixel_values")
    if pixels is None:
        return
    if len(pixels.shape) == 3:  # patches
        yield ones(wanted, pixels.shape[1])
    count = pixels.shape[1:-3]
    yield ones(wanted, *count, *pixels.shape[-2:])
    yield ones(wanted, *count, *pixels.shape[-2:], is_bool=True)
    if count:
        yield ones(wanted, *count, is_bool=True)
    side = fields.patch_size(wanted.config)
    yield ones(wanted, *(size // side for size in pixels.shape[-2:]), is_bool=True)


def _images_seen(wanted: Wanted) -> Iterator[InputTensor]:
    """Which token sees which image."""
    yield ones(wanted, fields.token_count(wanted.config), 1)


def _image_places(wanted: Wanted) -> Iterator[InputTensor]:
    """Which tokens the features of the image stand in for: the first of them (KOSMOS-2)."""
    tokens = fields.token_count(wanted.config)
    count = min(tokens, fields.number(wanted.config, "latent_query_num", otherwise=tokens))
    yield known(wanted.name, (1,) * count + (0,) * (tokens - count))


def _prompt_masks(wanted: Wanted) -> Iterator[InputTensor]:
    pixels = wanted.given.get("pixel_values")
    if pixels is not None:
        yield floats(wanted, *pixels.shape[1:])


# ---------------------------------------------------------------------------- sound, series


def _spectrogram(wanted: Wanted) -> Iterator[InputTensor]:
    bins, frames = fields.spectrogram(wanted.config)
    first = floats(wanted, bins, frames)
    second = floats(wanted, frames, bins)
    if frames > bins or "attention_mask" in wanted.arguments:
        first, second = second, first
    yield from (first, second)
    yield floats(wanted, 1, 1001, bins)  # CLAP: ten seconds at 48 kHz, a frame per 480 samples


def _waveform(wanted: Wanted) -> Iterator[InputTensor]:
    config = wanted.config
    samples = fields.audio_samples(config)
    if length := fields.number(config, "max_length"):
        yield floats(wanted, length, fields.spectrogram(config)[0])
    if fields.find(config, "audio_channels", "upsampling_ratios", "downsampling_ratios"):
        yield floats(wanted, fields.number(config, "audio_channels", otherwise=1), samples)
    yield floats(wanted, samples)
    yield floats(wanted, 1, samples)
    yield floats(wanted, *reversed(fields.spectrogram(config)))


def _mask(wanted: Wanted) -> Iterator[InputTensor]:
    """A mask over the steps of whatever it stands beside."""
    partners = ("input_ids", "input_features", "input_values", "past_values", "audio_mel")
    prefix = wanted.name.rpartition("attention_mask")[0]
    named = [wanted.given[n] for n in (f"{prefix}input_ids", *partners) if n in wanted.given]
    for partner in named[:1]:
        steps = partner.shape[1] if partner.name.endswith("ids") else max(partner.shape[1:])
        yield ones(wanted, steps)
        yield ones(wanted, steps, is_bool=True)


def _scalar_flag(wanted: Wanted) -> Iterator[InputTensor]:
    yield ones(wanted, 1, is_bool=True)


def _series(wanted: Wanted) -> Iterator[InputTensor]:
    config = wanted.config
    length = fields.number(config, "context_length", "prediction_length", otherwise=512)
    lags = fields.find(config, "lags_sequence")
    if wanted.name.startswith("future"):
        length = fields.number(config, "prediction_length", otherwise=length)
    elif isinstance(lags, (list, tuple)) and lags:
        length += max(lags)
    variables = fields.number(config, "num_input_channels", "input_size", otherwise=1)
    if wanted.name.endswith("time_features"):
        yield floats(wanted, length, fields.number(config, "num_time_features", otherwise=1))
    elif wanted.name.endswith("padding"):
        yield integers(wanted, length)
    elif variables > 1 or fields.find(config, "num_input_channels"):
        yield floats(wanted, length, variables)
    yield from (floats(wanted, length), floats(wanted, length, 1))


def _trajectory(wanted: Wanted) -> Iterator[InputTensor]:
    steps = 20  # decision_transformer: what its authors act on
    width = {"states": "state_dim", "actions": "act_dim"}.get(wanted.name)
    if wanted.name == "timesteps":
        yield integers(wanted, steps)
    yield floats(wanted, steps, fields.number(wanted.config, width or "", otherwise=1))


def _ends(*words: str) -> Callable[[str], bool]:
    return lambda name: name.endswith(words)


_RULES: tuple[tuple[Callable[[str], bool], Callable[[Wanted], Iterator[InputTensor]]], ...] = (
    (_ends("input_ids"), _tokens),
    (_ends("lang_ids"), lambda wanted: iter((integers(wanted),))),
    (_ends("token_type_ids", "langs"), _like_tokens),
    (_ends("bbox"), _boxes),
    (_ends("task_inputs"), _task),
    (_ends("grid_thw"), _grid),
    (_ends("image_sizes"), _sizes),
    (_ends("spatial_shapes", "target_sizes"), _rows_and_columns),
    (_ends("pixel_position_ids", "image_position_ids"), _positions),
    (_ends("position_ids"), lambda wanted: iter(())),
    (_ends("merge_sizes", "classes_structure"), _merges),
    (_ends("pixel_values_videos"), _videos),
    (_ends("pixel_values"), _images),
    (_ends("prompt_masks"), _prompt_masks),
    (_ends("image_attention_mask"), _images_seen),
    (_ends("image_embeds_position_mask"), _image_places),
    (_ends("pixel_mask", "pixel_attention_mask", "patch_attention_mask"), _pixel_mask),
    (_ends("input_features", "audio_mel"), _spectrogram),
    (_ends("input_values"), _waveform),
    (_ends("is_longer"), _scalar_flag),
    (lambda name: name.startswith(("past_", "future_")), _series),
    (_ends("freq"), lambda wanted: iter((integers(wanted), integers(wanted, 1)))),
    (_ends("aspect_ratio_mask"), _tile_mask),
    (_ends("aspect_ratio_ids"), _aspect),
    (_ends("mask"), _mask),
    (_ends("t_cond"), _condition),
    (_ends("context_hidden_states"), _context),
    (_ends("noise_embeds"), _noise),
    (_ends("hidden_states", "query_embeds", "action_embeds", "inputs_embeds", "inputs"), _hidden),
    (_ends("visual_feats", "visual_pos", "visual_embeds"), _regions),
    (_ends("latents"), _latents),
    (_ends("states", "actions", "rewards", "returns_to_go", "timesteps"), _trajectory),
)
