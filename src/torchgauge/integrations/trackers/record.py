"""A report as trackers keep it: numbers by name, pages, and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torchgauge.facts.report import Report
from torchgauge.render import get_format
from torchgauge.render.pages.report import report_page

PREFIX = "torchgauge/"
"""Stands before the name of each figure, so that a tracker groups them."""
TEXT_NAME, HTML_NAME, JSON_NAME = "torchgauge.txt", "torchgauge.html", "torchgauge.json"

_TOTALS = (
    "params", "trainable_params", "param_bytes", "buffer_bytes", "forward_macs", "forward_flops",
    "backward_flops", "total_flops", "elementwise_flops",
)  # fmt: skip
_MEMORY = (
    "input_bytes", "parameter_bytes", "gradient_bytes", "optimizer_bytes",
    "saved_activation_bytes", "peak_allocated_bytes", "peak_reserved_bytes", "context_bytes",
    "device_bytes", "minimum_bytes", "capacity_bytes",
)  # fmt: skip
_TIME = ("forward_ms", "loss_ms", "backward_ms", "optimizer_ms", "total_ms")
_WIDTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A report, ready to be kept."""

    scalars: dict[str, float]
    """By ``"torchgauge/peak_allocated_bytes"``: the unit is in the name."""
    text: str
    html: str
    json: str
    """What ``torchgauge.load`` reads."""


def record_of(report: Report) -> Record:
    """Return all forms in which a report is kept."""
    page = report_page(report)
    return Record(
        scalars=scalars(report),
        text=get_format("text", width=_WIDTH).render(page),
        html=get_format("html").render(page),
        json=report.to_json(),
    )


def scalars(report: Report) -> dict[str, float]:
    """Return the figures of a report by name; those that it does not hold are left out.

    >>> import torchgauge as tg, torch
    >>> scalars(tg.analyze(torch.nn.Linear(8, 4), (2, 8)))["torchgauge/forward_macs"]
    64
    """
    return {f"{PREFIX}{name}": value for name, value in _figures(report)}


def _figures(report: Report) -> Iterator[tuple[str, float]]:
    parts = ((report.totals, _TOTALS), (report.memory, _MEMORY), (report.time, _TIME))
    for part, names in parts:
        for name in names:
            value = getattr(part, name, None)
            if value is not None:
                yield name, value
