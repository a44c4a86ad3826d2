"""What was analysed when: one line per analysis, and the trend of a figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torchgauge.facts.answer import Headed
from torchgauge.facts.codec.shape import Shape


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

    @property
    def asked(self) -> str:
        """Return the settings in a line."""
        batch = () if self.batch_size is None else (f"B = {self.batch_size}",)
        return " · ".join((*self.settings, *batch))

    @property
    def place(self) -> str:
        """Return the revision, with a star where files differed; the number where there is none."""
        if not self.revision:
            return f"#{self.number}"
        return self.revision[:7] + ("*" if self.is_dirty else "")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class History(Headed):
    """Analyses of a project, the oldest first."""

    tool_version: str
    figure: str
    """As in the JSON of a report: ``"memory.peak_allocated_bytes"``."""
    analyses: tuple[Analysis, ...]

    json: ClassVar = Shape(names=("schema_version", "tool", "figure", "analyses"))

    @property
    def groups(self) -> dict[tuple[str, str], tuple[Analysis, ...]]:
        """Return the analyses that can be compared: those of one model in the same settings.

        One in which the model was not run, so that the figure is not known, is a gap in every
        batch of these settings.
        """
        gaps = [item for item in self.analyses if item.batch_size is None and item.value is None]
        found: dict[tuple[str, str], list[Analysis]] = {}
        for item in self.analyses:
            if item not in gaps:
                found.setdefault((item.spec, item.asked), []).append(item)
        for gap in gaps:
            alike = [
                of for of in found.values()
                if (of[0].spec, of[0].settings) == (gap.spec, gap.settings)
            ]  # fmt: skip
            for of in alike or [found.setdefault((gap.spec, gap.asked), [])]:
                of.append(gap)
        return {key: tuple(sorted(of, key=lambda item: item.number)) for key, of in found.items()}

    def __str__(self) -> str:
        """Return in one line how the figure changed."""
        values = [item.value for item in self.analyses if item.value is not None]
        ends = f"{values[0]:,.12g} → {values[-1]:,.12g}" if values else "–"
        return f"{self.figure}: {ends} over {len(self.analyses)} analyses"
