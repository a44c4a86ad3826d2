"""The search for a goal and the front, on figures that are made up: no model is traced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from torch import nn

from torchgauge.advise.goal.combinations import Combinations, State
from torchgauge.advise.goal.front import LIMIT, MOST_ROWS, Front
from torchgauge.advise.goal.search import Search, prefixes
from torchgauge.changes.change import Change
from torchgauge.changes.inputs import Ran
from torchgauge.facts.loop.advice import Accuracy, Goal
from torchgauge.request import Request

REQUEST = Request(model=nn.Identity())
MEMORY, TIME = "memory.device_bytes", "time.total_ms"
AXES = (MEMORY, TIME)


def change(name: str, axis: str = "", accuracy: Accuracy = Accuracy.NONE) -> Change:
    return Change(rule="scenario", text=name, why="", label=name, axis=axis, accuracy=accuracy,
                  scenario={"ema": False})  # fmt: skip


class Made(Combinations):
    """Combinations whose figures are looked up, by the names of the changes."""

    table: Mapping[str, tuple[float, float] | None]

    def _made(self, request: Request, changes: tuple[Change, ...], more: Any) -> State | None:
        return state(self.table, changes)


def state(table: Mapping[str, Any], changes: tuple[Change, ...]) -> State | None:
    figures = table.get("+".join(sorted(item.text for item in changes)))
    if figures is None:
        return None
    return State(
        changes=changes,
        request=REQUEST,
        figures=dict(zip(AXES, figures, strict=True)),
        fits=figures[0] <= 40,
    )


def made(
    table: Mapping[str, Any], changes: Sequence[Change], limit: int = 40
) -> tuple[Made, list[State]]:
    base = state(table, ())
    assert base is not None
    found = Made(base=base, ran=Ran(), traced=never, limit=limit)
    found.table = table
    singles = [one for item in changes if (one := state(table, (item,))) is not None]
    for one in singles:
        found.remember(one)
    return found, singles


def never(*_: Any) -> Any:
    raise AssertionError("nothing is traced here")


def names(found: State) -> list[str]:
    return [item.text for item in found.changes]


def goal(most: float, figure: str = MEMORY) -> Goal:
    return Goal(text="memory", figure=figure, most=most)


def test_the_best_first_step_may_bar_the_only_way() -> None:
    a, b, c = change("a", "axis"), change("b", "axis"), change("c")
    table = {"": (100, 1), "a": (50, 1), "b": (60, 1), "c": (70, 1), "b+c": (30, 1)}
    combinations, singles = made(table, [a, b, c])
    found = Search(goal=goal(40), made=combinations, singles=singles).run()
    assert sorted(names(found)) == ["b", "c"], "a excludes b, and c cannot be made after a"


def test_what_saves_nothing_alone_is_tried_with_others() -> None:
    table = {"": (100, 1), "a": (60, 1), "b": (100, 1), "a+b": (40, 1)}
    combinations, singles = made(table, [change("a"), change("b")])
    found = Search(goal=goal(40), made=combinations, singles=singles).run()
    assert names(found) == ["a", "b"]


def test_no_change_is_kept_that_the_goal_does_not_need() -> None:
    table = {
        "": (100, 1), "a": (90, 1), "b": (80, 1), "c": (70, 1), "b+c": (55, 1), "a+c": (45, 1),
        "a+b": (60, 1), "a+b+c": (40, 1),
    }  # fmt: skip
    a, b = change("a"), change("b", accuracy=Accuracy.SMALL)
    c = change("c", accuracy=Accuracy.RETRAIN)
    combinations, singles = made(table, [a, b, c])
    found = Search(goal=goal(46), made=combinations, singles=singles).run()
    assert names(found) == ["a", "c"], "the way led over a, b and c"


def test_one_change_is_enough_the_mildest_of_its_kind_and_the_fastest_step() -> None:
    table = {"": (100, 10), "a": (20, 10), "b": (45, 10), "c": (10, 30), "d": (60, 10)}
    pruned = [change("a", "prune"), change("b", "prune")]
    combinations, singles = made(table, [*pruned, change("c"), change("d")])
    found = Search(goal=goal(50), made=combinations, singles=singles).run()
    assert names(found) == ["b"]
    assert not combinations.count, "what is known already is not traced again"


def test_among_several_changes_the_mildest_that_is_enough_is_taken() -> None:
    table = {
        "": (100, 1), "a": (60, 1), "b": (70, 1), "c": (80, 1), "d": (85, 1),
        "a+d": (30, 1), "b+d": (45, 1), "c+d": (55, 1),
    }  # fmt: skip
    pruned = [change(name, "prune") for name in "abc"]
    combinations, singles = made(table, [*pruned, change("d")])
    found = Search(goal=goal(50), made=combinations, singles=singles).run()
    assert sorted(names(found)) == ["b", "d"]


def test_less_accuracy_is_lost_where_there_is_a_choice() -> None:
    table = {"": (100, 1), "a": (10, 1), "b": (70, 1), "c": (60, 1), "b+c": (45, 1)}
    free = [change("b"), change("c")]
    combinations, singles = made(table, [change("a", accuracy=Accuracy.RETRAIN), *free])
    assert names(Search(goal=goal(50), made=combinations, singles=singles).run()) == ["a"]
    only, singles = made(table, free)
    assert sorted(names(Search(goal=goal(50), made=only, singles=singles).run())) == ["b", "c"]


def test_the_search_ends_at_its_limit() -> None:
    changes = [change(chr(ord("a") + number)) for number in range(12)]
    table = {"": (100, 1)} | {item.text: (99 - i, 1) for i, item in enumerate(changes)}
    combinations, singles = made(table, changes, limit=5)
    found = Search(goal=goal(1), made=combinations, singles=singles).run()
    assert combinations.count == 5 and combinations.exhausted
    assert found.figures[MEMORY] == 88, "the best that is known"


def test_parameters_only_add_up_so_no_ways_are_followed_that_cannot_lead_there() -> None:
    figures = {"": 100, "a": 90, "b": 95, "a+b": 85}
    table = {name: (1, 1) for name in figures}
    combinations, singles = made(table, [change("a"), change("b")])
    for one in [combinations.base, *singles]:
        one.figures["totals.params"] = figures["+".join(sorted(names(one)))]
    asked = goal(50, "totals.params")
    Search(goal=asked, made=combinations, singles=singles).run()
    assert combinations.count == 1, "a and b together"


def test_the_steps_of_a_way_are_the_prefixes() -> None:
    table = {"": (100, 1), "a": (60, 1), "b": (100, 1), "a+b": (40, 1)}
    combinations, singles = made(table, [change("a"), change("b")])
    found = Search(goal=goal(40), made=combinations, singles=singles).run()
    assert [names(step) for step in prefixes(found, combinations.together)] == [["a"], ["a", "b"]]


# ---------------------------------------------------------------------------- without a goal


def test_the_front_has_what_nothing_traced_beats() -> None:
    table = {
        "": (100, 100), "a": (50, 120), "b": (90, 60), "c": (120, 120), "a+b": (45, 70),
        "a+c": (60, 140), "b+c": (110, 90), "a+b+c": (60, 90),
    }  # fmt: skip
    combinations, singles = made(table, [change("a"), change("b"), change("c")])
    front = Front(axes=AXES, made=combinations, singles=singles).run()
    assert [sorted(names(item)) for item in front] == [["a", "b"], ["b"]]


def test_what_loses_no_accuracy_stays_in_the_front() -> None:
    table = {"": (100, 100), "a": (50, 50), "b": (80, 80), "a+b": (49, 49)}
    lossy = change("a", accuracy=Accuracy.RETRAIN)
    combinations, singles = made(table, [lossy, change("b")])
    front = Front(axes=AXES, made=combinations, singles=singles).run()
    assert [(sorted(names(item)), item.accuracy) for item in front] == [
        (["a", "b"], Accuracy.RETRAIN), (["b"], Accuracy.NONE),
    ]  # fmt: skip


@pytest.mark.parametrize("count", [4, 14])
def test_the_front_is_short_and_so_is_its_search(count: int) -> None:
    changes = [change(chr(ord("a") + number)) for number in range(count)]
    table: dict[str, tuple[float, float]] = {"": (1000, 1000)}
    for number, item in enumerate(changes):  # each saves memory and takes time
        table[item.text] = (900 - 50 * number, 1050 + 50 * number)
    combinations, singles = made(table, changes, limit=LIMIT)
    front = Front(axes=AXES, made=combinations, singles=singles).run()
    assert combinations.count <= LIMIT and len(front) <= MOST_ROWS
    points = [(item.figures[MEMORY], item.figures[TIME]) for item in front]
    assert points == sorted(points) and len(set(points)) == len(points)
    least = min(one.figures[MEMORY] for one in singles)
    assert points[0][0] == least and points[-1] == (1000, 1000), "both ends are there"
