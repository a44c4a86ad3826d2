"""The model of the allocator against PyTorch's own, compiled; see benchmarks/allocator_truth."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[4]))

from benchmarks.allocator_truth import loops
from benchmarks.allocator_truth.programs import RELEASES, SETTINGS, Case, loop_cases, run_model
from benchmarks.allocator_truth.record import EVERY, GOLDEN, LOOPS, summary

from torchgauge.estimate.memory.allocator import EMPTY_CACHE, replay

RECORDS = json.loads(GOLDEN.read_text(encoding="utf-8"))
LOOP_RECORDS = json.loads(LOOPS.read_text(encoding="utf-8"))


def case_of(record):
    names = ("release", "settings", "seed", "device_bytes", "fraction")
    return Case(**{name: record[name] for name in names})


def name_of(record):
    return f"{record['release']}-{record['settings'] or 'defaults'}"


@pytest.mark.parametrize("record", RECORDS, ids=name_of)
def test_every_counter_after_every_step(record):
    check(case_of(record), record)


@pytest.mark.parametrize("record", LOOP_RECORDS, ids=lambda record: f"seed {record['seed']}")
def test_training_loops_under_cudnn_benchmark_count_the_same(record):
    """Each new key of a convolution empties the cache; torch's own allocator did the same steps."""
    check(replace(case_of(record), is_loop=True), record)


def test_the_loops_are_what_was_recorded_and_empty_the_cache():
    loop_records = [case_of(record) for record in LOOP_RECORDS]
    assert [replace(case, is_loop=True) for case in loop_records] == loop_cases(
        LOOP_RECORDS[0]["release"], len(LOOP_RECORDS)
    )
    for case in loop_records:
        loop, without = (loops.loop(case.seed, benchmark=on) for on in (True, False))
        emptied = [index for index, event in enumerate(loop.events) if event[1] == EMPTY_CACHE]
        assert emptied and emptied[-1] < loop.starts[1], "the first step alone has new keys"
        assert not any(event[1] == EMPTY_CACHE for event in without.events)


def test_emptying_the_cache_changes_what_is_reserved():
    differs = 0
    for record in LOOP_RECORDS:
        events = loops.loop(record["seed"]).events
        kept = [event for event in events if event[1] != EMPTY_CACHE]
        differs += replay(events).peak_reserved_bytes != replay(kept).peak_reserved_bytes
    assert differs > len(LOOP_RECORDS) // 2


def check(case, record):
    ours = summary(run_model(case))
    rows = ours["rows"]
    for index, (here, there) in enumerate(zip(rows, record["rows"], strict=True)):
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
