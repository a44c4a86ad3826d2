"""Ground truth: 20 models on the CPU at hand, predicted after a calibration, and measured."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest
from benchmarks import cpu_time

import torchgauge as tg

pytestmark = [pytest.mark.models, pytest.mark.timed]


ATTEMPTS = 2
"""A neighbour on the same host makes a virtual machine slower for minutes: calibrated before it
came and measured while it was there, every model is off by as much."""


AGREEING = 16
"""Models whose three slowest layers must be right: 80 %."""


def test_twenty_models_and_their_slowest_layers_are_predicted(tmp_path: Path) -> None:
    """The median error is at most 15 %, and the slowest layers are right in 16 of them."""
    error, agreeing = 1.0, 0
    for attempt in range(ATTEMPTS):
        rows = cpu_time.measured(tmp_path / f"cpu{attempt}.json", tg.Scenario())
        cpu_time.report(rows)
        assert len(rows) == 20
        error, agreeing = median(row.error for row in rows), sum(row.agrees for row in rows)
        if error <= 0.15 and agreeing >= AGREEING:
            break
    assert error <= 0.15
    assert agreeing >= AGREEING
