"""Build the models and inputs that ``cases.py`` names; nothing is downloaded."""

from __future__ import annotations

import importlib
import os
import warnings
from typing import Any

import torch
from torch import nn

from benchmarks.gpu_truth import own_models
from benchmarks.gpu_truth.cases import DRY_MODELS, MODELS, ModelSpec
from torchgauge.models.torchvision_operators import define_missing_operators

os.environ.setdefault("HF_HUB_OFFLINE", "1")


class Unavailable(Exception):
    """No source of a model is there."""


def spec_of(name: str) -> ModelSpec:
    """Return the description of a model, small ones of the dry run included."""
    return DRY_MODELS[name] if name in DRY_MODELS else MODELS[name]


def build(spec: ModelSpec) -> tuple[nn.Module, str]:
    """Build a model on the current default device, from its first source that is there.

    Returns:
        The model and the source that it came from.

    Raises:
        Unavailable: when no source is there.
    """
    reasons = []
    for source in spec.sources:
        kind, _, name = source.partition(":")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _BUILDERS[kind](name, spec.settings), source
        except (ImportError, AttributeError) as error:
            reasons.append(f"{source}: {error}")
        except RuntimeError as error:
            if kind != "timm" or "Unknown model" not in str(error):
                raise
            reasons.append(f"{source}: {error}")
    raise Unavailable("; ".join(reasons))


def _own(name: str, settings: dict[str, Any]) -> nn.Module:
    model: nn.Module = getattr(own_models, name)(**settings)
    return model


def _torchvision(name: str, settings: dict[str, Any]) -> nn.Module:
    define_missing_operators()
    model: nn.Module = importlib.import_module("torchvision.models").get_model(name, **settings)
    return model


def _timm(name: str, settings: dict[str, Any]) -> nn.Module:
    define_missing_operators()
    model: nn.Module = importlib.import_module("timm").create_model(name, **settings)
    return model


def _transformers(name: str, settings: dict[str, Any]) -> nn.Module:
    define_missing_operators()
    library = importlib.import_module("transformers")
    library.logging.set_verbosity_error()
    kind = getattr(library, name)
    model: nn.Module = kind(kind.config_class(**settings))
    return model


def _diffusers(name: str, settings: dict[str, Any]) -> nn.Module:
    define_missing_operators()
    model: nn.Module = getattr(importlib.import_module("diffusers"), name)(**settings)
    return model


def _graph(name: str, settings: dict[str, Any]) -> nn.Module:
    library = importlib.import_module("torch_geometric.nn")
    model: nn.Module = getattr(library, name)(128, 256, 2, 40, **settings)
    return model


_BUILDERS = {
    "own": _own, "torchvision": _torchvision, "timm": _timm, "hf": _transformers,
    "diffusers": _diffusers, "pyg": _graph,
}  # fmt: skip


def inputs(
    spec: ModelSpec, batch: int, device: str, dtype: torch.dtype, *, training: bool
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional and keyword arguments of the forward; the same values every time."""
    generator = torch.Generator().manual_seed(0)
    if spec.feed == "images":
        return _images(spec, batch, device, dtype, generator, training=training), {}
    if spec.feed == "graph":
        edges = torch.randint(0, 1000 * batch, (2, 8000 * batch), generator=generator)
        nodes = torch.rand(1000 * batch, 128, generator=generator)
        return (nodes.to(device, dtype), edges.to(device)), {}
    made = {}
    for name, (kind, size) in spec.inputs.items():
        shape = [batch if length == "B" else length for length in size]
        if kind == "labels" and not training:
            continue
        if kind == "float":
            made[name] = torch.rand(shape, generator=generator).to(device, dtype)
        else:
            made[name] = torch.randint(0, spec.vocabulary, shape, generator=generator).to(device)
    if list(made) == ["x"]:
        return tuple(made.values()), {}  # image models name their only argument differently
    return (), made


def _images(
    spec: ModelSpec, batch: int, device: str, dtype: torch.dtype, generator: torch.Generator,
    *, training: bool,
) -> tuple[Any, ...]:  # fmt: skip
    pictures = [torch.rand(3, 480, 640, generator=generator).to(device, dtype)
                for _ in range(batch)]  # fmt: skip
    if not training:
        return (pictures,)
    corner = torch.rand(4, 2, generator=generator) * 200
    boxes = torch.cat([corner, corner + 100], 1).to(device)
    labels = torch.randint(1, spec.vocabulary, (4,), generator=generator).to(device)
    return pictures, [{"boxes": boxes.clone(), "labels": labels.clone()} for _ in range(batch)]
