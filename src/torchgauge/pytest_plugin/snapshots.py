"""Reports beside the tests, which later reports are compared with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torchgauge.budget.baselines import read_baseline, settings_changed, write_baseline
from torchgauge.compare.reports import compare_reports
from torchgauge.facts.loop.comparison import ChangeKind, Comparison
from torchgauge.facts.report import Report
from torchgauge.units import format_integer

_FOLDER = "gauge_snapshots"
_FIGURES = (
    "totals.params", "totals.trainable_params", "totals.param_bytes", "totals.forward_macs",
    "memory.peak_allocated_bytes",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshots:
    """The snapshots of one test."""

    folder: Path
    test: str
    update: bool

    @classmethod
    def of_test(cls, path: Path, name: str, *, update: bool) -> Snapshots:
        """Return the snapshots of a test of a file."""
        return cls(folder=path.parent / _FOLDER / path.stem, test=_as_file(name), update=update)

    def differences(self, report: Report, name: str, within: float) -> list[str]:
        """Return what differs from a snapshot, in lines; write it instead where that is asked."""
        path = self.folder / f"{self.test}{f'.{_as_file(name)}' if name else ''}.json"
        if self.update:
            write_baseline(path, report)
            return []
        if not path.is_file():
            return [f"there is no snapshot {path.name}", "  try: pytest --gauge-update"]
        before = read_baseline(path)
        found = [*settings_changed(before, report)]
        found += _different(compare_reports(before, report), within)
        if not found:
            return []
        return [
            f"{report.model_name} differs from {path.name}:",
            *(f"  {line}" for line in found),
            "  try: pytest --gauge-update, where that is meant",
        ]


def _different(comparison: Comparison, within: float) -> Iterator[str]:
    for figure in comparison.figures:
        if figure.name not in _FIGURES or figure.before is None or figure.after is None:
            continue
        if abs(figure.after - figure.before) > within * figure.before:
            before, after = (format_integer(round(v)) for v in (figure.before, figure.after))
            share = "" if figure.ratio is None else f" ({figure.ratio - 1:+.2%})"
            yield f"{figure.name}: {before} → {after}{share}"
    for layer in comparison.layers:
        is_figure = any(name != "time_ms" for name in layer.difference)
        if not within and (is_figure or layer.kind is not ChangeKind.CHANGED):
            yield f"{layer.path or '(model)'} {layer.type}: {layer.kind}"


def _as_file(name: str) -> str:
    r"""Return a name of a test as a name of a file.

    >>> _as_file("test_net[a/b-3]")
    'test_net-a-b-3'
    """
    return re.sub(r"[^\w.]+", "-", name).strip("-")
