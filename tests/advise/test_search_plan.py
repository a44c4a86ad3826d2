"""The change that follows all others in the search for a goal, on figures that are made up."""

from __future__ import annotations

from typing import Any

from test_search import REQUEST, change, goal, made, names, never, state

from torchgauge.advise.goal.combinations import MOST_PLANS, Combinations
from torchgauge.advise.goal.search import Search
from torchgauge.changes.change import Change
from torchgauge.changes.inputs import Ran
from torchgauge.facts.loop.advice import Accuracy

PLAN = Change(rule="scenario", text="p", why="", axis="checkpointing", follows=True)


def run(table: dict[str, Any], *changes: Change) -> list[str]:
    combinations, singles = made(table, [PLAN, *changes])
    return names(Search(goal=goal(40), made=combinations, singles=singles, plan=PLAN).run())


def test_what_takes_long_gives_way_to_a_plan_on_top_of_the_rest() -> None:
    table = {
        "": (100, 10), "a": (90, 9), "s": (60, 20), "a+s": (38, 21), "p": (70, 11),
        "a+p": (39, 12), "p+s": (35, 30), "a+p+s": (30, 40),
    }  # fmt: skip
    assert run(table, change("a"), change("s")) == ["a", "p"]


def test_a_plan_comes_last_and_is_made_for_all_that_is_before_it() -> None:
    table = {"": (100, 10), "a": (90, 10), "b": (85, 10), "a+b": (80, 10), "p": (60, 12),
             "a+p": (50, 12), "b+p": (50, 12), "a+b+p": (39, 12)}  # fmt: skip
    assert run(table, change("a"), change("b"))[-1] == "p"


def test_nothing_is_left_out_that_a_slower_plan_would_make_up_for() -> None:
    table = {"": (100, 10), "a": (90, 10), "b": (90, 10), "a+b": (80, 10), "p": (60, 12),
             "a+p": (39.5, 15), "b+p": (50, 13), "a+b+p": (39, 12)}  # fmt: skip
    assert sorted(run(table, change("a"), change("b"))) == ["a", "b", "p"]
    table["a+p"] = (39.5, 12)
    assert run(table, change("a"), change("b")) == ["a", "p"], "as fast without b"


def test_a_plan_is_tried_before_accuracy_is_lost() -> None:
    table = {"": (100, 10), "a": (90, 10), "b": (41, 9), "a+b": (30, 9), "p": (60, 12),
             "a+p": (39, 14), "b+p": (30, 12), "a+b+p": (25, 12)}  # fmt: skip
    assert run(table, change("a"), change("b", accuracy=Accuracy.RETRAIN)) == ["a", "p"]


def test_a_plan_takes_the_place_of_other_checkpoints() -> None:
    table = {"": (100, 10), "a": (90, 10), "c": (60, 14), "a+c": (38, 14), "p": (60, 12),
             "a+p": (39, 12)}  # fmt: skip
    assert run(table, change("a"), change("c", "checkpointing")) == ["a", "p"]


def test_of_one_that_is_enough_the_plan_is_not_replaced_by_what_keeps_more() -> None:
    table = {"": (100, 10), "c": (39, 14), "p": (38, 12)}
    assert run(table, change("c", "checkpointing")) == ["p"]


def test_only_so_many_plans_are_made() -> None:
    asked: list[str] = []
    base = state({"": (100, 10)}, ())
    assert base is not None

    def anew(_: Any, what: str) -> Change | None:
        asked.append(what)
        return None

    combinations = Combinations(base=base, ran=Ran(), traced=never, limit=100, anew=anew)
    assert combinations.together([PLAN]) is None and not asked, "alone it was tried already"
    changes = [change(f"c{number}") for number in range(MOST_PLANS + 3)]
    for item in changes:
        assert combinations.together([item, PLAN]) is None
    assert asked == [f"c{number}" for number in range(MOST_PLANS)]
    assert combinations.exhausted and combinations.base.request is REQUEST
