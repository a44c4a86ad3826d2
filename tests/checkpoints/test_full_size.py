"""A plan of a model at its full size, run for real; ``full_size.py`` prints all of the table."""

from __future__ import annotations

import pytest
from full_size import run

pytestmark = [pytest.mark.slow, pytest.mark.models]


def test_the_planned_peak_is_the_real_one_to_the_byte() -> None:
    row = run("resnet152", 0.5)
    assert row.plan.fits and row.plan.recomputed
    assert row.real_bytes == row.predicted_bytes
