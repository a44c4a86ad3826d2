"""What the page lets its reader change: the choices, and what each model was asked with."""

from __future__ import annotations

from typing import Any

from torchgauge.changes.inputs import Ran, can_change_batch, has_batch, sizes_of
from torchgauge.devices import all_devices
from torchgauge.facts.scenario import OPTIMIZERS, Checkpointing, Mode, Precision
from torchgauge.request import Request
from torchgauge.units import format_bytes
from torchgauge.web.live.changes import OFF, checkpointing_of


def choices() -> dict[str, Any]:
    """Return the values to choose from, by the names of the command line."""
    return {
        "mode": list(Mode),
        "precision": list(Precision),
        "optimizer": list(OPTIMIZERS),
        "checkpointing": [OFF, *Checkpointing],
        "device": [
            {"name": "cpu", "about": ""},
            *(
                {"name": device.name, "about": format_bytes(device.usable_memory_bytes)}
                for device in all_devices()
            ),
        ],
    }


def values_of(request: Request, ran: Ran) -> dict[str, Any]:
    """Return the values that a request has; ``None`` for what cannot be changed."""
    scenario = request.scenario
    batch = ran.batch_size if can_change_batch(request.inputs, ran) else None
    return {
        "mode": scenario.mode,
        "batch-size": batch,
        "input-size": _sizes(request, ran),
        "context": ran.context,
        "precision": scenario.precision,
        "optimizer": scenario.optimizer,
        "checkpointing": checkpointing_of(scenario),
        "accumulation": scenario.accumulation,
        "device": scenario.device,
    }


def _sizes(request: Request, ran: Ran) -> list[str]:
    """Return the sizes as the command line takes them; those of the first run where none is given.

    Without a batch where one is added to them; an empty one to be filled where nothing has run.
    """
    inputs = request.inputs
    if inputs.data is not None:
        return []
    given = sizes_of(inputs)
    if given:
        is_named = isinstance(inputs.size, dict)
        return [
            (f"{name}=" if is_named else "") + ",".join(map(str, size))
            for name, size in given.items()
        ]
    if not ran.inputs:
        return [""]
    first = 1 if ran.batch_size is not None and not has_batch(inputs, ran) else 0
    return [
        f"{one.name}=" + ",".join(map(str, one.shape[first:])) for one in ran.inputs if one.shape
    ]
