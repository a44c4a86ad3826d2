"""Which layers a figure is made of, or carry its difference to the baseline. Pure functions."""

from __future__ import annotations

from torchgauge.budget.limits import Measure
from torchgauge.compare.reports import compare_reports
from torchgauge.facts.loop.check import LayerShare
from torchgauge.facts.query import Cost, own_costs
from torchgauge.facts.report import Report

_TOP = 3
_AT_PEAK = ("memory.peak_allocated_bytes", "memory.device_bytes")


def heaviest_layers(report: Report, measure: Measure) -> tuple[LayerShare, ...]:
    """Return the layers that cost most; of memory those that hold most at the peak."""
    sums: dict[str, float] = {}
    if measure.figure in _AT_PEAK and report.memory is not None:
        for tensor in report.memory.alive_at_peak:
            sums[tensor.module] = sums.get(tensor.module, 0) + tensor.nbytes
    else:
        sums = {path: _sum(cost, measure) for path, cost in own_costs(report).items()}
    top = sorted(sums.items(), key=lambda item: -item[1])[:_TOP]
    return tuple(
        LayerShare(path=path, type=_type(report, path), value=value, is_difference=False)
        for path, value in top
        if value > 0
    )


def grown_layers(baseline: Report, report: Report, measure: Measure) -> tuple[LayerShare, ...]:
    """Return the layers that add most to what a figure is larger than in the baseline."""
    grown = [
        LayerShare(
            path=layer.path,
            type=layer.type,
            value=sum(layer.difference.get(name, 0) for name in measure.cost),
            is_difference=True,
        )
        for layer in compare_reports(baseline, report).layers
    ]
    return tuple(sorted((g for g in grown if g.value > 0), key=lambda g: -g.value)[:_TOP])


def _sum(cost: Cost, measure: Measure) -> float:
    found: float = sum(getattr(cost, name) for name in measure.cost)
    return found


def _type(report: Report, path: str) -> str:
    return report.modules[path].type if path in report.modules else ""
