"""How a figure came about, as a page."""

from __future__ import annotations

from collections.abc import Iterator
from math import fsum

from torchgauge.facts.explanation import Contribution, Explanation, Rule
from torchgauge.facts.guess import guesses
from torchgauge.render.page import (
    Block,
    Cell,
    Column,
    Data,
    Fact,
    Facts,
    Notes,
    Page,
    Row,
    Table,
    Tone,
    Weight,
    fact,
    notes_of,
)
from torchgauge.units import (
    format_bytes,
    format_cell_share,
    format_count,
    format_integer,
    format_milliseconds,
    format_number_of,
)

TOP = 15
"""Rows of parts that a page shows."""


def explanation_page(explanation: Explanation, *, top: int | None = TOP) -> Page:
    """Return what is shown of an explanation: the ``top`` largest parts, all for ``None``."""
    blocks: list[Block] = [Facts(facts=tuple(_facts(explanation)))]
    if explanation.contributions:
        blocks.append(_parts(explanation, top))
    blocks += _rules(explanation)
    blocks += notes_of(("Not counted", explanation.not_counted), tone=Tone.WARNING, calm=3)
    doubts = guesses(explanation.assumptions)
    blocks += notes_of(("Guessed", doubts), tone=Tone.WARNING, calm=3)
    others = [text for text in explanation.assumptions if text not in doubts]
    blocks += notes_of(("Assumptions", others), calm=len(others))
    blocks.append(_data(explanation))
    return Page(title=tuple(_title(explanation)), blocks=tuple(blocks))


def _title(explanation: Explanation) -> Iterator[str]:
    yield explanation.figure
    if explanation.model is not None:
        yield explanation.model.name
    if explanation.module is not None:
        yield explanation.module
    scenario = explanation.scenario
    if scenario is not None:
        yield str(scenario.mode)
        yield scenario.device


def _facts(explanation: Explanation) -> Iterator[Fact]:
    yield fact("What it is", explanation.definition)
    value = explanation.value
    if value is None:
        yield fact("Value", "name a model to see its parts: torchgauge explain FIGURE MODEL")
    else:
        below = f" in {explanation.module}" if explanation.module is not None else ""
        yield fact("Value", f"{_amount(value, explanation.unit)}{below}")
    yield fact("Field in JSON", explanation.place)


def _parts(explanation: Explanation, top: int | None) -> Table:
    parts = explanation.contributions
    shown = parts if top is None else parts[:top]
    total = fsum(part.value for part in parts)
    rows = [_row(part, explanation.unit, total) for part in shown]
    rest = parts[len(shown) :]
    if rest:
        left = fsum(part.value for part in rest)
        cells = (
            f"{format_number_of(len(rest), 'more part')}", "", "",
            format_integer(sum(part.count for part in rest)),
            _amount(left, explanation.unit), format_cell_share(left, total), "",
        )  # fmt: skip
        made = tuple(Cell((text,)) for text in cells)
        rows.append(Row(cells=made, weight=Weight.QUIET))
    columns = (
        Column("Part", is_number=False, wraps=True),
        Column("Module", is_number=False, is_code=True, keep=80),
        Column("Phase or role", is_number=False, keep=60),
        Column("Count", keep=50),
        Column("Value", keep=99),
        Column("Share", keep=90),
        Column("Of", is_number=False, is_code=True, wraps=True, keep=30),
    )
    return Table(columns=columns, rows=tuple(rows), heading="Parts, the largest first")


def _row(part: Contribution, unit: str, total: float) -> Row:
    cells = (
        part.name,
        part.module or "–",
        part.phase.replace("_", " ") or "–",
        format_integer(part.count),
        _amount(part.value, unit),
        format_cell_share(part.value, total),
        part.detail,
    )
    return Row(cells=tuple(Cell((text,)) for text in cells))


def _rules(explanation: Explanation) -> Iterator[Block]:
    operators = [rule for rule in explanation.rules if "." in rule.name]
    others = [rule for rule in explanation.rules if rule not in operators]
    yield from notes_of(("How it is worked out", map(_rule, others)), calm=len(others))
    if operators:
        lines = tuple(map(_rule, operators))
        yield Notes(
            heading="Formulas of the operators", lines=lines, calm=len(lines), is_quoted=True
        )


def _rule(rule: Rule) -> str:
    return f"{rule.name}: {rule.formula}" + (f" (source: {rule.source})" if rule.source else "")


def _amount(value: float, unit: str) -> str:
    if unit == "bytes":
        return format_bytes(value)
    if unit == "ms":
        return format_milliseconds(value)
    if unit == "parameters":
        return format_integer(int(value))
    return format_count(value, unit)


def _data(explanation: Explanation) -> Data:
    unit = {"MACs": "macs", "FLOPs": "flops"}.get(explanation.unit, explanation.unit)
    columns = ("part", "module", "phase_or_role", "count", unit, "of")
    rows = tuple(
        (part.name, part.module, part.phase, part.count, part.value, part.detail)
        for part in explanation.contributions
    )
    return Data(columns=columns, rows=rows)
