"""An out-of-memory error explained: where it was, what was alive, what was missing, what helps."""

from __future__ import annotations

from collections.abc import Iterator

from torchgauge.facts.loop.oom import FailedAllocation, OomExplanation, Outside
from torchgauge.render.page import (
    Block,
    Column,
    Data,
    Fact,
    Facts,
    Notes,
    Page,
    Table,
    Tone,
    fact,
    notes_of,
    table_of,
)
from torchgauge.render.pages.report_details import role_name, tensor_text
from torchgauge.render.pages.settings import settings
from torchgauge.render.shapes import without_overloads
from torchgauge.units import format_bytes, format_number_of


def oom_page(answer: OomExplanation) -> Page:
    """Return what is shown of an explanation."""
    title = (
        answer.model_name,
        *settings(answer.scenario, ()),
        *(() if answer.batch_size is None else (f"B = {answer.batch_size}",)),
        "why it ran out of memory",
    )
    blocks: list[Block] = [Facts(facts=tuple(_facts(answer)))]
    if answer.remedies:
        blocks.append(_remedies(answer))
    if answer.alive:
        lines = tuple(map(tensor_text, answer.alive))
        blocks.append(Notes(heading="Largest tensors at that moment", lines=lines, calm=3))
    blocks += notes_of(("Warnings", answer.warnings), tone=Tone.WARNING, calm=3)
    blocks += notes_of(("Assumptions", answer.assumptions))
    return Page(title=title, blocks=(*blocks, _data(answer)), is_about_a_gpu=True)


def _facts(answer: OomExplanation) -> Iterator[Fact]:
    yield fact("Error", *_error(answer))
    if answer.found is None:
        yield fact("Place", "this step did not raise that error", answer.reason, tone=Tone.BAD)
        if answer.others:
            yield fact("Matches with", *answer.others)
        return
    yield fact("Place", *_place(answer.found), tone=Tone.BAD)
    if answer.places > 1:
        others = format_number_of(answer.places - 1, "other allocation")
        yield fact("Also", f"{others} of the step would give the same message")
    roles = sorted(answer.at_failure.items(), key=lambda item: -item[1])
    alive = [f"{role_name(role)} {format_bytes(nbytes)}" for role, nbytes in roles if nbytes]
    yield fact("Allocated", format_bytes(answer.found.allocated_bytes), *alive)
    if answer.outside is not None:
        tone = Tone.WARNING if answer.outside.other_programs_bytes else Tone.PLAIN
        yield fact("Outside", *_outside(answer.outside), tone=tone)
    if answer.available_bytes is not None:
        yield fact("Missing", *_missing(answer))
    best = next((item for item in answer.remedies if item.avoids), None)
    if best is not None:
        yield fact("Try", best.text, f"runs in {format_bytes(best.minimum_bytes)}", tone=Tone.GOOD)
    elif answer.traces > 1:
        yield fact("Try", "no change that was tried is enough")


def _error(answer: OomExplanation) -> Iterator[str]:
    message = answer.message
    yield f"{format_bytes(message.tried.middle)} asked for"
    yield f"{format_bytes(message.allocated.middle)} allocated"
    if message.free is not None:
        yield f"{format_bytes(message.free.middle)} free"
    if message.capacity is not None:
        yield f"GPU of {format_bytes(message.capacity.middle)}"
    if message.wording:
        yield f"worded by PyTorch {message.wording}"


def _place(found: FailedAllocation) -> Iterator[str]:
    yield found.module or found.label or "outside of every layer"
    if found.op:
        yield without_overloads(found.op)
    if found.phase is None:
        yield "while the model or its inputs are brought to the GPU"
    else:
        yield f"{found.phase} of step {found.step}"
    shape = "" if found.shape is None else f" [{', '.join(map(str, found.shape))}] {found.dtype}"
    yield f"{format_bytes(found.requested_bytes)}{shape}"
    yield str(found.role).replace("_", " ")
    if found.code:
        yield found.code
    if not found.is_exact:
        yield "predicted within the tolerance, not to the digit"


def _outside(outside: Outside) -> Iterator[str]:
    yield f"{format_bytes(outside.nbytes)} of the GPU is not the allocator's"
    least, most = format_bytes(outside.expected_least), format_bytes(outside.expected_most)
    expected = least if least == most else f"{least} to {most}"
    yield f"the CUDA context takes {expected}"
    if outside.other_programs_bytes:
        yield f"{format_bytes(outside.other_programs_bytes)} is held by other programs or libraries"


def _missing(answer: OomExplanation) -> Iterator[str]:
    available, missing = answer.available_bytes, answer.missing_bytes
    assert available is not None and missing is not None
    yield (
        f"{format_bytes(missing)} more would have been enough"
        if missing
        else ("nothing by the prediction: the step just fits")
    )
    yield f"the step runs in {format_bytes(answer.minimum_bytes)}"
    yield f"{format_bytes(available)} could be had"


def _remedies(answer: OomExplanation) -> Table:
    columns = (
        Column("Change", is_number=False, wraps=True),
        Column("Runs in"),
        Column("Avoids it", is_number=False),
        Column("Costs", is_number=False, wraps=True, keep=80),
    )
    rows = [
        (
            item.text,
            format_bytes(item.minimum_bytes),
            "yes" if item.avoids else "no",
            item.cost or "–",
        )
        for item in answer.remedies
    ]
    return table_of(columns, rows, heading="Changes, each replayed under the same memory")


def _data(answer: OomExplanation) -> Data:
    columns = ("kind", "text", "bytes", "holds")
    found = answer.found
    rows: list[tuple[object, ...]] = []
    if found is not None:
        place = f"{found.module} {found.op}".strip()
        rows.append(("place", place, found.requested_bytes, True))
    rows += [("alive", role, nbytes, True) for role, nbytes in answer.at_failure.items()]
    rows += [("change", item.text, item.minimum_bytes, item.avoids) for item in answer.remedies]
    rows += [("matches with", text, None, True) for text in answer.others]
    return Data(columns=columns, rows=tuple(rows), is_complete=False)
