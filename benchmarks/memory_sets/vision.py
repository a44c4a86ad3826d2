"""Builders of image models; they import their library when they are called."""

from __future__ import annotations

from typing import Any

from torch import nn

from torchgauge.models.torchvision_operators import define_missing_operators


def torchvision_model(name: str, **settings: Any) -> nn.Module:
    """Return a model of torchvision without weights."""
    define_missing_operators()
    from torchvision import models

    model: nn.Module = models.get_model(name, weights=None, **settings)
    return model


def timm_model(name: str) -> nn.Module:
    """Return a model of timm as ``timm.create_model(name)`` makes it."""
    define_missing_operators()
    import timm

    model: nn.Module = timm.create_model(name)
    return model


def timm_side(name: str) -> int:
    """Return the side of the square images that timm trains a model on by default."""
    define_missing_operators()
    import timm

    config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    return int((config.input_size if config else (3, 224, 224))[1])
