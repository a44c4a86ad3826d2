"""Places to recompute, installed on a model."""

from __future__ import annotations

import copy
from collections.abc import Iterable

from torch import nn

from torchgauge.errors import UsageError
from torchgauge.facts.choices.checkpointing import Checkpointing, Place
from torchgauge.facts.loop.checkpoints import CheckpointPlan
from torchgauge.trace.step.checkpointing import (
    Recomputed,
    Stretches,
    check_places,
    checkpoint_blocks,
    checkpoint_stretches,
)


def apply(plan: CheckpointPlan, model: nn.Module, *, in_place: bool = False) -> nn.Module:
    """Return a model with a plan; see ``CheckpointPlan.apply``."""
    return installed(plan.checkpointed, model, in_place=in_place)


def installed(
    checkpointed: Iterable[str], model: nn.Module, *, in_place: bool = False
) -> nn.Module:
    """Return a copy of a model, or the model itself, that recomputes some places in its backward.

    Raises:
        TorchGaugeError: the model has not all of these places, has a plan already, or cannot be
            copied.
    """
    places = tuple(map(Place.read, checkpointed))
    check_places(model, places)
    for path, module in model.named_modules():
        if isinstance(module.__dict__.get("forward"), (Recomputed, Stretches)):
            raise UsageError(
                f"{path or 'the model'} is checkpointed already",
                hint="del module.forward takes a plan back",
            )
    if not in_place:
        try:
            model = copy.deepcopy(model)
        except Exception as error:  # whatever the model's own __deepcopy__ raises
            raise UsageError(
                f"the model cannot be copied: {type(error).__name__}: {error}",
                hint="apply(model, in_place=True) changes the model itself",
            ) from error
    if places:
        checkpoint_stretches(model, Checkpointing.NON_REENTRANT, places)
        checkpoint_blocks(model, Checkpointing.NON_REENTRANT, places)
    return model
