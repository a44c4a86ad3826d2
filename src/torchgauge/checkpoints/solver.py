"""Solve a program with HiGHS, through its own package ``highspy``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from torchgauge.checkpoints.program import Program, Row, Terms
from torchgauge.errors import MissingExtraError

GAP: Final = 0.005
"""How far the cost of what is returned may lie above the least, as a share."""
NODES: Final = 2000
"""Most nodes of the search: a bound that is the same on every machine, unlike the time."""
_MIB: Final = float(1 << 20)
"""Bytes are given to the solver in MiB: its tolerances are absolute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """What was chosen."""

    chosen: frozenset[int]
    is_proven: bool
    """Whether it is known to be within ``GAP`` of the best; the time ran out otherwise."""


def least_cost(program: Program, limit_bytes: int, seconds: float) -> Solution | None:
    """Return the cheapest choice whose every moment stays under a limit; ``None`` where none does.

    Raises:
        MissingExtraError: highspy is not installed.
    """
    costs = [*program.costs] + [0.0] * (program.columns - program.choices)
    top = max(costs, default=0.0) or 1.0
    rows = [*_fixed(program)]
    for moment in program.moments:
        rows.append(Row(terms=_in_mib(moment.terms), upper=(limit_bytes - moment.live_bytes) / _MIB))
    return _solved(program, [cost / top for cost in costs], rows, seconds)


def least_memory(program: Program, seconds: float) -> Solution:
    """Return the choice whose highest moment is lowest.

    Raises:
        MissingExtraError: highspy is not installed.
    """
    column = program.columns
    costs = [0.0] * column + [1.0]
    rows = [*_fixed(program)]
    for moment in program.moments:
        terms = _in_mib(moment.terms) | {column: -1.0}
        rows.append(Row(terms=terms, upper=-moment.live_bytes / _MIB))
    found = _solved(program, costs, rows, seconds)
    return found or Solution(chosen=frozenset(), is_proven=False)


def _in_mib(terms: Terms) -> Terms:
    """Return the terms of a moment, whose running sums are in MiB already."""
    return {c: v if v == 1.0 else v / _MIB for c, v in terms.items()}


def _fixed(program: Program) -> list[Row]:
    """Return the rows that no limit changes."""
    rows = list(program.rules)
    for column, constant, terms in program.needs:
        rows.append(Row(terms={column: 1.0} | {c: -v for c, v in terms.items()}, lower=constant))
    for column, before, terms in program.sums:
        row = {c: -v / _MIB for c, v in terms.items()} | {column: 1.0}
        if before >= 0:
            row[before] = -1.0
        rows.append(Row(terms=row, lower=0.0, upper=0.0))
    return rows


def _solved(
    program: Program, costs: list[float], rows: list[Row], seconds: float
) -> Solution | None:
    highs, inf = _highs()
    sums = {column for column, _, _ in program.sums}
    free = [-inf if column in sums else 0.0 for column in range(len(costs))]
    tops = [1.0 if column < program.columns and column not in sums else inf
            for column in range(len(costs))]  # fmt: skip
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("mip_rel_gap", GAP)
    highs.setOptionValue("mip_max_nodes", NODES)
    highs.setOptionValue("time_limit", seconds)
    highs.setOptionValue("threads", 1)  # the same choice on every machine
    highs.passModel(_model(costs, free, tops, rows, program.choices, inf))
    highs.run()
    status = highs.modelStatusToString(highs.getModelStatus())
    values = list(highs.getSolution().col_value)
    if status == "Infeasible" or not values or highs.getInfo().primal_solution_status != 2:
        return None
    chosen = frozenset(column for column in range(program.choices) if values[column] > 0.5)
    return Solution(chosen=chosen, is_proven=status == "Optimal")


def _model(
    costs: list[float],
    lowers: list[float],
    uppers: list[float],
    rows: list[Row],
    binaries: int,
    inf: float,
) -> Any:
    """Return the program as highspy takes it: the rows one after the other."""
    import highspy

    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(costs), len(rows)
    model.col_cost_, model.col_lower_, model.col_upper_ = costs, lowers, uppers
    model.row_lower_ = [-inf if row.lower is None else row.lower for row in rows]
    model.row_upper_ = [inf if row.upper is None else row.upper for row in rows]
    starts, columns, factors = [0], [], []
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
