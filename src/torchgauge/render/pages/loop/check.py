"""A check of budgets as a page, and the sentence about each limit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from torchgauge.facts.loop.check import (
    CheckReport,
    LayerShare,
    LimitCheck,
    ModelCheck,
    Outcome,
    Unit,
)
from torchgauge.facts.loop.comparison import Comparison, Figure
from torchgauge.render.page import (
    Block,
    Cell,
    Column,
    Data,
    Facts,
    Notes,
    Page,
    Problem,
    Row,
    Table,
    Tone,
    Weight,
    fact,
    notes_of,
    table_of,
)
from torchgauge.units import (
    format_bytes,
    format_count,
    format_integer,
    format_milliseconds,
    format_number_of,
)

_FORMS: Mapping[Unit, Callable[[float], str]] = {
    Unit.COUNT: lambda value: format_integer(round(value)),
    Unit.MACS: format_count,
    Unit.BYTES: format_bytes,
    Unit.MILLISECONDS: format_milliseconds,
    Unit.OPERATORS: lambda value: format_integer(round(value)),
}
_CHANGES: tuple[tuple[str, str, Unit], ...] = (
    ("parameters", "totals.params", Unit.COUNT),
    ("MACs", "totals.forward_macs", Unit.MACS),
    ("peak memory", "memory.peak_allocated_bytes", Unit.BYTES),
    ("device memory", "memory.device_bytes", Unit.BYTES),
    ("step time", "time.total_ms", Unit.MILLISECONDS),
)
_LAYER_CHANGES = (
    ("parameters", "params", Unit.COUNT),
    ("MACs", "macs", Unit.MACS),
    ("time", "time_ms", Unit.MILLISECONDS),
)
_TOP = 3
_AT_PEAK = ("memory.peak_allocated_bytes", "memory.device_bytes")
_WEIGHTS = {
    Outcome.OK: Weight.PLAIN, Outcome.OVER: Weight.ALERT, Outcome.ERROR: Weight.ALERT,
}  # fmt: skip


def check_page(report: CheckReport) -> Page:
    """Return what is shown of a check."""
    blocks: list[Block] = [_answer(report), _limits_table(report)]
    blocks += _problems(report)
    if report.base is not None:
        blocks.append(_changes_table(report))
        blocks += notes_of(("Layers that changed most", _changed_layers(report)), calm=_TOP)
    notes = [f"{model.name}: {note}" for model in report.models for note in model.notes]
    if notes:
        blocks.append(Notes(lines=tuple(notes), calm=len(notes)))
    return Page(
        title=("Budgets", report.config), blocks=(*blocks, _data(report)), is_about_a_model=False
    )


def headline(report: CheckReport) -> str:
    """Return what came of the check in a few words."""
    over, broken = report.count(Outcome.OVER), report.count(Outcome.ERROR)
    models = format_number_of(len(report.models), "model")
    if not over and not broken:
        return f"{models} within budget"
    parts = [f"{over} over budget"] if over else []
    if broken:
        parts.append(f"{broken} could not be checked")
    return f"{', '.join(parts)}, of {models}"


def sentence(limit: LimitCheck) -> str:
    """Return what holds of a limit in one line.

    >>> sentence(LimitCheck(key="max-params", figure="totals.params", unit=Unit.COUNT,
    ...     written="5 M", line=3, outcome=Outcome.OVER, value=5_100_000, limit=5_000_000))
    'max-params: 5,100,000, 100,000 over the limit of 5,000,000 (+2.00 %)'
    """
    return f"{name_of(limit)}: {_said(limit)}"


def name_of(limit: LimitCheck) -> str:
    """Return what a limit is called; that of ``fits`` has its device."""
    return f"{limit.key} {limit.written}" if limit.key == "fits" else limit.key


def _said(limit: LimitCheck) -> str:
    form = _FORMS[limit.unit]
    if limit.value is None or limit.limit is None:
        return f"cannot be checked: {limit.detail}"
    if limit.unit is Unit.OPERATORS:
        kinds = format_number_of(round(limit.value), "kind")
        return f"{kinds} of operators: {limit.detail}" if limit.value else "none"
    most = f"{form(limit.limit)}{_of_baseline(limit, form)}"
    if limit.key == "fits":
        return f"{limit.detail}: {form(limit.value)} needed, {most} usable"
    if limit.outcome is Outcome.OK:
        return f"{form(limit.value)}, limit {most}"
    assert limit.excess is not None
    share = f" (+{limit.excess / limit.limit * 100:,.2f} %)" if limit.limit else ""
    return f"{form(limit.value)}, {form(limit.excess)} over the limit of {most}{share}"


def _of_baseline(limit: LimitCheck, form: Callable[[float], str]) -> str:
    if limit.baseline is None:
        return ""
    added = re.sub(r"(?i)^\s*baseline\s*", "", limit.written)
    return f" (baseline {form(limit.baseline)} {added})" if added else " (baseline)"


def layer_texts(limit: LimitCheck) -> Iterator[str]:
    """Yield the layers that broke a limit, each with what it carries."""
    form = _FORMS[limit.unit]
    for layer in limit.layers:
        sign = "+" if layer.is_difference else ""
        yield f"{_layer(layer)}: {sign}{form(layer.value)}"


def layers_heading(limit: LimitCheck) -> str:
    """Return what the layers of a limit are."""
    if limit.layers and limit.layers[0].is_difference:
        return "grew most since the baseline"
    return "largest at the peak" if limit.figure in _AT_PEAK else "heaviest layers"


def _layer(layer: LayerShare) -> str:
    return f"{layer.path or '(model)'} {layer.type}".rstrip()


# ---------------------------------------------------------------------------- blocks


def _answer(report: CheckReport) -> Facts:
    tone = Tone.GOOD if report.exit_status == 0 else Tone.BAD
    return Facts(facts=(fact("Budgets", headline(report), tone=tone),))


def _limits_table(report: CheckReport) -> Table:
    columns = (
        Column("Model", is_number=False, is_code=True),
        Column("Result", is_number=False),
        Column("Limit", is_number=False, keep=95),
        Column("Figure"),
        Column("At most", keep=98),
        Column("Difference", keep=90),
    )
    rows = [row for model in report.models for row in _rows(model)]
    return Table(columns=columns, rows=tuple(rows))


def _rows(model: ModelCheck) -> Iterator[Row]:
    if model.error:
        yield _row((model.name, str(Outcome.ERROR), "–", "–", "–", "–"), Outcome.ERROR)
    for limit in model.limits:
        form = _FORMS[limit.unit]
        key = name_of(limit)
        value, most = ("–" if v is None else form(v) for v in (limit.value, limit.limit))
        yield _row(
            (model.name, str(limit.outcome), key, value, most, _difference(limit, form)),
            limit.outcome,
        )
    if not model.limits and not model.error:
        yield _row((model.name, str(Outcome.OK), "no limits", "–", "–", "–"), Outcome.OK)


def _difference(limit: LimitCheck, form: Callable[[float], str]) -> str:
    if limit.excess is None or limit.unit is Unit.OPERATORS:
        return "–"
    sign = "+" if limit.excess > 0 else "−" if limit.excess < 0 else ""
    share = f" ({sign}{abs(limit.excess) / limit.limit * 100:,.2f} %)" if limit.limit else ""
    return f"{sign}{form(abs(limit.excess))}{share}"


def _row(texts: tuple[str, ...], outcome: Outcome) -> Row:
    return Row(
        cells=tuple(Cell((text,)) for text in texts), path=texts[0], weight=_WEIGHTS[outcome]
    )


def _problems(report: CheckReport) -> Iterator[Problem]:
    for model in report.models:
        if model.error:
            hint = (("try", model.hint),) if model.hint else ()
            text = " ".join(model.error.split())
            yield Problem(heading=model.name, kind="error", text=text, entries=hint)
        for limit in model.limits:
            if limit.outcome is Outcome.OK:
                continue
            entries = [("in", text) for text in layer_texts(limit)]
            text = _said(limit) + (f"; {layers_heading(limit)}:" if entries else "")
            if limit.hint:
                entries.append(("try", limit.hint))
            yield Problem(
                heading=f"{model.name}: {name_of(limit)}",
                kind=str(limit.outcome),
                text=text,
                entries=tuple(entries),
            )


def _changes_table(report: CheckReport) -> Table:
    columns = (
        Column("Model", is_number=False, is_code=True),
        Column("Figure", is_number=False),
        Column(str(report.base)),
        Column("Now"),
        Column("Change"),
    )
    rows = [
        (model.name, *texts)
        for model in report.models
        if model.comparison is not None
        for texts in _changes(model.comparison)
    ]
    return table_of(columns, rows, heading=f"Against {report.base}")


def _changed_layers(report: CheckReport) -> Iterator[str]:
    for model in report.models:
        layers = model.comparison.layers[:_TOP] if model.comparison is not None else ()
        for layer in layers:
            change = layer.difference
            parts = [
                f"{'+' if change[name] > 0 else '−'}{_FORMS[unit](abs(change[name]))} {label}"
                for label, name, unit in _LAYER_CHANGES
                if change.get(name)
            ]
            said = "".join(f", {part}" for part in parts)
            yield f"{model.name}: {layer.path or '(model)'} {layer.type} {layer.kind}{said}"


def _changes(comparison: Comparison) -> Iterator[tuple[str, str, str, str]]:
    if comparison.is_equal:
        yield "all figures", "–", "–", "none"
        return
    there = {figure.name: figure for figure in comparison.figures}
    for label, name, unit in _CHANGES:
        if name in there:
            yield label, *_change(there[name], _FORMS[unit])


def _change(figure: Figure, form: Callable[[float], str]) -> tuple[str, str, str]:
    before, after = ("–" if v is None else form(v) for v in (figure.before, figure.after))
    if not figure.difference:
        return before, after, "none" if figure.difference == 0 else "–"
    sign = "+" if figure.difference > 0 else "−"
    share = "" if figure.ratio is None else f" ({sign}{abs(figure.ratio - 1) * 100:,.2f} %)"
    return before, after, f"{sign}{form(abs(figure.difference))}{share}"


def _data(report: CheckReport) -> Data:
    columns = (
        "model", "outcome", "limit", "written", "figure", "unit", "value", "at_most", "baseline",
        "detail",
    )  # fmt: skip
    rows: list[tuple[object, ...]] = []
    for model in report.models:
        if model.error:
            error = (model.name, "error", "", "", "", "", None, None, None, model.error)
            rows.append(error)
        for limit in model.limits:
            rows.append(
                (model.name, str(limit.outcome), limit.key, limit.written, limit.figure,
                 str(limit.unit), limit.value, limit.limit, limit.baseline, limit.detail)
            )  # fmt: skip
    return Data(columns=columns, rows=tuple(rows))
