"""torchvision's models as they were when their published figures were measured.

The measuring conventions are those of torchvision's own ``test/common_extended_utils.py`` and
``test/test_extended_models.py``: a random 512×512 image (or the detector's own size, or 16 frames)
goes through the preset of the weights; figures of quantized models are those of the float ones.
Nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.models.torchvision_operators import define_missing_operators

define_missing_operators()
torchvision = pytest.importorskip("torchvision", exc_type=ImportError)

from torchvision import models  # noqa: E402
from torchvision.models._api import WeightsEnum  # noqa: E402
from torchvision.ops import boxes, poolers  # noqa: E402

IMAGE = 512
FRAMES = 16
DETECTOR_SIDES = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": 320,
    "keypointrcnn_resnet50_fpn": 1333,
    "ssd300_vgg16": 300,
    "ssdlite320_mobilenet_v3_large": 320,
}
"""Side of the image given to a detector; 800 for the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One entry of torchvision's weights."""

    model: str
    weights: str
    params: int
    gmacs: float
    entry: Any

    @property
    def is_detector(self) -> bool:
        return self.model in models.list_models(models.detection)

    def __str__(self) -> str:
        return f"{self.model}-{self.weights}"


def published() -> list[Published]:
    """Return every entry that has figures."""
    return [
        Published(
            model=name,
            weights=entry.name,
            params=entry.meta["num_params"],
            gmacs=entry.meta["_ops"],
            entry=entry,
        )
        for name in models.list_models()
        for entry in models.get_model_weights(name)
    ]


def build(case: Published, **settings: Any) -> nn.Module:
    """Build the model that the weights belong to, with their settings and without themselves.

    Weights switch things: auxiliary heads, frozen normalisation. Detectors are built for real:
    which boxes they keep depends on their values, and real initial values keep boxes apart.
    """
    entry = case.entry
    if case.model.startswith("quantized_"):
        entry = entry.meta["unquantized"] or entry
        settings["quantize"] = False
    builder = models.get_model_builder(case.model)

    def make() -> nn.Module:
        with _without_downloads(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return builder(weights=entry, **settings)

    if case.is_detector:
        torch.manual_seed(0)
        return make()
    try:
        with tg.meta_construction():
            return make()
    except NotImplementedError:  # regnet looks at its own weights while it is built
        return make()


@contextlib.contextmanager
def _without_downloads() -> Iterator[None]:
    with (
        mock.patch.object(WeightsEnum, "get_state_dict", lambda *args, **kwargs: {}),
        mock.patch.object(nn.Module, "load_state_dict", lambda *args, **kwargs: None),
    ):
        yield


def analyze(case: Published, model: nn.Module) -> tg.Report:
    """Analyse a model on the input that its figures were measured on."""
    if case.is_detector:
        side = DETECTOR_SIDES.get(case.model, 800)
        with detection_operators():
            return tg.analyze(model, input_data=([torch.rand(3, side, side)],))
    home = type(model).__module__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        preset = case.entry.transforms()
    if ".optical_flow." in home:
        return tg.analyze(model, [(1, 3, IMAGE, IMAGE)] * 2)
    side = getattr(preset, "crop_size", None) or preset.resize_size
    height, width = (side[0], side[-1]) if isinstance(side, list | tuple) else (side, side)
    frames = (FRAMES,) if ".video." in home else ()
    return tg.analyze(model, (1, 3, *frames, height, width))


# ------------------------------------------------------------------------ detectors


def let_through(model: nn.Module, *, proposals: int | None = None, detections: int = 0) -> None:
    """Choose how many boxes reach the heads, which in a trained detector depends on the image.

    As many proposals as the model admits by default.
    """
    if proposals is not None:
        model.rpn._post_nms_top_n["testing"] = proposals
    model.rpn.score_thresh = -1.0
    model.roi_heads.score_thresh = -1.0 if detections else 2.0
    model.roi_heads.detections_per_img = detections


@contextlib.contextmanager
def detection_operators() -> Iterator[None]:
    """Stand in for torchvision's own kernels, with results of the right shape.

    Non-maximum suppression keeps every box, so that the numbers of boxes are the models' own
    limits and the same on every machine; pooled regions are zeros.
    """

    def keep_all(
        boxes: torch.Tensor, scores: torch.Tensor, classes: torch.Tensor, threshold: float
    ) -> torch.Tensor:
        return scores.argsort(descending=True)

    def pooled(
        source: torch.Tensor, regions: torch.Tensor, output_size: tuple[int, int], **_: Any
    ) -> torch.Tensor:
        return source.new_zeros(len(regions), source.shape[1], *output_size)

    stand_ins: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
        (boxes, "batched_nms", keep_all),
        (poolers, "roi_align", pooled),
    )
    with contextlib.ExitStack() as stack:
        for module, name, stand_in in stand_ins:
            stack.enter_context(mock.patch.object(module, name, stand_in))
        yield
