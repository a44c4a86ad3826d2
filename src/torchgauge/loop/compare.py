"""``torchgauge.compare``: two sides, each a report, a file or a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchgauge.compare.reports import compare_reports
from torchgauge.facts.io import load_step
from torchgauge.facts.loop.comparison import Comparison
from torchgauge.facts.report import Report
from torchgauge.facts.trace import Trace
from torchgauge.loop.sides import is_saved
from torchgauge.models.requests import request_of
from torchgauge.reports import estimate_trace

if TYPE_CHECKING:
    from torchgauge.request import InputSize


def compare(
    before: Any, after: Any, input_size: InputSize | None = None, **options: Any
) -> Comparison:
    """Return what changed from one model, report or file to another. Nothing is printed.

    Layers are matched by path, then by shape and position, so that renamed and moved ones are
    recognised. The differences of the layers and of what is outside of them sum to the totals'.

    Args:
        before: a report, a trace, the path of a saved one, or a model as ``analyze`` takes it.
        after: the same; for the same model in another scenario, analyse it twice.
        input_size: as ``analyze`` takes it, for sides that are models.
        **options: those of ``analyze``, for sides that are models.

    Raises:
        TorchGaugeError: what ``load`` and ``analyze`` raise.

    >>> from torch import nn
    >>> from torchgauge import compare
    >>> found = compare(nn.Linear(8, 2), nn.Linear(8, 4), (1, 8))
    >>> found.figure("totals.params").difference, found.layers[0].difference["macs"]
    (18, 16)
    """

    def report_of(side: Any) -> Report:
        if isinstance(side, Path) or (isinstance(side, str) and is_saved(side)):
            side = load_step(side)
        if isinstance(side, Trace):
            return estimate_trace(side)
        if isinstance(side, Report):
            return side
        from torchgauge.analyze import analyze_model

        return analyze_model(request_of(side, input_size, options))

    return compare_reports(report_of(before), report_of(after))
