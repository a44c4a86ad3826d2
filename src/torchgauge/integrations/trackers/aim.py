"""Aim: a ``Run``."""

from __future__ import annotations

import json
from typing import Any

from torchgauge.integrations.optional import optional
from torchgauge.integrations.trackers.record import PREFIX, Record

KEY = "torchgauge"
"""Of the report among the run's parameters."""


class AimTracker:
    """Tracks the figures and the page; the report itself is a parameter of the run.

    Args:
        run: a ``Run``.
    """

    def __init__(self, run: Any) -> None:
        self._run = run

    def store(self, record: Record, step: int) -> None:
        """Keep a record in the run."""
        text = optional("aim").Text
        for name, value in record.scalars.items():
            self._run.track(value, name=name, step=step)
        self._run.track(text(record.text), name=f"{PREFIX}page", step=step)
        self._run[KEY] = json.loads(record.json)
