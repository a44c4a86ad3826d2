"""A step laid out in time, as a trace file that Perfetto and Holistic Trace Analysis read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from torchgauge.facts.codec.files import write_atomically

TraceEvent: TypeAlias = Mapping[str, Any]
"""One event of the Trace Event Format: ``ph`` is its kind, ``ts`` and ``dur`` are microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What happened when in one step: modules, operators, kernels, and the memory in use.

    The events are those of the Trace Event Format (Google, 2016), with the categories that
    PyTorch's profiler gives its own: ``user_annotation`` (phases and modules), ``cpu_op``,
    ``cuda_runtime``, ``kernel``.
    """

    source: str
    """``"measured"`` or ``"predicted"``."""
    model_name: str
    device: str
    events: Sequence[TraceEvent]
    properties: Mapping[str, Any] = field(default_factory=dict)
    """Further members of the file, such as ``deviceProperties``."""

    def slices(self, category: str) -> Iterator[TraceEvent]:
        """Yield the events of one category that have a length."""
        return (e for e in self.events if e["ph"] == "X" and e.get("cat") == category)

    def counters(self) -> Iterator[TraceEvent]:
        """Yield the points of the memory track."""
        return (event for event in self.events if event["ph"] == "C")

    def to_json(self) -> str:
        """Return the file's text."""
        return json.dumps(
            {
                "schemaVersion": 1,
                "displayTimeUnit": "ms",
                "traceName": f"{self.model_name}, {self.source}",
                "distributedInfo": {"rank": 0},
                "otherData": {"tool": "torchgauge", "source": self.source, "device": self.device},
                **self.properties,
                "traceEvents": list(self.events),
            },
            separators=(",", ":"),
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Write the file; open it at ui.perfetto.dev or in chrome://tracing.

        Raises:
            OSError: the file cannot be written.
        """
        write_atomically(Path(path), self.to_json() + "\n")
