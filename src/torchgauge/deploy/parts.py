"""What a package is made of: what was asked for, and everything that is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from torchgauge.deploy.export.exporting import Exported
from torchgauge.deploy.export.signature import Signature
from torchgauge.deploy.memory_table import MemoryTable
from torchgauge.deploy.verification import Comparison
from torchgauge.facts.report import Report
from torchgauge.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageRequest:
    """What to package and how."""

    asked: Request
    """The model and its inputs; its scenario has the device that memory is predicted for. The
    program itself runs on any."""
    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    """Dimensions that may vary besides batch and sequence: by input, with their names."""
    longest: int | None = None
    """The most that other dynamic dimensions than the batch may be; ``None`` takes what the model
    is made for, if its configuration says so, and else ``LONGEST``."""
    examples: Mapping[str, torch.Tensor] | None = None
    """Real inputs by name, for the comparison; noise within the bounds otherwise."""
    onnx: bool = False
    wheels: tuple[Path, ...] = ()
    budget_bytes: int | None = None
    budget_ms: float | None = None
    """Milliseconds that one forward of ``budget_batch`` samples may take on the device."""
    budget_batch: int = 1
    """The batch that has to keep within the budgets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """Everything that a package is made of."""

    folder: Path
    exported: Exported
    model: nn.Module
    report: Report
    comparisons: tuple[Comparison, ...]
    memory: tuple[MemoryTable, ...]
    request: PackageRequest
    example: tuple[torch.Tensor, ...]
    notes: tuple[str, ...] = ()

    @property
    def signature(self) -> Signature:
        """Return what the program takes and returns."""
        return self.exported.signature
