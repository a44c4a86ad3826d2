"""Advice as a page: the faults, the best suggestion in full, the way to the goal, all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt

from torchgauge.facts.loop.advice import (
    Advice,
    Checked,
    DataCheck,
    Fault,
    Patch,
    PathStep,
    Suggestion,
)
from torchgauge.facts.loop.comparison import Figure
from torchgauge.render.page import (
    Block,
    Column,
    Data,
    Fact,
    Facts,
    Notes,
    Page,
    Problem,
    Table,
    Tone,
    fact,
    table_of,
)
from torchgauge.render.pages.gains import ACCURACY, SHOWN, Format, gains_of, named, percent_text
from torchgauge.render.pages.settings import settings
from torchgauge.units import format_number_of

NOTHING = "nothing that was tried saves anything"


def advice_page(advice: Advice) -> Page:
    """Return what is shown of advice."""
    title = (
        advice.model_name,
        *settings(advice.scenario, ()),
        *(() if advice.batch_size is None else (f"B = {advice.batch_size}",)),
        "advice",
    )
    blocks: list[Block] = [Facts(facts=tuple(_answers(advice)))]
    blocks += [_fault(item) for item in advice.faults]
    if advice.path:
        blocks.append(_path(advice))
        blocks += [
            _suggestion(step.change, advice.data_check, number)
            for number, step in enumerate(advice.path, 1)
            if step.change is not None
        ]
        if advice.path_patch is not None:
            entries = tuple(_patch(advice.path_patch))
            blocks.append(Problem(heading="All steps as a patch", tone=Tone.NOTICE,
                                  entries=entries, detail=True))  # fmt: skip
    if advice.front:
        blocks.append(_front(advice))
    if advice.suggestions:
        blocks.append(_table(advice))
        blocks += [_suggestion(item, advice.data_check) for item in advice.suggestions]
    for heading, lines in (
        ("Rules that found nothing", list(_quiet(advice))),
        ("Warnings", list(advice.warnings)),
        ("Assumptions", list(advice.assumptions)),
    ):
        if lines:
            blocks.append(Notes(heading=heading, lines=tuple(lines)))
    return Page(
        title=title,
        blocks=(*blocks, _data(advice)),
        is_about_a_gpu=advice.scenario.device != "cpu",
    )


def _quiet(advice: Advice) -> Iterator[str]:
    """Yield why rules found nothing, those of one reason in one line."""
    rules: dict[str, list[str]] = {}
    for item in advice.quiet:
        rules.setdefault(item.why, []).append(item.rule)
    yield from (f"{', '.join(names)}: {why}" for why, names in rules.items())


def _answers(advice: Advice) -> Iterator[Fact]:
    now = [f"{form(advice.figures[name])} {named(label)}" for label, name, form in SHOWN
           if name in advice.figures]  # fmt: skip
    yield fact("Now", *now)
    if advice.goal is not None:
        yield fact("Goal", advice.goal.text, *_reached(advice), tone=_tone(advice))
    if advice.faults:
        count = format_number_of(len(advice.faults), "fault")
        yield fact("Wrong", f"{count}, see below", tone=Tone.WARNING)
    if advice.data_check is not None:
        yield fact("Checked", *_data_check(advice.data_check))
    if not advice.suggestions:
        yield fact("Try", NOTHING)
        return
    best = advice.suggestions[0]
    yield fact("Try", best.text, *gains_of(best))
    if advice.front:
        yield fact("Together", *_combinations(advice))


def _reached(advice: Advice) -> Iterator[str]:
    if advice.reached and not advice.path:
        yield "reached already"
        return
    if advice.reached:
        yield f"reached with {format_number_of(len(advice.path), 'change')}"
    else:
        yield "not reached"
        if advice.nearest:
            yield advice.nearest
    yield from _combinations(advice)


def _combinations(advice: Advice) -> Iterator[str]:
    if advice.combinations:
        searched = f"{format_number_of(advice.combinations, 'combination')} traced"
        yield f"{searched}, as many as are tried" if advice.exhausted else searched


def _data_check(check: DataCheck) -> Iterator[str]:
    figure = _measure(check.before, check.metric)
    yield f"{check.metric} {figure}"
    yield format_number_of(check.samples, "sample")
    if not check.is_complete:
        yield f"stopped after {check.seconds:.0f} s"
    if check.weights:
        yield check.weights


def _measure(value: float, metric: str) -> str:
    return f"{value * 100:.2f} %" if metric == "accuracy" else f"{value:.4g}"


def _check_entries(check: Checked | None, data: DataCheck | None) -> Iterator[tuple[str, str]]:
    """Yield a measure before and after a change, with the samples that it is of."""
    if check is None or data is None:
        return
    if check.after is not None:
        before, after = _measure(check.before, data.metric), _measure(check.after, data.metric)
        samples = format_number_of(data.samples, "sample")
        yield "check", f"{data.metric} {before} → {after}, {samples}"
    if check.note:
        yield "note", check.note


def _check_cell(check: Checked | None, advice: Advice) -> tuple[str, ...]:
    """Return the cell of a measure, where there are measures."""
    if advice.data_check is None:
        return ()
    after = None if check is None else check.after
    return ("–" if after is None else _measure(after, advice.data_check.metric),)


def _check_column(advice: Advice) -> tuple[Column, ...]:
    if advice.data_check is None:
        return ()
    name = advice.data_check.metric
    return (Column(name[:1].upper() + name[1:], keep=92),)


def _tone(advice: Advice) -> Tone:
    return Tone.GOOD if advice.reached else Tone.BAD


def _change(figure: Figure, form: Format) -> str:
    if figure.before is None or figure.after is None:
        return "–"
    if not figure.before or round(figure.after / figure.before, 4) == 1:
        return "no change"
    share = (figure.after / figure.before - 1) * 100
    sign = "−" if share < 0 else "+"
    return f"{form(figure.after)} ({sign}{percent_text(abs(share))} %)"


def _cells(figures: Sequence[Figure], advice: Advice) -> list[str]:
    by_name = {figure.name: figure for figure in figures}
    return [
        _change(by_name[name], form) if name in by_name else "–"
        for _, name, form in _columns(advice)
    ]


def _columns(advice: Advice) -> list[tuple[str, str, Format]]:
    return [
        item
        for item in SHOWN
        if item[1] in advice.figures
        and not (item[0] == "Tensors" and "memory.device_bytes" in advice.figures)
    ]


def _path(advice: Advice) -> Table:
    columns = (
        Column("Changes so far", is_number=False, wraps=True),
        *(Column(label) for label, _, _ in _columns(advice)),
        *_check_column(advice),
    )
    start = ["as it is", *(form(advice.figures[name]) for _, name, form in _columns(advice))]
    if (check := advice.data_check) is not None:
        start.append(_measure(check.before, check.metric))
    rows = [tuple(start), *(_step(number, step, advice) for number, step in
                            enumerate(advice.path, 1))]  # fmt: skip
    return table_of(columns, rows, heading="Steps to the goal, each on top of those before it")


def _step(number: int, step: PathStep, advice: Advice) -> tuple[str, ...]:
    cells = _cells(step.figures, advice)
    return (f"{number}. {step.text}", *cells, *_check_cell(step.check, advice))


def _front(advice: Advice) -> Table:
    shown = [item for item in SHOWN if item[1] in advice.front_axes]
    columns = (
        Column("Changes together", is_number=False, wraps=True),
        *(Column(label) for label, _, _ in shown),
        Column("Function", is_number=False, keep=95),
    )
    rows = []
    for item in advice.front:
        by_name = {figure.name: figure for figure in item.figures}
        cells = (
            _change(by_name[name], form) if item.changes else form(advice.figures[name])
            for _, name, form in shown
        )
        name = " + ".join(item.changes) or "as it is"
        rows.append((name, *cells, ACCURACY[item.accuracy]))
    speed = "time" if "time.total_ms" in advice.front_axes else "MACs"
    heading = f"Combinations that nothing traced beats in memory and {speed}"
    return table_of(columns, rows, heading=heading)


def _table(advice: Advice) -> Table:
    columns = (
        Column("Change", is_number=False, wraps=True),
        *(Column(label, keep=_worth(name, advice)) for label, name, _ in _columns(advice)),
        *_check_column(advice),
        Column("Function", is_number=False, keep=95),
    )
    rows = [
        (
            item.text,
            *_cells(item.figures, advice),
            *_check_cell(item.check, advice),
            ACCURACY[item.accuracy],
        )
        for item in advice.suggestions
    ]
    return table_of(columns, rows, heading="Changes, each applied to a copy and traced")


def _worth(name: str, advice: Advice) -> int:
    """Return how long a column is kept: that in which least changes goes first."""
    changes = [min(abs(item.gain(name)), 1.0) for item in advice.suggestions]
    return 80 + round(14 * sqrt(sum(changes) / len(changes)))  # small shares differ too


def _patch(patch: Patch | None) -> Iterator[tuple[str, str]]:
    """Yield what is said of a patch; the diff itself goes into a file."""
    if patch is None:
        return
    if patch.diff:
        yield "patch", ", ".join(patch.files)
        yield from (("proof", text) for text in patch.proof)
    else:
        yield "patch", f"none: {patch.why_not}"


def _suggestion(item: Suggestion, data: DataCheck | None, number: int = 0) -> Problem:
    """Return what is shown of a change; ``number`` is that of the step that it alone is."""
    place = ", ".join(filter(None, (", ".join(item.where), item.code)))
    entries = [("where", place)] if place else []
    entries.append(("why", item.why))
    if item.cost:
        entries.append(("costs", item.cost))
    if item.source:
        entries.append(("source", item.source))
    entries += [("proof", text) for text in item.proof]
    if item.changes_model and item.keeps_state:
        entries.append(("state", "a state_dict of the model still loads"))
    entries += _check_entries(item.check, data)
    if item.changes_model:  # the snippet says how it runs
        entries += _patch(item.patched)
    return Problem(
        kind=f"Step {number}:" if number else "",
        heading=item.text,
        tone=Tone.NOTICE,
        entries=tuple(entries),
        commands=item.snippet,
        are_python=not any(line.startswith("export ") for line in item.snippet),
        detail=True,
    )


def _fault(item: Fault) -> Problem:
    place = ", ".join(filter(None, (", ".join(item.where), item.code)))
    entries = [("where", place), ("why", item.why), ("try", item.remedy), *_patch(item.patched)]
    return Problem(
        kind="Fault:", heading=item.text, tone=Tone.WARNING,
        entries=tuple(entry for entry in entries if entry[1]),
    )  # fmt: skip


def _data(advice: Advice) -> Data:
    columns = ("rule", "change", "where", "accuracy", "figure", "before", "after", "difference")
    rows = tuple(
        (item.rule, item.text, " ".join(item.where), str(item.accuracy), figure.name,
         figure.before, figure.after, figure.difference)
        for item in advice.suggestions
        for figure in item.figures
    )  # fmt: skip
    return Data(columns=columns, rows=rows)
