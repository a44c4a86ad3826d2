"""Inputs for a transformers model when the user names none: from its configuration, and tried.

Text of 128 tokens, images and spectrograms as configured. What else a forward needs, its
errors tell (``huggingface_search``); images among tokens are in ``huggingface_tokens``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from torchgauge.models.build import DefaultInputs
from torchgauge.models.huggingface.fields import token_count
from torchgauge.models.huggingface.probe import Probe, has_forward, signature
from torchgauge.models.huggingface.search import Search
from torchgauge.models.huggingface.shapes import may_be_tensor
from torchgauge.models.huggingface.tokens import mixes_tokens, token_inputs, towers

if TYPE_CHECKING:
    from torch import nn

    from torchgauge.trace.inputs.plan import InputTensor

_CHOOSE = "(choose with --input-size)"
_BY_SIZE_ALONE = ("pixel_values", "input_values", "input_features", "input_ids",
                  "decoder_input_ids")  # fmt: skip
"""Inputs whose dtype follows from their name."""


_OTHER_THAN_TEXT = ("pixel_values", "pixel_values_videos", "input_features", "input_values",
                    "audio_values", "image_patches", "flattened_patches")  # fmt: skip
_ALSO_NEEDED = {
    "xmod": ("lang_ids",),  # "Input language unknown" does not name the argument
}
_SECONDS = 25.0
"""Of computing, after which no further try begins: no inputs are a better answer than none for a
minute. The clock on the wall would find others on a busy machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The inputs, or one line on what to pass."""

    inputs: DefaultInputs | None = None
    note: str = ""


def default_inputs(model: nn.Module, config: Any) -> Finding:
    """Return inputs with which the model's forward runs, tried on tensors without data."""
    arguments = signature(model.forward)
    if _is_language_model(model, arguments):  # nothing that a try could tell
        sizes: dict[str, tuple[int, ...]] = {"input_ids": (token_count(config),)}
        return Finding(inputs=_sizes(sizes, config, _left_out(sizes, arguments, config)))
    tries: list[Probe] = []
    unsure: DefaultInputs | None = None
    until = time.thread_time() + _SECONDS
    for search, first, remark in _searches(model, config, arguments, until):
        if found := search.run(first, until=until):
            made = _made(
                search.inputs, config, remark or _left_out(search.inputs, arguments, config)
            )
            if found.error is None:
                return Finding(inputs=made)
            unsure = unsure or made  # it reads values: whether it runs, a real run will tell
        elif unsure is not None:
            break
        if search.furthest is not None:
            tries.append(search.furthest)
    if unsure is not None:
        return Finding(inputs=unsure)
    return Finding(note=_what_to_pass(model, arguments, tries))


def _searches(
    model: nn.Module, config: Any, arguments: Mapping[str, bool], until: float
) -> Iterator[tuple[Search, list[str], str]]:
    """Return what to try, the richest inputs first: with which arguments, and what to say of it."""
    mixes = "input_ids" in arguments and mixes_tokens(model, config)
    found = list(towers(model, config, until)) if mixes else []
    while found:
        given = token_inputs(config, found, arguments)
        needed = [name for name in _needed(config, arguments) if name not in given]
        counts = ", ".join(f"{tower.count} for the {tower.name}" for tower in found)
        yield Search(model, config, arguments, given), needed, counts
        found.pop()
    starts = _starts(model, config, arguments, text_alone=mixes)
    for first in starts[:1] if mixes else starts:
        yield Search(model, config, arguments), first, ""


def _left_out(given: Iterable[str], arguments: Iterable[str], config: Any) -> str:
    """Return "text alone" where the model would take images or sound too."""
    if not all(name.endswith(("ids", "mask")) for name in given):
        return ""
    takes_more = any(name.endswith(_OTHER_THAN_TEXT) for name in arguments) or any(
        getattr(config, part, None) is not None for part in ("vision_config", "audio_config")
    )
    return "text alone" if takes_more else ""


def _is_language_model(model: nn.Module, arguments: Mapping[str, bool]) -> bool:
    """Return whether tokens are all that the model takes."""
    generates = getattr(model, "can_generate", lambda: False)()
    others = [name for name, is_needed in arguments.items() if is_needed and name != "input_ids"]
    is_decoder = not getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    takes_more = {"pixel_values", "input_features", "input_values"} & set(arguments)
    return bool(generates and is_decoder and "input_ids" in arguments) and not (
        others or takes_more or _codebooks(model)
    )


def _codebooks(model: nn.Module) -> bool:
    return getattr(getattr(model, "config", None), "num_codebooks", None) is not None


def _needed(config: Any, arguments: Mapping[str, bool]) -> list[str]:
    """Return what cannot be left out: required arguments, and a decoder's tokens."""
    needed = [name for name, is_needed in arguments.items() if is_needed]
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in arguments:
        needed.append("decoder_input_ids")
    needed += _ALSO_NEEDED.get(getattr(config, "model_type", ""), ())
    return list(dict.fromkeys(needed))


def _starts(
    model: nn.Module, config: Any, arguments: Mapping[str, bool], *, text_alone: bool
) -> list[list[str]]:
    """Return with which arguments to begin, the likeliest first."""
    main = getattr(model, "main_input_name", "input_ids")
    mains = [name for name in ([main] if isinstance(main, str) else main) if name in arguments]
    needed = _needed(config, arguments)
    starts = []
    needs_both = "pixel_values" in arguments and not text_alone
    if mains == ["input_ids"] and needs_both:
        starts.append(["input_ids", "pixel_values", *needed])  # CLIP and its kind need both
    starts += [[*mains, *needed], needed]
    others = ("input_ids", "pixel_values", "pixel_values_videos", "input_features", "input_values",
              "past_values", "hidden_states", "states")  # fmt: skip
    starts += [[name, *needed] for name in others if name in arguments and name not in mains]
    unique = [list(dict.fromkeys(start)) for start in starts]
    return [start for index, start in enumerate(unique) if start and start not in unique[:index]]


# ---------------------------------------------------------------------------- saying so


def _made(inputs: Mapping[str, InputTensor], config: Any, remark: str) -> DefaultInputs:
    """Return the inputs by size alone where that says all, else as they were made."""
    plain = all(
        name in _BY_SIZE_ALONE
        and tensor.per_sample == 1
        and tensor.values is None
        and tensor.dtype.is_floating_point != name.endswith("ids")
        for name, tensor in inputs.items()
    )
    if plain:
        remark = remark if all(name.endswith("ids") for name in inputs) else ""
        sizes = {name: tensor.shape[1:] for name, tensor in inputs.items()}
        return _sizes(sizes, config, remark)
    shown = "; ".join(_shown(tensor, remark) for tensor in inputs.values())
    return DefaultInputs(
        tensors=tuple(inputs.values()),
        why=f"inputs made from the configuration of {config.model_type}, and tried: "
        f"{shown} {_CHOOSE}",
    )


def _shown(tensor: InputTensor, remark: str) -> str:
    text = f"{tensor.name} {list(tensor.shape)}"
    if tensor.name == "input_ids" and remark:
        return f"{text} ({remark})"
    if tensor.values is not None and prod(tensor.shape) <= 4:
        return f"{text} = {','.join(re.findall(r'[0-9]+', str(tensor.values)))}"
    return f"{text} of ones" if tensor.ones else text


def _sizes(sizes: dict[str, tuple[int, ...]], config: Any, remark: str = "") -> DefaultInputs:
    text = " ".join(f"{name}={','.join(map(str, size))}" for name, size in sizes.items())
    is_tokens = all(name.endswith("input_ids") for name in sizes)
    return DefaultInputs(
        sizes=sizes,
        dtypes=("int64",) * len(sizes) if is_tokens else (),
        why=f"input size {text} per sample, the usual for {config.model_type}"
        f"{f', {remark}' if remark else ''} {_CHOOSE}",
    )


def _what_to_pass(model: nn.Module, arguments: Mapping[str, bool], tries: list[Probe]) -> str:
    """Return one line for a model whose inputs could not be made."""
    needed = [name for name, is_needed in arguments.items() if is_needed]
    objects = [name for name in needed if not may_be_tensor(name)]
    kind = type(model).__name__
    if objects or not has_forward(model):
        lacks = f"takes {objects[0]}, which is not a tensor" if objects else "does not exist"
        return (
            f"no inputs can be made for {kind}: its forward {lacks}. Write a module that calls "
            "what you want to measure, and name that: file.py:Name"
        )
    ends = ("ids", "values", "features")
    named = needed or [n for n in arguments if n.endswith(ends) and n != "position_ids"][:2]
    error = max(tries, key=lambda found: found.calls).error if tries else None
    lines = str(error).strip().splitlines() if error is not None else []
    said = f": {type(error).__name__}: {lines[0][:160]}" if lines else ""
    options = " ".join(f"--input-size {name}=…" for name in named)
    return (
        f"no inputs were found with which {kind} runs{said}. "
        + (f"Name them: {options}" if options else "Its forward takes no tensor by name")
        + ". A default configuration may not run at all: name a model's own, hf:PATH/config.json"
    )
