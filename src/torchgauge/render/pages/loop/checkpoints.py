"""A plan of checkpoints as a page: what it comes to, what is recomputed, the code to paste."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torchgauge.facts.choices.checkpointing import KeptOperator
from torchgauge.facts.loop.checkpoints import CheckpointPlan, Least
from torchgauge.render.page import (
    Block,
    Cell,
    Code,
    Column,
    Data,
    Fact,
    Facts,
    Page,
    Row,
    Table,
    Tone,
    fact,
    notes_of,
)
from torchgauge.render.pages.settings import settings
from torchgauge.render.shapes import without_overloads
from torchgauge.units import format_bytes, format_count, format_milliseconds, format_number_of

_NOTHING = "the step meets the goal as it is: nothing has to be recomputed"
_IN_VAIN = "recomputing the modules that can be does not lower the peak"
_BEFORE_AFTER = (("Memory", "memory.device_bytes"), ("Tensors", "memory.peak_allocated_bytes"))


def checkpoints_page(plan: CheckpointPlan) -> Page:
    """Return what is shown of a plan."""
    title = (
        plan.model_name,
        *settings(plan.scenario, ()),
        *(() if plan.batch_size is None else (f"B = {plan.batch_size}",)),
        "checkpoint plan",
    )
    blocks: list[Block] = [Facts(facts=tuple(_facts(plan)))]
    if plan.recomputed:
        blocks.append(_table(plan))
    blocks += notes_of(
        ("Not recomputed on their own", _refused(plan)),
        ("Warnings", plan.warnings),
        ("Assumptions", plan.assumptions),
    )
    if plan.recomputed:
        blocks.append(Code(heading="Paste before the training loop", lines=plan.snippet))
    return Page(
        title=title,
        blocks=(*blocks, _data(plan)),
        is_about_a_gpu=plan.scenario.device != "cpu",
    )


def _refused(plan: CheckpointPlan) -> tuple[str, ...]:
    """Return what is not recomputed on its own, one line for each reason."""
    found = []
    if plan.refused:
        count = format_number_of(len(plan.refused), "module")
        found.append(f"{count} that write into their input: {_some(plan.refused)}")
    if plan.broken:
        count = format_number_of(len(plan.broken), "module")
        found.append(f"{count} that fail when they run again: {_some(plan.broken)}")
    return tuple(found)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")


def _facts(plan: CheckpointPlan) -> Iterator[Fact]:
    goal = plan.goal
    limit = f"{format_bytes(goal.most_bytes)} at most"
    if plan.fits:
        yield fact("Goal", goal.text, limit, "met", tone=Tone.GOOD)
    else:
        yield fact("Goal", goal.text, limit, "not met: this is the least memory", tone=Tone.BAD)
    if not plan.recomputed:
        yield fact("Plan", _NOTHING if plan.fits else _IN_VAIN)
    else:
        count = format_number_of(plan.candidates, "place")
        yield fact("Plan", f"recompute {len(plan.recomputed)} of {count}", *_proof(plan))
    yield from _kept(plan)
    for label, name in _BEFORE_AFTER:
        figure = plan.figure(name)
        if figure.before is not None and figure.after is not None:
            change = _change(figure.before, figure.after)
            yield fact(label, f"{format_bytes(figure.before)} → {format_bytes(figure.after)}",
                       *change)  # fmt: skip
    peak = plan.peak_at
    where = f"{peak.module} {without_overloads(peak.op)}".strip()
    yield fact("Peak", str(peak.phase), where)
    yield from _work(plan)
    yield from _blocks(plan)


def _kept(plan: CheckpointPlan) -> Iterator[Fact]:
    """Yield of which operators the outputs are kept, over all places."""
    with_kept = [item for item in plan.recomputed if item.kept]
    if with_kept:
        kept = [replace(operator, calls=()) for item in with_kept for operator in item.kept]
        names = ", ".join(sorted(set(map(_short, kept))))
        count = format_number_of(len(plan.recomputed), "place")
        yield fact("Kept", f"outputs of {names}", f"in {len(with_kept)} of {count}")


def _proof(plan: CheckpointPlan) -> tuple[str, ...]:
    """Return what is known of how good the plan is; nothing where nothing is proven."""
    if plan.gap is None:
        return ()
    gap = f"{plan.gap * 100:.1f}"
    if plan.least is Least.TIME:
        text = "the least extra time" if gap == "0.0" else f"at most {gap} % above the least time"
    else:
        text = "the least extra work" if gap == "0.0" else f"at most {gap} % above the least work"
    return (text,)


def _work(plan: CheckpointPlan) -> Iterator[Fact]:
    work = plan.figure("totals.total_flops")
    if work.difference is not None and work.before is not None and work.after is not None:
        more = f"{format_count(work.difference, 'FLOPs')} more per step"
        yield fact("Work", more, *_change(work.before, work.after))
    time = plan.figure("time.total_ms")
    if time.before is not None and time.after is not None:
        text = f"{format_milliseconds(time.before)} → {format_milliseconds(time.after)}"
        yield fact("Time", text, *_change(time.before, time.after))


def _blocks(plan: CheckpointPlan) -> Iterator[Fact]:
    """Yield what checkpointing all repeated blocks would come to instead."""
    memory, flops = plan.blocks.get(plan.goal.figure), plan.blocks.get("totals.total_flops")
    work = plan.figure("totals.total_flops").before
    if memory is not None and flops is not None and work is not None:
        extra = [f"FLOPs {text}" for text in _change(work, flops)]
        yield fact("All blocks", f"{format_bytes(memory)} with every repeated block", *extra)


def _change(before: float, after: float) -> tuple[str, ...]:
    if not before or before == after:
        return ()
    share = (after / before - 1) * 100
    digits = 0 if abs(share) >= 10 else 1
    return (f"{'−' if share < 0 else '+'}{abs(share):.{digits}f} %",)


def _table(plan: CheckpointPlan) -> Table:
    any_kept = any(item.kept for item in plan.recomputed)
    columns = (
        Column("Recomputed", is_number=False, is_code=True),
        Column("Type", is_number=False, is_code=True, keep=80),
        *((Column("Kept outputs", is_number=False, is_code=True, keep=90),) if any_kept else ()),
        Column("Not saved"),
        Column("Extra FLOPs"),
    )
    rows = []
    for item in plan.recomputed:
        kept = (Cell((" ".join(map(_short, item.kept)) or "–",)),) if any_kept else ()
        first, second = Cell((item.place,)), Cell((item.type,))
        figures = (Cell((format_bytes(item.dropped_bytes),)), Cell((format_count(item.flops),)))
        rows.append(Row(cells=(first, second, *kept, *figures)))
    return Table(columns=columns, rows=tuple(rows))


def _short(kept: KeptOperator) -> str:
    """Return an operator without the kernel that computes the attention: ``"attention#0"``."""
    is_attention = kept.name.startswith("_scaled_dot_product_")
    return str(replace(kept, name="attention") if is_attention else kept)


def _data(plan: CheckpointPlan) -> Data:
    columns = ("place", "type", "kept", "dropped_bytes", "flops", "calls")
    rows = tuple(
        (
            item.place, item.type, " ".join(map(str, item.kept)), item.dropped_bytes, item.flops,
            item.calls,
        )
        for item in plan.recomputed
    )  # fmt: skip
    return Data(columns=columns, rows=rows, is_complete=False)
