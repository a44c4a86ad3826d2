"""``timm:vit_base_patch16_224``: any architecture that timm registers, without its weights."""

from __future__ import annotations

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

if TYPE_CHECKING:
    from torchgauge.models.spec import ModelSpec


def build(spec: ModelSpec) -> ModelBuild:
    """Build a timm model without weights.

    Raises:
        ModelSpecError: no such name, or arguments that the model does not take.
        MissingExtraError: timm is not installed.
    """
    timm = import_library("timm", install="torchgauge[timm]")
    name = spec.target
    if ":" in name or "/" in name:  # hf-hub:…, local-dir:…
        raise ModelSpecError(
            f"timm:{name} is not an architecture that timm registers",
            hint="models from a hub are not downloaded; name the architecture, as in timm:resnet50",
        )
    if not timm.is_model(name):
        known = timm.list_models()
        raise ModelSpecError(
            f"timm has no model {name!r}",
            hint=did_you_mean(name, known, otherwise="see timm.list_models()"),
        )
    check_keywords_only(spec, refused=("pretrained", "checkpoint_path"))
    keywords = {**spec.keywords, "pretrained": False}
    try:
        with quiet_library():
            model, warnings = construct(lambda: timm.create_model(name, **keywords), spec.text)
    except TorchGaugeError:
        raise
    except Exception as error:
        raise failed_to_build(spec, error) from error
    return ModelBuild(
        model=model,
        name=type(model).__name__,
        spec=spec.text,
        default_inputs=_default_inputs(spec, model),
        warnings=warnings,
    )


def _default_inputs(spec: ModelSpec, model: Any) -> DefaultInputs | None:
    settings = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None) or {}
    size = settings.get("input_size")
    if size is None:
        return None
    channels, height, width = size
    why = "timm's default_cfg"
    if image := spec.keywords.get("img_size"):
        height, width = (image, image) if isinstance(image, int) else tuple(image)
        why = "from img_size"
    channels = spec.keywords.get("in_chans", channels)
    return DefaultInputs(
        sizes=(channels, height, width),
        why=f"input size {channels},{height},{width}: {why} (choose with --input-size)",
    )
