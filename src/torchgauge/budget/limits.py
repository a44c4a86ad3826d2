"""What a budget may limit, how limits are written, and what a figure is held against."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torchgauge.errors import UsageError
from torchgauge.facts.loop.check import Unit
from torchgauge.facts.report import Report
from torchgauge.units import parse_bytes, parse_count, parse_milliseconds

FITS, NOTHING_UNCOUNTED = "fits", "nothing-uncounted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A figure that can be limited."""

    figure: str
    """As in the report's JSON."""
    unit: Unit
    cost: tuple[str, ...]
    """Fields of a layer's own cost that make it up."""
    lacking: str = ""
    """Why a report may not hold it."""
    hint: str = ""

    def value_of(self, report: Report) -> float | None:
        """Return the figure, ``None`` where the report does not hold it."""
        part, _, name = self.figure.partition(".")
        value: float | None = getattr(getattr(report, part), name, None)
        return value


_MEMORY = ("param_bytes", "gradient_bytes", "saved_activation_bytes")
_NOT_RUN = {"lacking": "the model was not run", "hint": "add an input-size"}
_NO_GPU = {"hint": 'add a GPU: device = "T4"'}
MEASURES: Mapping[str, Measure] = {
    "max-params": Measure(figure="totals.params", unit=Unit.COUNT, cost=("params",)),
    "max-trainable-params": Measure(
        figure="totals.trainable_params", unit=Unit.COUNT, cost=("trainable_params",)
    ),
    "max-macs": Measure(figure="totals.forward_macs", unit=Unit.MACS, cost=("macs",)),
    "max-param-bytes": Measure(
        figure="totals.param_bytes", unit=Unit.BYTES, cost=("param_bytes",)
    ),
    "peak-memory": Measure(
        figure="memory.peak_allocated_bytes", unit=Unit.BYTES, cost=_MEMORY, **_NOT_RUN
    ),
    "device-memory": Measure(
        figure="memory.device_bytes", unit=Unit.BYTES, cost=_MEMORY,
        lacking="only a GPU has memory of its own", **_NO_GPU,
    ),
    "step-time": Measure(
        figure="time.total_ms", unit=Unit.MILLISECONDS, cost=("time_ms",),
        lacking="no time can be predicted for this device", **_NO_GPU,
    ),
}  # fmt: skip
KEYS = (*MEASURES, FITS, NOTHING_UNCOUNTED)
"""The limits that a budget may hold."""

PARSERS: Mapping[Unit, Callable[[str], float]] = {
    Unit.COUNT: parse_count, Unit.MACS: parse_count, Unit.BYTES: parse_bytes,
    Unit.MILLISECONDS: parse_milliseconds,
}  # fmt: skip
"""How a limit that is text is read."""
_RELATIVE = re.compile(r"\s*baseline\s*(?:([+\-−])\s*(.+?)\s*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One limit of a budget."""

    key: str
    written: str
    line: int
    amount: float = 0.0
    """The limit itself, or what is added to the baseline's figure."""
    is_relative: bool = False
    share: float | None = None
    """What is added to the baseline's figure, as a share of it."""
    devices: tuple[str, ...] = ()
    """Of ``fits``."""

    def limit(self, baseline: float | None) -> float:
        """Return what a figure may be at most; ``baseline`` is the baseline's figure."""
        if not self.is_relative:
            return self.amount
        assert baseline is not None
        return baseline * (1 + self.share) if self.share is not None else baseline + self.amount


def limit_from(key: str, value: Any, line: int) -> Limit | None:
    """Read a limit; ``None`` for ``nothing-uncounted = false``.

    Raises:
        UsageError: it is not written as a limit of this kind.

    >>> limit_from("max-params", "baseline + 2 %", 1).share
    0.02
    >>> limit_from("peak-memory", "8 GiB", 1).limit(None)
    8589934592
    """
    if key == NOTHING_UNCOUNTED:
        if not isinstance(value, bool):
            raise UsageError(f"{key} = {value!r} is neither true nor false", hint="write true")
        return Limit(key=key, written="true", line=line) if value else None
    if key == FITS:
        return _fits(value, line)
    unit = MEASURES[key].unit
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return Limit(key=key, written=f"{value:,}", line=line, amount=value)
    if not isinstance(value, str):
        raise UsageError(f"{key} = {value!r} is not a limit", hint=_how_to_write(unit))
    relative = _RELATIVE.fullmatch(value)
    try:
        if relative is None:
            return Limit(key=key, written=value, line=line, amount=PARSERS[unit](value))
        sign = -1 if relative[1] in ("-", "−") else 1
        share, amount = None, 0.0
        if (added := relative[2]) is not None:
            percent = re.fullmatch(r"([0-9.]+)\s*%", added)
            share = sign * float(percent[1]) / 100 if percent else None
            amount = 0.0 if percent else sign * PARSERS[unit](added)
    except ValueError as error:
        raise UsageError(f"{key}: {error}", hint=_how_to_write(unit)) from error
    return Limit(
        key=key, written=value, line=line, is_relative=True, share=share, amount=amount
    )  # fmt: skip


def _fits(value: Any, line: int) -> Limit:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise UsageError(
            f"{FITS} = {value!r} is neither the name of a device nor a list of names",
            hint='write fits = "T4"; torchgauge devices lists the names',
        )
    return Limit(key=FITS, written=", ".join(names), line=line, devices=tuple(names))


def _how_to_write(unit: Unit) -> str:
    example = {Unit.BYTES: "8 GiB", Unit.MILLISECONDS: "20 ms"}.get(unit, "5 M")
    return f'write "{example}", "baseline" or "baseline + 2 %"'
