"""Inputs of models that read images or sound among their tokens.

The tower is run alone first: as many features as it gives back, as many tokens stand for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

from torchgauge.models.huggingface.probe import probe, signature
from torchgauge.models.huggingface.search import Search
from torchgauge.models.huggingface.shapes import known

if TYPE_CHECKING:
    from torch import nn

    from torchgauge.trace.inputs.plan import InputTensor

_TEXT = 64
"""Tokens of text before the images, and as many behind."""
_ANY_TOKEN = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Modality:
    """What stands among the tokens, and how transformers names what belongs to it."""

    name: str
    method: str
    main: tuple[str, ...]
    tokens: tuple[str, ...]
    kind: int
    """Its number in ``mm_token_type_ids``."""


_MODALITIES = (
    _Modality(
        name="image",
        method="get_image_features",
        main=("pixel_values",),
        tokens=("image_token_id", "image_token_index", "image_patch_id", "media_token_id",
                "media_placeholder_token_id"),
        kind=1,
    ),
    _Modality(
        name="audio",
        method="get_audio_features",
        main=("input_features", "input_values", "audio_values"),
        tokens=("audio_token_id", "audio_token_index"),
        kind=3,
    ),
    _Modality(
        name="video",
        method="get_video_features",
        main=("pixel_values_videos",),
        tokens=("video_token_id", "video_token_index"),
        kind=2,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """What one tower takes, and how many tokens stand for what it gives."""

    name: str
    kind: int
    token: int
    count: int
    inputs: Mapping[str, InputTensor]


def mixes_tokens(model: nn.Module, config: Any) -> bool:
    """Return whether tokens of the text stand for what a tower gives."""
    return any(_owner(model, m) is not None and _token(config, m) is not None for m in _MODALITIES)


def _owner(model: nn.Module, modality: _Modality) -> nn.Module | None:
    """Return what has the method: the model, or the one that its head stands on (Fuyu)."""
    for owner in (model, getattr(model, "base_model", None)):
        if hasattr(owner, modality.method):
            return owner
    return None


def _token(config: Any, modality: _Modality) -> int | None:
    found = (getattr(config, name, None) for name in modality.tokens)
    return next((token for token in found if isinstance(token, int)), None)


def towers(model: nn.Module, config: Any, until: float) -> Iterator[Tower]:
    """Return what each tower of the model takes, video only where there is nothing else."""
    found = False
    for modality in _MODALITIES:
        token = _token(config, modality)
        if token is not None and _owner(model, modality) is not None:
            if found and modality.name == "video":
                continue
            if tower := _tower(model, config, modality, token, until):
                found = True
                yield tower


def _tower(
    model: nn.Module, config: Any, modality: _Modality, token: int, until: float
) -> Tower | None:
    owner = _owner(model, modality)
    assert owner is not None
    arguments = signature(getattr(owner, modality.method))
    first = [name for name, is_needed in arguments.items() if is_needed]
    first = first or [name for name in modality.main if name in arguments]
    module = _alone(owner, modality.method)
    search = Search(module, config, arguments)
    found = search.run(first, until=until)
    inputs = search.inputs
    if found is not None and found.error is not None:  # it looks for images that are padding
        inputs = {n: replace(t, ones=t.dtype.is_floating_point) for n, t in inputs.items()}
        found = probe(module, inputs)
    if found is None or found.error is not None:
        return None
    elements = sum(prod(shape) for shape in found.outputs)
    widths = {shape[-1] for shape in found.outputs}
    if not elements or len(widths) != 1 or not widths <= _widths(model, config):
        return None  # tower and language model do not fit together: some default configurations
    return Tower(
        name=modality.name,
        kind=modality.kind,
        token=token,
        count=elements // widths.pop(),
        inputs=inputs,
    )


def _alone(model: nn.Module, method: str) -> nn.Module:
    """Return a module whose forward is one method of the model."""
    from torch import nn

    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, **inputs: Any) -> Any:
            output = getattr(self.model, method)(**inputs)
            found = getattr(output, "pooler_output", None)
            if found is None and (by_layer := getattr(output, "deepstack_features", None)):
                found = by_layer[0][-1]  # as many for each layer of the language model
            return output if found is None else found

    return Alone()


def _widths(model: nn.Module, config: Any) -> set[int]:
    """Return the possible widths of a token: its embedding's, or a projection's (NeoMME)."""
    get: Any = getattr(model, "get_input_embeddings", None)
    text = getattr(config, "text_config", None) or config
    widths = {getattr(text, "hidden_size", 0)}
    with suppress(AttributeError, NotImplementedError, TypeError):
        widths.add(int(get().weight.shape[-1]))
    for name, layer in model.named_modules():  # what a projector makes a token of (Llama 4)
        if "projector" in name and getattr(layer, "out_features", None) in widths:
            widths.add(layer.in_features)
    return widths


def token_inputs(config: Any, found: list[Tower], arguments: Mapping[str, bool]) -> Any:
    """Return ``input_ids`` with the towers' tokens in the middle of text, and what says so."""
    text = next(t for t in range(_ANY_TOKEN, 9) if t not in {tower.token for tower in found})
    ids, kinds = [text] * _TEXT, [0] * _TEXT
    start = getattr(config, "vision_start_token_id", None)
    if isinstance(start, int) and found[0].name != "audio":
        ids[-1] = start
    for tower in found:
        ids += [tower.token] * tower.count
        kinds += [tower.kind] * tower.count
    ids, kinds = ids + [text] * _TEXT, kinds + [0] * _TEXT
    inputs = {"input_ids": known("input_ids", tuple(ids))}
    if "mm_token_type_ids" in arguments:
        inputs["mm_token_type_ids"] = known("mm_token_type_ids", tuple(kinds))
    for tower in found:
        inputs |= tower.inputs
    return inputs
