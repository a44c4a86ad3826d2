"""What is to be reached.

``fit:T4``, ``params:-50%``, ``latency:20ms``, ``memory:8GB``, ``macs:600M``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from torchgauge.advise.measured import Measured
from torchgauge.devices import all_devices, find_device
from torchgauge.errors import TorchGaugeError, UsageError
from torchgauge.facts.loop.advice import Goal
from torchgauge.models.suggest import did_you_mean
from torchgauge.request import Request
from torchgauge.units import parse_bytes, parse_count

_FORMS: Final = "fit:RTX 3060 12GB, params:-50%, macs:600M, memory:8GB or latency:20ms"
_KINDS: Final = ("fit", "params", "macs", "memory", "latency")
_MOST_DEVICES: Final = 5
_MILLISECONDS: Final = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}


def device_of(text: str | None) -> str | None:
    """Return the device that a goal names, so that the step is traced for it.

    Raises:
        DeviceError: it is not known.
    """
    kind, _, rest = (text or "").partition(":")
    return find_device(rest.strip()).name if kind.strip() == "fit" else None


def goal_of(text: str, figures: Mapping[str, float], device: str) -> Goal:
    """Read a goal.

    Args:
        text: what was asked.
        figures: of the model as it is: a goal in percent is relative to it.
        device: of the scenario.

    Raises:
        UsageError: it has none of the known forms, or the model has no such figure.
    """
    kind, colon, rest = (part.strip() for part in text.partition(":"))
    if not colon or kind not in _KINDS:
        raise UsageError(
            f"{text!r} is not a goal", hint=did_you_mean(kind, _KINDS, otherwise=_FORMS)
        )
    if kind == "fit":
        return Goal(text=text, figure="memory.device_bytes", most=0.0, device=device)
    on_gpu = "memory.device_bytes" in figures
    memory = "memory.device_bytes" if on_gpu else "memory.peak_allocated_bytes"
    figure = {
        "params": "totals.params",
        "macs": "totals.forward_macs",
        "memory": memory,
        "latency": "time.total_ms",
    }[kind]
    if figure not in figures and kind == "latency":
        raise UsageError(
            f"{text!r} cannot be checked: no time can be predicted for {device}",
            hint="name a GPU: --device T4; for this CPU, torchgauge measure --calibrate",
        )
    if figure not in figures:
        raise UsageError(
            f"{text!r} cannot be checked: the step has no {figure}",
            hint="add a size: (3, 224, 224), --input-size 3,224,224",
        )
    return Goal(text=text, figure=figure, most=_most(kind, rest, figures[figure], text))


def _most(kind: str, text: str, now: float, whole: str) -> float:
    match = re.fullmatch(r"[-−]\s*(\d+(?:\.\d+)?)\s*%", text)
    if match and float(match[1]) < 100:
        return now * (1.0 - float(match[1]) / 100.0)
    try:
        if kind == "latency":
            match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|µs|ms|s)", text)
            if match is None:
                raise ValueError(text)
            return float(match[1]) * _MILLISECONDS[match[2]]
        if kind == "memory" and not text[-1:].isalpha():
            raise ValueError(text)  # 8 bytes are not meant
        return float(parse_bytes(text) if kind == "memory" else parse_count(text))
    except ValueError:
        raise UsageError(f"{whole!r} is not a goal", hint=f"write {_FORMS}") from None


def nearest_device(
    request: Request, needed_bytes: float, traced: Callable[[Request, str], Measured]
) -> str:
    """Return what to say of the GPU of least memory that a step fits; ``""`` where none is found.

    One GPU of each size that could do is traced, and no more than a few.
    """
    larger = {
        device.usable_memory_bytes: device.name
        for device in reversed(all_devices())  # the first of a size is the one that is kept
        if device.compute_capability is not None and device.usable_memory_bytes > needed_bytes
    }
    for _, name in sorted(larger.items())[:_MOST_DEVICES]:
        elsewhere = replace(request, scenario=replace(request.scenario, device=name))
        try:
            found = traced(elsewhere, f"the step on {name}")
        except TorchGaugeError:  # it lacks what the scenario asks for
            continue
        if found.fits:
            return f"it fits {name}"
    return ""


def is_reached(goal: Goal, figures: Mapping[str, float], fits: bool) -> bool:
    """Return whether a step meets a goal; ``fits`` is whether it fits its device."""
    if goal.device is not None:
        return fits
    return figures.get(goal.figure, float("inf")) <= goal.most
