"""What a suggestion changes, in words: shares, and the figure that it changes most."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from torchgauge.facts.loop.advice import Suggestion
from torchgauge.units import format_bytes, format_count, format_integer, format_milliseconds

Format = Callable[[float], str]
SHOWN: Final[tuple[tuple[str, str, Format], ...]] = (
    ("Params", "totals.params", lambda value: format_integer(int(value))),
    ("MACs", "totals.forward_macs", format_count),
    ("Memory", "memory.device_bytes", format_bytes),
    ("Tensors", "memory.peak_allocated_bytes", format_bytes),
    ("Time", "time.total_ms", format_milliseconds),
)
"""Label, name and format of the figures that advice shows."""
ACCURACY: Final = {
    "none": "same function", "small": "nearly the same", "retrain": "needs retraining",
}  # fmt: skip
_LEAST: Final = 0.005
"""Share of a figure below which nothing is said of it."""


def gains_of(suggestion: Suggestion) -> list[str]:
    """Return what a suggestion changes, the largest share first: ``"−41 % memory"``."""
    return [share_text(gain, label) for gain, label, _ in _changed(suggestion)]


def figures_of(suggestion: Suggestion) -> Iterator[str]:
    """Yield the largest change as figures, the others as shares.

    ``"401,484,648 → 204,648 params"``, ``"−98 % tensors"``.
    """
    changed = _changed(suggestion)
    for gain, label, name in changed:
        if (gain, label, name) == changed[0]:
            figure = next(item for item in suggestion.figures if item.name == name)
            form = next(form for _, other, form in SHOWN if other == name)
            before, after = form(figure.before or 0), form(figure.after or 0)
            unit = after.rpartition(" ")[2]
            if len(unit) > 1 and before.endswith(f" {unit}"):  # a K or an M says too little
                before = before.removesuffix(f" {unit}")
            yield f"{before} → {after} {named(label)}"
        else:
            yield share_text(gain, label)


def _changed(suggestion: Suggestion) -> list[tuple[float, str, str]]:
    """Return share saved, label and name of each figure that changes, the largest first."""
    on_gpu = any(figure.name == "memory.device_bytes" for figure in suggestion.figures)
    found = [
        (suggestion.gain(name), label, name)
        for label, name, _ in SHOWN
        if not (label == "Tensors" and on_gpu)
    ]
    return sorted(
        (item for item in found if abs(item[0]) >= _LEAST), key=lambda item: -abs(item[0])
    )


def share_text(gain: float, label: str) -> str:
    """Return a share as a change: ``"−41 % memory"``."""
    return f"{'−' if gain > 0 else '+'}{percent_text(abs(gain) * 100)} % {named(label)}"


def percent_text(share: float) -> str:
    """Return percent, never 100 or 0 for what is not all or nothing.

    >>> [percent_text(share) for share in (0.02, 1.234, 41.2, 99.95, 100.0, 250.0)]
    ['<0.1', '1.2', '41', '99.9', '100', '250']
    """
    if share < 0.05:
        return "<0.1"
    if 99.5 <= share < 100.0:
        return f"{min(share, 99.9):.1f}"
    return f"{share:.{0 if share >= 10 else 1}f}"


def named(label: str) -> str:
    """Return a label within a sentence."""
    return label if label == "MACs" else label.lower()
