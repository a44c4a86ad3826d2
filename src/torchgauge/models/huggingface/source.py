"""``hf:llama``, ``hf:PATH/config.json``: transformers models from their configuration alone.

Nothing is downloaded and no code of a model repository is run: the configuration is read here,
its class is looked up in the installed transformers, and the model is built from it.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchgauge.errors import ModelSpecError, TorchGaugeError
from torchgauge.facts.guess import Guess
from torchgauge.models.build import ModelBuild, construct, first_line
from torchgauge.models.huggingface.defaults import fitting_settings, open_settings, said
from torchgauge.models.huggingface.fields import setting
from torchgauge.models.huggingface.inputs import default_inputs
from torchgauge.models.sources.library import (
    check_keywords_only,
    failed_to_build,
    import_library,
    quiet_library,
)
from torchgauge.models.suggest import did_you_mean

if TYPE_CHECKING:
    import torch

    from torchgauge.models.spec import ModelSpec

_EXTRA_SETTINGS = ("attn_implementation", "experts_implementation", "dtype", "torch_dtype")
"""Accepted by every configuration although it has no attribute of that name to look at."""


_NAME_A_FILE = (
    "the default configuration may build no model; name a model's own: hf:PATH/config.json"
)


def build(spec: ModelSpec) -> ModelBuild:
    """Build the model that a configuration describes.

    Raises:
        ModelSpecError: no such model type, a damaged configuration, an unknown setting, or an
            architecture that the installed transformers does not have.
        MissingExtraError: transformers (or diffusers) is not installed.
    """
    check_keywords_only(spec)
    stored = _read_configuration(spec)
    if stored is not None and "_class_name" in stored and "model_type" not in stored:
        return _build_diffusers(spec, stored)
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
    with quiet_library():
        transformers = import_library("transformers", install="torchgauge[hf]")
        transformers.logging.set_verbosity_error()
        config, added = _configuration(transformers, spec, stored)
        try:
            architecture, assumptions = _architecture(transformers, spec, config)
        except ImportError as error:  # transformers imports its models when they are asked for
            raise ModelSpecError(
                f"transformers cannot import its {config.model_type} models: {first_line(error)}",
                hint="install a transformers (and torchvision, torchaudio) that fits this torch",
            ) from error
        model, warnings = _construct(spec, architecture, config)
        found = default_inputs(model, config)
    assumptions += said(spec.target, added)
    if quantization := getattr(config, "quantization_config", None):
        method = _entry(quantization, "quant_method") or "quantization"
        assumptions += (
            Guess(f"{method} in the configuration is not applied: counted unquantized"),
        )
    return ModelBuild(
        model=model,
        name=type(model).__name__,
        spec=spec.text,
        default_inputs=found.inputs,
        notes=(found.note,) if found.note else (),
        assumptions=assumptions,
        warnings=warnings,
    )


# ---------------------------------------------------------------------------- configuration


def _read_configuration(spec: ModelSpec) -> dict[str, Any] | None:
    """Return the stored configuration, ``None`` when the spec names a model type."""
    path = Path(spec.target)
    if path.is_dir() and (path / "config.json").is_file():
        path /= "config.json"
    elif path.is_dir() and len(path.parts) > 1:
        raise ModelSpecError(
            f"there is no config.json in {spec.target}",
            hint="name the file: hf:PATH/config.json",
        )
    elif not path.is_file():
        if "/" in spec.target or "\\" in spec.target or spec.target.endswith(".json"):
            raise ModelSpecError(
                f"there is no file {spec.target}",
                hint="hub names are not downloaded; fetch its config.json and write "
                "hf:PATH/config.json, or name a model type: hf:llama",
            )
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelSpecError(
            f"{path} is not a readable JSON file: {first_line(error)}",
            hint="use the config.json that comes with the model",
        ) from error
    if not isinstance(stored, dict) or not {"model_type", "_class_name"} & stored.keys():
        raise ModelSpecError(
            f"{path} has no model_type, so it is not a model configuration",
            hint="use the config.json that comes with the model",
        )
    return stored


def _configuration(
    transformers: Any, spec: ModelSpec, stored: dict[str, Any] | None
) -> tuple[Any, dict[str, Any]]:
    """Return the configuration, and the settings that were added to it."""
    model_type = spec.target if stored is None else str(stored["model_type"])
    known = list(transformers.CONFIG_MAPPING.keys())
    if model_type not in known:
        hint = did_you_mean(model_type, known)
        if stored is not None:
            hint = (
                "its own code is never run; install a transformers that has it, or write a "
                "function that builds the model and name that: file.py:make_model"
            )
        raise ModelSpecError(
            f"transformers {transformers.__version__} has no model type {model_type!r}",
            hint=hint or "such as hf:llama, hf:gpt2, hf:bert, or hf:PATH/config.json",
        )
    try:
        kind = transformers.CONFIG_MAPPING[model_type]
        _check_settings(kind, spec, stored)
        if stored is None:
            added = open_settings(model_type, spec.keywords)
            config = kind(**_nested({**added, **spec.keywords}, {}))
            if not spec.keywords and (fitting := fitting_settings(config)):
                added |= fitting
                config = kind(**_nested(added, {}))
            return config, added
        return kind.from_dict(_nested(spec.keywords, stored)), {}
    except TorchGaugeError:
        raise
    except Exception as error:
        raise _bad_configuration(spec, error) from error


def _nested(settings: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the settings put in; ``a.b`` reaches into the part called ``a``.

    >>> _nested({"text.size": 2}, {"text": {"size": 1, "depth": 3}})
    {'text': {'size': 2, 'depth': 3}}
    """
    merged: dict[str, Any] = dict(base)
    for key, value in settings.items():
        first, _, rest = key.partition(".")
        if rest:
            part = merged.get(first)
            merged[first] = _nested({rest: value}, part if isinstance(part, Mapping) else {})
        else:
            merged[key] = value
    return merged


def _check_settings(kind: Any, spec: ModelSpec, stored: dict[str, Any] | None) -> None:
    """Refuse a setting that the configuration does not have: it would be kept and ignored."""
    if not spec.keywords:
        return
    plain = kind() if stored is None else kind.from_dict(dict(stored))
    known = {*plain.to_dict(), *getattr(plain, "attribute_map", {}), *_EXTRA_SETTINGS}
    for key in spec.keywords:
        first = key.partition(".")[0]
        if first not in known and not hasattr(plain, first):
            raise ModelSpecError(
                f"{kind.__name__} has no setting {first!r}",
                hint=did_you_mean(
                    first, known, otherwise=f"see the arguments of transformers.{kind.__name__}"
                ),
            )


def _bad_configuration(spec: ModelSpec, error: Exception) -> ModelSpecError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ModelSpecError(
        f"{spec.without_arguments}: the configuration is refused: {reason}",
        hint="check the arguments given with --set"
        if spec.keywords
        else ("check the file" if os.path.exists(spec.target) else _NAME_A_FILE),
    )


# ---------------------------------------------------------------------------- architecture


def _architecture(transformers: Any, spec: ModelSpec, config: Any) -> tuple[Any, tuple[str, ...]]:
    """Return the model's class and, when it had to be chosen, the line that says so."""
    names = getattr(config, "architectures", None)
    if names:
        return _named_architecture(transformers, spec, str(names[0])), ()
    chosen = _natural_class(transformers, config)
    return chosen, (
        f"architecture {chosen.__name__}: the usual one for {config.model_type} "
        f"(choose with --set \"architectures=['…']\")",
    )


def _named_architecture(transformers: Any, spec: ModelSpec, name: str) -> Any:
    found = getattr(transformers, name, None)
    if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
        return found
    raise ModelSpecError(
        f"{spec.without_arguments} asks for the architecture {name}, which transformers "
        f"{transformers.__version__} does not have",
        hint=did_you_mean(
            name,
            (known for known in dir(transformers) if known[:1].isupper()),
            otherwise="a model's own code is never run; choose a known one with "
            "--set \"architectures=['…']\"",
        ),
    )


def _natural_class(transformers: Any, config: Any) -> Any:
    """Return the model class that fits the model type best.

    Language models that only decode get their head. Those that can also fill masks (BERT) are
    encoders first, so they are built bare, as is everything else.
    """
    kind = type(config)
    causal = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    order: tuple[Any, ...]
    if getattr(config, "is_encoder_decoder", False):
        order = (
            transformers.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
            transformers.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING,
            transformers.MODEL_MAPPING,
        )
    elif kind in causal and kind not in transformers.MODEL_FOR_MASKED_LM_MAPPING:
        order = (causal, transformers.MODEL_MAPPING)
    else:
        order = (transformers.MODEL_MAPPING, causal)
    listed = [chosen for mapping in order for chosen in _listed(mapping, kind)]
    for chosen in listed:  # llama4 is listed with a class that takes a part of its configuration
        if issubclass(kind, getattr(chosen, "config_class", None) or kind):
            return chosen
    if chosen := _class_beside(transformers, kind) or next(iter(listed), None):
        return chosen
    raise ModelSpecError(
        f"transformers has no model of its own for {config.model_type}",
        hint="choose one with --set \"architectures=['…']\"",
    )


def _listed(mapping: Any, kind: type) -> list[Any]:
    try:
        found = mapping.get(kind, ())
    except ValueError:  # transformers lists a class that it does not have
        return []
    return list(found) if isinstance(found, tuple | list) else [found]


def _class_beside(transformers: Any, kind: type) -> Any:
    """Return the largest of the classes of this configuration in the module beside it.

    Models of one task only (zoedepth, superpoint) are in no mapping of models without a head.
    """
    name = kind.__module__.replace(".configuration_", ".modeling_")
    try:
        module = importlib.import_module(name)
    except ImportError:
        return None
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, transformers.PreTrainedModel)
        and getattr(value, "config_class", None) is kind
        and not value.__name__.endswith("PreTrainedModel")
    ]
    return found[-1] if found else None  # a module ends with what the parts before are for


# ---------------------------------------------------------------------------- building


def _construct(spec: ModelSpec, architecture: Any, config: Any) -> tuple[Any, tuple[str, ...]]:
    stored_dtype = getattr(config, "dtype", None) or getattr(config, "torch_dtype", None)
    try:
        with _default_dtype(stored_dtype):
            return construct(lambda: architecture(config), spec.text)
    except TorchGaugeError:
        raise
    except Exception as error:
        unset = _unset_settings(error)
        is_default = not spec.keywords and not os.path.exists(spec.target)
        hint = _NAME_A_FILE if is_default else ""
        if isinstance(error, ImportError):
            hint = "install that library, then try again"
        if unset:
            listed = ", ".join(unset)
            hint = f"not set in this configuration: {listed}; give them with --set NAME=…" + (
                f", or {_NAME_A_FILE.partition('; ')[2]}" if is_default else ""
            )
        raise failed_to_build(spec, error, hint=hint) from error


def _unset_settings(error: Exception) -> list[str]:
    """Return the settings without a value that the constructor read where it failed.

    ``torch.empty(None, 2, 3)`` says "empty() takes 1 positional argument but 3 were given".
    """
    traceback, frames = error.__traceback__, []
    while traceback is not None:
        frames.append(traceback.tb_frame)
        traceback = traceback.tb_next
    for frame in reversed(frames):
        config = frame.f_locals.get("config")
        if hasattr(config, "model_type") and frame.f_code.co_name == "__init__":
            try:
                source = inspect.getsource(frame.f_code)
            except OSError:
                return []
            read = dict.fromkeys(re.findall(r"config\.(\w+)", source))
            return [name for name in read if setting(config, name, "") is None]
    return []


@contextlib.contextmanager
def _default_dtype(name: Any) -> Iterator[None]:
    """Build in the dtype that the configuration names, as ``from_pretrained`` would."""
    import torch

    dtype = getattr(torch, name, None) if isinstance(name, str) else name
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _build_diffusers(spec: ModelSpec, stored: dict[str, Any]) -> ModelBuild:
    """Build a model from the configuration format of diffusers (``_class_name``)."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    diffusers = import_library("diffusers", install="diffusers")
    name = str(stored["_class_name"])
    kind = getattr(diffusers, name, None)
    if not hasattr(kind, "from_config") or not hasattr(kind, "forward"):
        raise ModelSpecError(
            f"diffusers {diffusers.__version__} has no model {name!r}",
            hint=did_you_mean(
                name,
                (known for known in dir(diffusers) if known.endswith("Model")),
                otherwise="use the config.json of the model itself, not of the pipeline",
            ),
        )
    settings = {**stored, **spec.keywords}
    try:
        with quiet_library():
            model, warnings = construct(lambda: _from_config(kind, settings), spec.text)
    except TorchGaugeError:
        raise
    except Exception as error:
        raise failed_to_build(spec, error) from error
    return ModelBuild(model=model, name=type(model).__name__, spec=spec.text, warnings=warnings)


def _from_config(kind: Any, settings: Mapping[str, Any]) -> torch.nn.Module:
    model: torch.nn.Module = kind.from_config(dict(settings))
    return model


def _entry(holder: Any, key: str) -> Any:
    return holder.get(key) if isinstance(holder, Mapping) else getattr(holder, key, None)
