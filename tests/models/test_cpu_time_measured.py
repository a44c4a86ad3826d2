"""Ground truth: 20 models on the CPU at hand, predicted after a calibration, and measured."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest
from benchmarks import cpu_time

import torchgauge as tg

pytestmark = pytest.mark.models


ATTEMPTS = 2
"""A neighbour on the same host makes a virtual machine slower for minutes: calibrated before it
came and measured while it was there, every model is off by as much."""


def test_twenty_models_are_predicted_to_within_15_percent_in_the_median(tmp_path: Path) -> None:
    found = 1.0
    for attempt in range(ATTEMPTS):
        rows = cpu_time.measured(tmp_path / f"cpu{attempt}.json", tg.Scenario())
        cpu_time.report(rows)
        assert len(rows) == 20
        found = median(row.error for row in rows)
        if found <= 0.15:
            break
    assert found <= 0.15
