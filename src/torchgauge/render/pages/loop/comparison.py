"""What changed between two reports, as a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

from torchgauge.facts.fit import Verdict
from torchgauge.facts.loop.comparison import ChangeKind, Comparison, Figure, LayerChange
from torchgauge.facts.query import parent_path
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
    fact,
)
from torchgauge.render.pages.verdict import VERDICTS
from torchgauge.render.tree.parts import range_name
from torchgauge.units import (
    format_bytes,
    format_count,
    format_integer,
    format_milliseconds,
    format_number_of,
)

NOTHING = "no difference: parameters, MACs, memory, time and every layer are equal"
_TOP = 20
_Format = Callable[[float], str]

_SHOWN: tuple[tuple[str, str, _Format], ...] = (
    ("Params", "totals.params", lambda value: format_integer(int(value))),
    ("Compute", "totals.forward_macs", lambda value: format_count(value, "MACs")),
    ("Memory", "memory.device_bytes", format_bytes),
    ("Tensors", "memory.peak_allocated_bytes", format_bytes),
    ("Time", "time.total_ms", format_milliseconds),
)
_COLUMNS: tuple[tuple[str, str, int, _Format], ...] = (
    ("Params", "params", 100, lambda value: format_integer(int(value))),
    ("MACs", "macs", 80, format_count),
    ("Saved", "saved_activation_bytes", 70, format_bytes),
    ("Activation", "activation_bytes", 65, format_bytes),
    ("Time", "time_ms", 90, format_milliseconds),
)


def comparison_page(comparison: Comparison, *, top: int | None = _TOP) -> Page:
    """Return what is shown of a comparison: the ``top`` rows of layers, all for ``None``."""
    before, after = comparison.model_before.name, comparison.model_after.name
    title = (before if before == after else f"{before} → {after}", "comparison")
    on_gpu = any(figure.name == "memory.device_bytes" for figure in comparison.figures)
    if comparison.is_equal:
        same = Facts(facts=(fact("Equal", NOTHING, tone=Tone.GOOD),))
        return Page(title=title, blocks=(same, _data(comparison)))
    blocks: list[Block] = [Facts(facts=tuple(_answers(comparison)))]
    if comparison.settings:
        settings = (
            fact(item.name, f"{item.before} → {item.after}") for item in comparison.settings
        )
        blocks.append(Facts(facts=tuple(settings), heading="Different settings"))
    rows = list(_rows(comparison.layers))
    if rows:
        blocks.append(_table(comparison, rows[:top]))
    if top is not None and len(rows) > top:
        more = f"{format_number_of(len(rows) - top, 'more row')} in JSON and CSV"
        blocks.append(Notes(lines=(more,), calm=1))
    if comparison.notes:
        lines = tuple(
            f"{item.name}, {'no longer' if item.before else 'new'}: {item.before or item.after}"
            for item in comparison.notes
        )
        blocks.append(
            Notes(heading="Notes on one side only", lines=lines, tone=Tone.WARNING, calm=3)
        )
    return Page(title=title, blocks=(*blocks, _data(comparison)), is_about_a_gpu=on_gpu)


# ---------------------------------------------------------------------------- answers


def _answers(comparison: Comparison) -> Iterator[Fact]:
    if (verdict := comparison.verdict) is not None:
        fits = verdict.after == Verdict.FITS
        where = {verdict.device_before: None, verdict.device_after: None}
        pieces = [f"{_verdict(verdict.before)} → {_verdict(verdict.after)} ({' → '.join(where)})"]
        if verdict.largest_batch is not None:
            pieces.append(f"largest batch is {verdict.largest_batch}")
        yield fact("Fits", *pieces, tone=Tone.GOOD if fits else Tone.BAD)
    there = {figure.name: figure for figure in comparison.figures}
    for label, name, form in _SHOWN:
        if name in there:
            yield fact(label, *_change(there[name], form))
    yield fact("Layers", *_counts(comparison.layers))


def _verdict(text: str) -> str:
    return VERDICTS[Verdict(text)]


def _change(figure: Figure, form: _Format) -> Iterator[str]:
    before, after = figure.before, figure.after
    if before == after and before is not None:
        yield f"{form(before)}, no change"
        return
    sides = ("–" if value is None else form(value) for value in (before, after))
    yield " → ".join(sides)
    if figure.difference is not None:
        share = "" if figure.ratio is None else f", {_percent(figure.ratio - 1)}"
        yield f"{_signed(figure.difference, form)}{share}"


def _signed(value: float, form: _Format) -> str:
    return f"{'+' if value > 0 else '−' if value < 0 else ''}{form(abs(value))}"


def _percent(share: float) -> str:
    """Write a relative difference.

    >>> _percent(0.4312), _percent(-0.00001)
    ('+43.12 %', '− < 0.01 %')
    """
    text = f"{abs(share) * 100:,.2f}"
    sign = "+" if share > 0 else "−"
    return f"{sign}{text} %" if text != "0.00" else f"{sign} < 0.01 %"


def _counts(layers: Sequence[LayerChange]) -> Iterator[str]:
    found = []
    for kind in ChangeKind:
        count = sum(layer.modules for layer in layers if layer.kind is kind)
        if count:
            found.append(f"{count} {kind}")
    yield ", ".join(found) or "all equal"


# ---------------------------------------------------------------------------- layers


def _rows(layers: Sequence[LayerChange]) -> Iterator[list[LayerChange]]:
    """Yield equal changes of layers whose names count up as one row.

    A new name that follows from that of the module around it is left out.
    """
    renamed = {(layer.path_before, layer.path_after) for layer in layers if _has_new_name(layer)}
    shown = (layer for layer in layers if not _follows_from(layer, renamed))
    for _, run in groupby(shown, key=_key):
        group: list[LayerChange] = []
        for layer in run:
            if group and not _follows(group[-1].path, layer.path):
                yield group
                group = []
            group.append(layer)
        yield group


def _has_new_name(layer: LayerChange) -> bool:
    ends = layer.path_before, layer.path_after
    return None not in ends and ends[0] != ends[1]


def _follows_from(layer: LayerChange, renamed: set[tuple[str | None, str | None]]) -> bool:
    if layer.kind is not ChangeKind.RENAMED:
        return False
    around = [parent_path(path or "") for path in (layer.path_before, layer.path_after)]
    names = [(path or "").rpartition(".")[2] for path in (layer.path_before, layer.path_after)]
    return names[0] == names[1] and tuple(around) in renamed


def _key(layer: LayerChange) -> object:
    rounded = tuple((name, round(value, 6)) for name, value in layer.difference.items())
    prefix, _, _ = layer.path.rpartition(".")
    return layer.kind, layer.type, layer.type_before, prefix, rounded


def _follows(before: str, after: str) -> bool:
    left, right = before.rpartition(".")[2], after.rpartition(".")[2]
    return left.isdecimal() and right.isdecimal() and int(right) == int(left) + 1


def _table(comparison: Comparison, rows: Sequence[list[LayerChange]]) -> Table:
    there = {name for layer in comparison.layers for name in layer.difference}
    figures = [item for item in _COLUMNS if item[1] in there or item[1] == "params"]
    if "saved_activation_bytes" in there:
        figures = [item for item in figures if item[1] != "activation_bytes"]
    columns = (
        Column("Layer", is_number=False, is_code=True),
        Column("Type", is_number=False, keep=75),
        Column("Change", is_number=False, keep=95),
        *(Column(title, keep=keep) for title, _, keep, _ in figures),
    )
    made = [_row(group, figures) for group in rows]
    if comparison.outside:
        made.append(_line(("(outside of layers)", "–", "–"), comparison.outside, figures))
    return Table(columns=columns, rows=tuple(made), heading="Where the difference is")


def _row(group: list[LayerChange], figures: Sequence[tuple[str, str, int, _Format]]) -> Row:
    first, last = group[0], group[-1]
    path = first.path or "(root)"
    if len(group) > 1:
        prefix, _, name = first.path.rpartition(".")
        path = f"{prefix}.{range_name(name, last.path.rpartition('.')[2])}".lstrip(".")
    kind = str(first.kind)
    if _has_new_name(first) and len(group) == 1:
        kind = f"{kind}, was {first.path_before or '(root)'}"
    type_ = first.type
    if first.type_before and first.type_after and first.type_before != first.type_after:
        type_ = f"{first.type_before} → {first.type_after}"
    sums: dict[str, float] = {}
    for layer in group:
        for figure, value in layer.difference.items():
            sums[figure] = sums.get(figure, 0.0) + value
    return _line((path, type_, kind), sums, figures, count=len(group))


def _line(
    texts: tuple[str, str, str],
    sums: Mapping[str, float],
    figures: Sequence[tuple[str, str, int, _Format]],
    *,
    count: int = 1,
) -> Row:
    cells = [_signed(sums[name], form) if sums.get(name) else "–" for _, name, _, form in figures]
    made = tuple(Cell((text,)) for text in (*texts, *cells))
    return Row(cells=made, path=texts[0], count=count)


# ---------------------------------------------------------------------------- data


def _data(comparison: Comparison) -> Data:
    rows: list[tuple[object, ...]] = [
        ("figure", figure.name, "", "", figure.before, figure.after, figure.difference)
        for figure in comparison.figures
    ]
    for layer in comparison.layers:
        for name in dict.fromkeys((*layer.before, *layer.after)):
            before, after = layer.before.get(name, 0), layer.after.get(name, 0)
            rows.append(
                (str(layer.kind), layer.path, layer.type, name, before, after, after - before)
            )
    for name, value in comparison.outside.items():
        rows.append(("outside", "", "", name, "", "", value))
    columns = ("row", "name", "type", "figure", "before", "after", "difference")
    return Data(columns=columns, rows=tuple(rows))
