"""Figures that are numbers, compare with text such as ``"8 GiB"``, and explain themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torchgauge.budget.layers import heaviest_layers
from torchgauge.budget.limits import MEASURES, PARSERS, Measure
from torchgauge.facts.loop.check import Unit
from torchgauge.facts.report import Report
from torchgauge.units import format_bytes, format_integer, format_milliseconds

_FORMS: Mapping[Unit, Callable[[float], str]] = {
    Unit.COUNT: lambda value: format_integer(round(value)),
    Unit.MACS: lambda value: format_integer(round(value)),
    Unit.BYTES: format_bytes,
    Unit.MILLISECONDS: format_milliseconds,
}


class _Gauged:
    """What a figure of a report can do besides being a number."""

    is_gauged: ClassVar = True
    report: Report
    name: str
    measure: Measure

    def __lt__(self, other: object) -> Any:
        return self._compared("__lt__", other)

    def __le__(self, other: object) -> Any:
        return self._compared("__le__", other)

    def __gt__(self, other: object) -> Any:
        return self._compared("__gt__", other)

    def __ge__(self, other: object) -> Any:
        return self._compared("__ge__", other)

    def __eq__(self, other: object) -> Any:
        return self._compared("__eq__", other)

    def __ne__(self, other: object) -> Any:
        return self._compared("__ne__", other)

    def __hash__(self) -> int:
        return hash(self._number())

    def _number(self) -> float:
        raise NotImplementedError

    def _compared(self, name: str, other: object) -> Any:
        meant = self._meant(other)
        if isinstance(meant, _Gauged):
            meant = meant._number()
        number = self._number()
        return getattr(number, name)(float(meant) if isinstance(number, float) else meant)

    def _meant(self, other: Any) -> Any:
        """Return the number that a text stands for."""
        return PARSERS[self.measure.unit](other) if isinstance(other, str) else other

    def explained(self, op: str, left: Any, right: Any) -> list[str]:
        """Return the lines of a failed comparison: by how much, and the layers that carry most."""
        form = _FORMS[self.measure.unit]
        sides = [self._meant(side) for side in (left, right)]
        first, second = (form(side) for side in sides)
        over = sides[0] - sides[1]
        share = f" ({over / sides[1]:+.2%})" if sides[1] else ""
        lines = [
            f"{self.name} of {self.report.model_name}: {first} {op} {second}",
            f"  difference: {'−' if over < 0 else '+'}{form(abs(over))}{share}",
        ]
        layers = heaviest_layers(self.report, self.measure)
        if layers:
            lines.append("  heaviest layers:")
            lines += [
                f"    {layer.path or '(model)'} {layer.type}: {form(layer.value)}"
                for layer in layers
            ]
        return lines


class Count(_Gauged, int):
    """A number of parameters, MACs or bytes."""

    def _number(self) -> int:
        return int(self)


class Milliseconds(_Gauged, float):
    """A time in milliseconds."""

    def _number(self) -> float:
        return float(self)


def figure_of(report: Report, name: str, key: str) -> Any:
    """Return a figure of a report; ``key`` is that of the budget that limits it.

    Raises:
        ValueError: the report does not hold it.
    """
    measure = MEASURES[key]
    value = measure.value_of(report)
    if value is None:
        hint = measure.hint.replace("input-size", "input size").replace(" = ", "=")
        raise ValueError(f"gauge(…).{name} is not known: {measure.lacking}; {hint}")
    kind = Milliseconds if measure.unit is Unit.MILLISECONDS else Count
    made = kind(value)
    made.report, made.name, made.measure = report, name, measure
    return made
