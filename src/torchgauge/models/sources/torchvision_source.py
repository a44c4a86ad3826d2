"""``torchvision:resnet50``: classification, detection, segmentation, video, quantization, flow."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from torchgauge.errors import ModelSpecError, TorchGaugeError
from torchgauge.models.build import DefaultInputs, ModelBuild, construct
from torchgauge.models.sources.library import (
    check_keywords_only,
    failed_to_build,
    import_library,
    quiet_library,
)
from torchgauge.models.suggest import did_you_mean
from torchgauge.units import format_integer

if TYPE_CHECKING:
    import torch

    from torchgauge.models.spec import ModelSpec

_FRAMES = 16
"""Frames of a clip: what torchvision's video models were trained and evaluated with."""


def build(spec: ModelSpec) -> ModelBuild:
    """Build a torchvision model without weights.

    Raises:
        ModelSpecError: no such name, or arguments that the model does not take.
        MissingExtraError: torchvision is not installed.
    """
    import_library("torchvision", install="torchgauge[vision]")
    models = import_library("torchvision.models", install="torchgauge[vision]")
    name = spec.target
    known = models.list_models()
    if name.lower() not in known:
        raise ModelSpecError(
            f"torchvision has no model {name!r}",
            hint=did_you_mean(name, known, otherwise="see torchvision.models.list_models()"),
        )
    check_keywords_only(spec, refused=("weights", "weights_backbone", "pretrained"))
    keywords = dict(spec.keywords)
    if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        keywords["weights_backbone"] = None  # its default downloads
    try:
        with quiet_library():
            model, warnings = construct(
                lambda: models.get_model(name, weights=None, **keywords), spec.text
            )
    except TorchGaugeError:
        raise
    except Exception as error:
        raise failed_to_build(spec, error) from error
    weights = _published_weights(models, name)
    return ModelBuild(
        model=model,
        name=type(model).__name__,
        spec=spec.text,
        default_inputs=_default_inputs(spec, model, weights),
        notes=() if spec.has_arguments else _published_count(model, weights),
        warnings=warnings,
    )


def _published_weights(models: Any, name: str) -> Any:
    """Return the default weights' entry (nothing is loaded), ``None`` when there is none."""
    try:
        return models.get_model_weights(name).DEFAULT
    except (ValueError, AttributeError):
        return None


def _default_inputs(spec: ModelSpec, model: torch.nn.Module, weights: Any) -> DefaultInputs | None:
    if weights is None:
        return None
    with quiet_library():
        preset = weights.transforms()
    size, why = _side(getattr(preset, "crop_size", None)), f"the crop of {weights}"
    if size is None:
        size, why = _side(getattr(preset, "resize_size", None)), f"the size that {weights} takes"
    min_size = getattr(getattr(model, "transform", None), "min_size", None)
    if size is None and min_size is not None:  # detection: the model resizes by itself
        size, why = _side(min_size), "what the model resizes to"
    if "image_size" in spec.keywords:
        size, why = _side(spec.keywords["image_size"]), "from image_size"
    if size is None:
        return None
    shape: tuple[int, ...] = (3, *size)
    if type(preset).__name__ == "VideoClassification":
        shape = (3, _FRAMES, *size)
    text = ",".join(map(str, shape))
    return DefaultInputs(sizes=shape, why=f"input size {text}: {why} (choose with --input-size)")


def _side(value: Any) -> tuple[int, int] | None:
    """Return height and width for ``224``, ``[224]`` or ``(224, 224)``."""
    if value is None:
        return None
    numbers = [value] if isinstance(value, int) else list(value)
    return (numbers[0], numbers[-1])


def _published_count(model: torch.nn.Module, weights: Any) -> tuple[str, ...]:
    """Say so when torchvision publishes another count than this model has.

    Built with weights, googlenet loses its auxiliary heads, the segmentation models gain them, and
    the detectors' normalisation becomes buffers.
    """
    published = weights.meta.get("num_params") if weights is not None else None
    built = sum(parameter.numel() for parameter in model.parameters())
    if published is None or published == built:
        return ()
    return (
        f"torchvision publishes {format_integer(published)} parameters for {weights}; without "
        f"weights it builds {format_integer(built)} (loading them switches auxiliary heads, "
        "--set aux_logits=… or aux_loss=…, and freezes the normalisation of detectors)",
    )
