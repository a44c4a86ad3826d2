"""Solve a program with HiGHS, through its own package ``highspy``.

Only few moments of a step limit a plan. So the solver gets few rows, its answer is held against
all moments, and those that it exceeds are added, until there are none. The last answer then is the
best for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from torchgauge.checkpoints.program import Program, Row, Terms
from torchgauge.errors import MissingExtraError

SECONDS: Final = 30.0
"""Most time of a search, however busy the machine is."""
TOLERANCE_BYTES: Final = 1 << 10
"""By how much the moments of an answer may exceed the limit, as the solver rounds."""
_ROUNDS: Final = 60
_ADDED: Final = 4
"""Stretches of the step, each of which adds a moment at a time."""
_MIB: Final = float(1 << 20)
"""Bytes are given to the solver in MiB: its tolerances are absolute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Effort:
    """How long the solver searches."""

    gap: float
    """How far the cost of what is returned may lie above the least, as a share."""
    nodes: int
    """Most nodes of a search: a bound that is the same on every machine, unlike the time."""


_ROUGH: Final = _Effort(gap=0.05, nodes=50)
"""While it is not known yet which moments matter."""
_FINE: Final = _Effort(gap=0.005, nodes=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """What was chosen."""

    chosen: frozenset[int]
    gap: float
    """How far its cost may lie above the least, as a share, by what the solver proved."""


def least_cost(program: Program, limit_bytes: int) -> Solution | None:
    """Return the cheapest choice whose every moment stays under a limit; ``None`` where none does.

    Raises:
        MissingExtraError: highspy is not installed.
    """
    top = max(program.costs, default=0.0) or 1.0
    costs = [cost / top for cost in program.costs]
    costs += [0.0] * (program.columns - program.choices)

    def row(moment: int, terms: Terms) -> Row:
        live = program.moments[moment].live_bytes
        return Row(terms=_in_mib(terms), upper=(limit_bytes - live) / _MIB)

    return _lazily(program, costs, row, lambda _: limit_bytes)


def least_memory(program: Program) -> Solution:
    """Return the choice whose highest moment is lowest.

    Raises:
        MissingExtraError: highspy is not installed.
    """
    highest = program.columns
    costs = [0.0] * highest + [1.0]

    def row(moment: int, terms: Terms) -> Row:
        live = program.moments[moment].live_bytes
        return Row(terms=_in_mib(terms) | {highest: -1.0}, upper=-live / _MIB)

    found = _lazily(program, costs, row, lambda value: round(value * _MIB))
    return found or Solution(chosen=frozenset(), gap=1.0)


def _lazily(
    program: Program,
    costs: list[float],
    row: Callable[[int, Terms], Row],
    limit: Callable[[float], int],
) -> Solution | None:
    """Solve, add the moments that are too high, and solve again until none is.

    ``limit`` returns the most bytes of a moment, given the value of the objective.
    """
    known: dict[int, Row] = {}
    added = _highest(program.heights(frozenset()), -1)
    best: Solution | None = None
    effort, bound = _ROUGH, 0.0
    for _ in range(_ROUNDS):
        known |= {m: row(m, terms) for m, terms in program.spelled_out(added).items()}
        rows = [*program.rules, *known.values()]
        solved = _solved(costs, [*rows, *_needs(program, rows)], program.choices, effort)
        if solved is None and effort is _FINE:
            return None
        if solved is None:  # perhaps only not with so little effort
            added, effort = [], _FINE
            continue
        value, least, chosen = solved
        bound = max(bound, least)  # with fewer moments the least is no larger
        best = Solution(chosen=chosen, gap=max(1.0 - bound / value, 0.0) if value > 0 else 0.0)
        most = limit(value) + TOLERANCE_BYTES
        heights = program.heights(best.chosen)
        added = [m for m in _highest(heights, most) if m not in known]
        if not added and (effort is _FINE or best.gap <= _FINE.gap):
            break
        effort = _ROUGH if added else _FINE
    return best


def _highest(heights: list[int], above: int) -> list[int]:
    """Return the highest moment of each of some stretches of the step, those above a limit."""
    size = max(len(heights) // _ADDED, 1)
    found = []
    for start in range(0, len(heights), size):
        part = heights[start : start + size]
        number = start + max(range(len(part)), key=part.__getitem__)
        if heights[number] > above:
            found.append(number)
    return found


def _in_mib(terms: Terms) -> Terms:
    return {column: value / _MIB for column, value in terms.items()}


def _needs(program: Program, rows: list[Row]) -> list[Row]:
    """Return what the columns of the rows have to be at least."""
    used = {column for row in rows for column in row.terms}
    found = []
    for column, constant, terms in reversed(program.needs):  # each names columns before it
        if column in used:
            used |= terms.keys()
            least = {column: 1.0} | {other: -value for other, value in terms.items()}
            found.append(Row(terms=least, lower=constant))
    return found


def _solved(
    costs: list[float], rows: list[Row], binaries: int, effort: _Effort
) -> tuple[float, float, frozenset[int]] | None:
    """Return the value of the objective, what it is at least, and a choice.

    ``None`` where no choice keeps the rows.

    Columns that no row names are left out of what the solver gets.
    """
    used = sorted({column for row in rows for column in row.terms} | set(range(binaries)))
    place = {column: number for number, column in enumerate(used)}
    highs, inf = _highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("mip_rel_gap", effort.gap)
    highs.setOptionValue("mip_max_nodes", effort.nodes)
    highs.setOptionValue("time_limit", SECONDS)
    highs.setOptionValue("threads", 1)  # the same choice on every machine
    placed = [
        Row(terms={place[c]: v for c, v in row.terms.items()}, lower=row.lower, upper=row.upper)
        for row in rows
    ]
    highs.passModel(_model([costs[column] for column in used], placed, binaries, inf))
    highs.run()
    info = highs.getInfo()
    values = list(highs.getSolution().col_value)
    if not values or info.primal_solution_status != 2:
        return None
    chosen = frozenset(column for column in range(binaries) if values[column] > 0.5)
    return info.objective_function_value, info.mip_dual_bound, chosen


def _model(costs: list[float], rows: list[Row], binaries: int, inf: float) -> Any:
    """Return the program as highspy takes it: the rows one after the other."""
    import highspy

    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(costs), len(rows)
    model.col_cost_ = costs
    model.col_lower_ = [0.0] * len(costs)
    model.col_upper_ = [1.0 if column < binaries else inf for column in range(len(costs))]
    model.row_lower_ = [-inf if row.lower is None else row.lower for row in rows]
    model.row_upper_ = [inf if row.upper is None else row.upper for row in rows]
    starts = [0]
    columns: list[int] = []
    factors: list[float] = []
    for row in rows:
        columns += row.terms.keys()
        factors += row.terms.values()
        starts.append(len(columns))
    matrix = model.a_matrix_
    matrix.format_ = highspy.MatrixFormat.kRowwise
    matrix.start_, matrix.index_, matrix.value_ = starts, columns, factors
    matrix.num_col_, matrix.num_row_ = len(costs), len(rows)
    kinds = highspy.HighsVarType
    model.integrality_ = [
        kinds.kInteger if column < binaries else kinds.kContinuous for column in range(len(costs))
    ]
    return model


def _highs() -> tuple[Any, float]:
    """Return a solver that prints nothing, and its infinity."""
    try:
        import highspy
    except ImportError as error:
        raise MissingExtraError(
            "highspy is needed to plan checkpoints and is not installed",
            hint='pip install "torchgauge[plan]"',
        ) from error
    # The class itself writes its name to the standard output, where the answer goes.
    base = highspy.Highs.__mro__[1]
    return base(), highspy.kHighsInf
