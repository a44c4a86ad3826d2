"""The model of the allocator against PyTorch's own, compiled; see benchmarks/allocator_truth."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[4]))

from benchmarks.allocator_truth.programs import RELEASES, SETTINGS, Case, run_model
from benchmarks.allocator_truth.record import EVERY, GOLDEN, summary

RECORDS = json.loads(GOLDEN.read_text(encoding="utf-8"))


def case_of(record):
    names = ("release", "settings", "seed", "device_bytes", "fraction")
    return Case(**{name: record[name] for name in names})


def name_of(record):
    return f"{record['release']}-{record['settings'] or 'defaults'}"


@pytest.mark.parametrize("record", RECORDS, ids=name_of)
def test_every_counter_after_every_step(record):
    rows = run_model(case_of(record))
    ours = summary(rows)
    for index, (here, there) in enumerate(zip(ours["rows"], record["rows"], strict=True)):
        assert here == there, f"differs at or before step {(index + 1) * EVERY}"
    assert ours["highest"] == record["highest"]
    assert ours["sha256"] == record["sha256"]


def test_the_records_cover_releases_settings_and_failures():
    assert {record["release"] for record in RECORDS} == set(RELEASES)
    assert {record["settings"] for record in RECORDS} == set(SETTINGS)
    seen = Counter(
        what
        for record in RECORDS
        for what in ("out of memory", "retries")
        if record["highest"][0 if what == "out of memory" else -1]
    )
    assert seen["out of memory"] > 20 and seen["retries"] > 20
