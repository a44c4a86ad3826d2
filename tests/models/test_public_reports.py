"""The verdicts on public out-of-memory messages and on public reports of runs."""

from __future__ import annotations

import statistics

import pytest
from benchmarks.memory_sets.messages.judge import Judged
from benchmarks.memory_sets.messages.page import judged

from torchgauge.facts.fit import Verdict
from torchgauge.models.torchvision_operators import define_missing_operators

define_missing_operators()
pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def found() -> list[Judged]:
    for library in ("torchvision", "transformers"):
        pytest.importorskip(library, exc_type=ImportError)
    return judged()


def test_no_verdict_is_the_opposite_of_what_happened(found: list[Judged]) -> None:
    assert len(found) == 36
    assert [one.run.case.id for one in found if one.is_wrong] == []
    close = [one.run.case.id for one in found if one.verdict is Verdict.TOO_CLOSE]
    assert close == ["GPT-2 b8 V100 32GB"]


def test_what_is_allocated_where_a_run_failed_is_met(found: list[Judged]) -> None:
    errors = sorted(abs(e) for one in found if (e := one.failure_error) is not None)
    assert len(errors) == 7
    assert statistics.median(errors) <= 0.01
    assert errors[-1] <= 0.03


def test_the_allocation_that_failed_is_found(found: list[Judged]) -> None:
    """All but one: GPT-2 on a GTX 1060 dies in the scores, not in the logits' gradient."""
    other = [
        one.run.case.id
        for one in found
        if one.run.message and one.run.message.tried not in ("", one.tried)
    ]
    assert other == ["GPT-2 b1 GTX 1060"]


def test_explain_oom_finds_the_place_of_all_messages_but_one(found: list[Judged]) -> None:
    places = {one.run.case.id: one.places for one in found if one.places is not None}
    assert len(places) == 6
    assert [name for name, found_here in places.items() if not found_here] == ["GPT-2 b1 GTX 1060"]


def test_the_figures_of_runs_that_ended_are_met(found: list[Judged]) -> None:
    errors = sorted(abs(error) for one in found for error in one.errors().values())
    assert len(errors) == 13
    assert statistics.median(errors) <= 0.01
    assert errors[-3] <= 0.03  # one has its input in the cache, one is given without decimals
