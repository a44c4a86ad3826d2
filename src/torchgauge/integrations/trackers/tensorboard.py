"""TensorBoard, by a ``SummaryWriter`` of torch or of tensorboardX."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from torchgauge.integrations.trackers.record import JSON_NAME, PREFIX, Record


class TensorBoardTracker:
    """Writes scalars, the page as a text, and the JSON beside the event file.

    TensorBoard keeps scalars in 32 bits, which end at 16,777,216 exact parameters; torch's writer
    can keep 64.
    """

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def store(self, record: Record, step: int) -> None:
        """Write a record to the writer's folder."""
        writer = self._writer
        has_doubles = "double_precision" in inspect.signature(writer.add_scalar).parameters
        exact = {"new_style": True, "double_precision": True} if has_doubles else {}
        for name, value in record.scalars.items():
            writer.add_scalar(name, value, global_step=step, **exact)
        indented = "".join(f"    {line}\n" for line in record.text.splitlines())
        writer.add_text(f"{PREFIX}page", indented, global_step=step)
        writer.flush()
        folder = getattr(writer, "log_dir", None) or getattr(writer, "logdir", None)
        if folder is not None:
            Path(folder, JSON_NAME).write_text(record.json + "\n", encoding="utf-8")
