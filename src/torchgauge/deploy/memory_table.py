"""How much memory the program takes by batch and by length, and the largest batch for a budget.

Two traces give a line: fixed bytes and bytes per sample. There is one line per set of upper bounds
of the other dynamic dimensions, so a request of any length is covered by the next longer line.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from torchgauge.deploy.export.signature import Count
from torchgauge.deploy.manifest import MEMORY, read_json
from torchgauge.errors import PackageError


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLine:
    """Peak bytes of one forward: ``fixed_bytes + batch * bytes_per_sample``, weights included."""

    up_to: Mapping[str, Count]
    """Sizes of the dynamic dimensions other than the batch that this line is good for."""
    fixed_bytes: Count
    bytes_per_sample: Count
    milliseconds: Mapping[int, float] = field(default_factory=dict)
    """Predicted time of one forward by batch, at the upper bounds; empty where none is known."""

    def peak_bytes(self, batch: int) -> int:
        """Return the predicted peak for a batch."""
        return self.fixed_bytes + batch * self.bytes_per_sample

    def covers(self, sizes: Mapping[str, int]) -> bool:
        """Return whether the line holds for these sizes."""
        return all(sizes.get(name, 0) <= limit for name, limit in self.up_to.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryTable:
    """The lines of a package on one device, the shortest sizes first."""

    device: str
    parameter_bytes: Count
    lines: tuple[MemoryLine, ...]

    def largest_batch(
        self, sizes: Mapping[str, int], budget_bytes: int, extra_bytes: int = 0
    ) -> int:
        """Return how many samples of these sizes fit into ``budget_bytes``; 0 for none.

        ``extra_bytes`` is what each sample takes in addition to the model.
        """
        line = next((line for line in self.lines if line.covers(sizes)), None)
        if line is None or line.fixed_bytes > budget_bytes:
            return 0
        per_sample = line.bytes_per_sample + extra_bytes
        return 2**31 if per_sample <= 0 else (budget_bytes - line.fixed_bytes) // per_sample

    def to_dict(self) -> dict[str, Any]:
        """Return the table as plain data."""
        data: dict[str, Any] = msgspec.to_builtins(self, str_keys=True)
        return data


def line_over(
    up_to: Mapping[str, int],
    peaks: Mapping[int, int],
    milliseconds: Mapping[int, float] | None = None,
) -> MemoryLine:
    """Return the line that is not below the peak at any batch size of ``peaks``.

    >>> line_over({}, {2: 120, 4: 140, 8: 180}).peak_bytes(10)
    200
    """
    points = sorted(peaks.items())
    slopes = [
        -(-(second - first) // (high - low))
        for (low, first), (high, second) in itertools.pairwise(points)
    ]
    per_sample = max([0, *slopes])
    return MemoryLine(
        up_to=dict(up_to),
        fixed_bytes=max(0, *(peak - batch * per_sample for batch, peak in points)),
        bytes_per_sample=per_sample,
        milliseconds=dict(milliseconds or {}),
    )


def write_memory(folder: Path, tables: Sequence[MemoryTable]) -> None:
    """Write the tables of all devices that were asked for."""
    data = {"tables": [table.to_dict() for table in tables]}
    (folder / MEMORY).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def read_memory(folder: Path) -> tuple[MemoryTable, ...]:
    """Read the tables of a package.

    Raises:
        PackageError: something is missing or of a wrong kind.
    """
    try:
        tables = read_json(folder, MEMORY).get("tables")
        return msgspec.convert(tables, tuple[MemoryTable, ...], str_keys=True)
    except msgspec.ValidationError as error:
        raise PackageError(
            f"{MEMORY} of the package cannot be read: {error}",
            hint="package the model again: torchgauge package",
        ) from error
