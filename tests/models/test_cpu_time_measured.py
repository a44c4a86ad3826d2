"""Ground truth: 20 models on the CPU at hand, predicted after a calibration, and measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest
from benchmarks import cpu_time

import torchgauge as tg

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[cpu_time.Row]]:
    path: Path = tmp_path_factory.mktemp("calibration") / "cpu.json"
    found = cpu_time.measured(path, tg.Scenario())
    cpu_time.report(found)
    yield found


def test_twenty_models_are_predicted_to_within_15_percent_in_the_median(
    rows: list[cpu_time.Row],
) -> None:
    assert len(rows) == 20
    assert median(row.error for row in rows) <= 0.15
