"""How a figure of a project changed: read from its history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torchgauge.errors import UsageError
from torchgauge.explain.figures import FIGURES
from torchgauge.facts.loop.history import Analysis, History
from torchgauge.facts.precision import dtypes_of
from torchgauge.loop.history import rows_of
from torchgauge.models.suggest import did_you_mean
from torchgauge.render.pages.settings import settings
from torchgauge.version import __version__

_OTHER_NAMES = {
    "peak_memory": "memory.peak_allocated_bytes", "device_memory": "memory.device_bytes",
    "step_time": "time.total_ms", "trainable_params": "totals.trainable_params",
    "param_bytes": "totals.param_bytes",
}  # fmt: skip
"""As a budget and the ``gauge`` fixture name them."""


def place_of(figure: str) -> str:
    """Return where a figure stands in a report, by a short name or by its place itself.

    >>> place_of("params"), place_of("peak-memory"), place_of("time.forward_ms")
    ('totals.params', 'memory.peak_allocated_bytes', 'time.forward_ms')
    """
    return _names().get(figure.replace("-", "_"), figure)


def _names() -> dict[str, str]:
    return {**{name: kind.place for name, kind in FIGURES.items()}, **_OTHER_NAMES}


def trend(path: Path, figure: str, *, spec: str | None = None, most: int | None = None) -> History:
    """Return the analyses of a project, or of one model, with a figure of each.

    Args:
        path: the history.
        figure: a short name (``"params"``, ``"peak_memory"``), or as in the JSON of a report:
            ``"totals.params"``.
        spec: the model; all of them by default.
        most: how many of the last ones; all of them by default.

    Raises:
        UsageError: no report has such a figure, or the file is not a history.
    """
    place = place_of(figure)
    analyses = tuple(
        Analysis(
            number=row.number, at=row.at, revision=row.revision, is_dirty=row.is_dirty,
            spec=row.spec,
            model_name=row.report.model_name,
            settings=tuple(settings(row.report.scenario, dtypes_of(row.report))),
            batch_size=row.report.batch_size,
            value=_value(row.report, place),
        )
        for row in rows_of(path, spec=spec, most=most)
    )  # fmt: skip
    if analyses and all(item.value is None for item in analyses):
        raise UsageError(
            f"none of these analyses holds a figure {figure!r}", hint=_hint(figure, place)
        )
    return History(tool_version=__version__, figure=place, analyses=analyses)


def _hint(figure: str, place: str) -> str:
    if place in _names().values():
        return "choose another figure, or analyse the model with inputs and a GPU: --device T4"
    known = "totals.params, memory.peak_allocated_bytes, time.total_ms"
    return did_you_mean(figure, _names(), otherwise=f"name one as in the JSON: {known}")


def _value(report: Any, place: str) -> float | None:
    value = report
    for name in place.split("."):
        value = getattr(value, name, None)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number else None
