"""Small models, and the check that what a tracker kept equals the report."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest

import torchgauge as tg
from torchgauge.facts.report import report_from_json
from torchgauge.integrations.trackers.record import scalars


def library(name: str) -> Any:
    """Import a library of ``make test-integrations``, or skip with what it lacks."""
    return pytest.importorskip(name, reason=f"{name} is not installed (make test-integrations)")


def check_kept(report: tg.Report, kept: Mapping[str, float], text: str) -> None:
    """Compare what a tracker gave back with the report: every figure, and the whole JSON."""
    expected = scalars(report)
    assert len(expected) > 10
    for name, value in expected.items():
        assert math.isclose(kept[name], value, rel_tol=1e-12), name
    assert report_from_json(text).to_dict() == json.loads(report.to_json())
