"""What was analysed when: one line per analysis, and the trend of a figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torchgauge.facts.answer import SCHEMA_VERSION, Saved, Tool
from torchgauge.facts.codec.shape import Shape
from torchgauge.shown import Shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """One analysis that the history holds."""

    number: int
    at: str
    """When, in UTC: ``"2026-11-30T07:30:00+00:00"``."""
    revision: str
    """The git commit that was checked out, ``""`` outside of a repository."""
    is_dirty: bool
    """Whether files under version control differed from that commit."""
    spec: str
    model_name: str
    settings: tuple[str, ...]
    """Mode, optimizer, precision, device: what the title of a page says."""
    batch_size: int | None
    value: float | None
    """The figure that the trend is of; ``None`` where that analysis does not hold it."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class History(Shown, Saved):
    """Analyses of a project, the oldest first."""

    tool_version: str
    figure: str
    """As in the JSON of a report: ``"memory.peak_allocated_bytes"``."""
    analyses: tuple[Analysis, ...]

    json: ClassVar = Shape(names=("schema_version", "tool", "figure", "analyses"))

    @property
    def schema_version(self) -> Literal[1]:
        """Return the version of the JSON contract."""
        return SCHEMA_VERSION

    @property
    def tool(self) -> Tool:
        """Return the program that made the answer."""
        return Tool(version=self.tool_version)

    def __str__(self) -> str:
        """Return in one line how the figure has gone."""
        values = [item.value for item in self.analyses if item.value is not None]
        ends = f"{values[0]:,} → {values[-1]:,}" if values else "–"
        return f"{self.figure}: {ends} over {len(self.analyses)} analyses"
