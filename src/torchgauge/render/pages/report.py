"""A report as a page: the answers first, then the table, then what there is to know besides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torchgauge.facts.fit import Verdict
from torchgauge.facts.guess import guesses
from torchgauge.facts.loop.advice import Accuracy, Suggestion
from torchgauge.facts.memory import MemoryEstimate
from torchgauge.facts.precision import dtypes_of
from torchgauge.facts.query import has_run
from torchgauge.facts.report import Report
from torchgauge.facts.time import StepTime
from torchgauge.facts.trace import OUTSIDE, Phase
from torchgauge.render.page import Block, Fact, Facts, Notes, Page, Problem, Tone, fact, notes_of
from torchgauge.render.pages.gains import ACCURACY, figures_of
from torchgauge.render.pages.report_details import (
    MEASURES,
    details,
    heaviest,
    heavy_fields,
    is_noisy,
    listed_notes,
    missing_formulas,
    role_name,
)
from torchgauge.render.pages.settings import settings
from torchgauge.render.pages.verdict import verdict_fact
from torchgauge.render.shapes import named_value, without_overloads
from torchgauge.render.tree.parts import Part, build_parts
from torchgauge.render.tree.rows import ModuleTable, TreeOptions
from torchgauge.units import (
    format_bytes,
    format_count,
    format_integer,
    format_milliseconds,
    format_number_of,
    format_percent,
    format_rate,
    format_share,
)

NOT_RUN = (
    "no input was given; with one (input_size=…, --input-size …) the table has "
    "shapes, MACs and memory"
)

_MOST_INPUTS = 4
_CALM_NOTES = 3


def report_page(
    report: Report,
    *,
    depth: int | None = None,
    columns: Sequence[str] | None = None,
    expand: bool = False,
) -> Page:
    """Return what is shown of a report.

    Args:
        report: the report.
        depth: how many levels of modules to show; ``None`` for all.
        columns: names of columns; ``None`` for those that fit the scenario.
        expand: show every repeated block, every different call and every output.

    Raises:
        UsageError: for an unknown column or a depth below 1.
    """
    modules = ModuleTable(report, TreeOptions(depth=depth, columns=columns, expand=expand))
    parts = build_parts(report)
    blocks: list[Block] = [Facts(facts=tuple(_answers(report, parts)))]
    if report.failure is not None:
        blocks.append(_failure(report))
    legend = tuple(modules.legend())
    blocks += [modules.table(), Notes(lines=legend, calm=len(legend))]
    blocks += [*_doubts(report), *details(report, parts), *listed_notes(report), modules.data()]
    return Page(
        title=tuple(_title(report)),
        blocks=tuple(blocks),
        failed=_failed(report),
        is_about_a_gpu=report.scenario.device != "cpu",
    )


def _failure(report: Report) -> Problem:
    failure = report.failure
    assert failure is not None
    where = f"{failure.path or 'the model itself'} ({failure.module_type})"
    if failure.phase is Phase.OPTIMIZER:
        where = failure.module_type
    lines = f"{failure.error_type}: {failure.error}".splitlines() or [failure.error_type]
    sizes = []
    if failure.requested_bytes is not None:
        sizes.append(f"{format_bytes(failure.requested_bytes)} asked for")
    if failure.free_bytes is not None:
        sizes.append(f"{format_bytes(failure.free_bytes)} free")
    if sizes:
        lines.append(f"memory: {', '.join(sizes)}")
    inputs = [named_value(value, report.batch_size) for value in failure.inputs]
    entries = [("got", text) for text in inputs or ["no inputs"]]
    entries += [("error", line) for line in lines if line.strip()]
    if failure.hint:
        entries.append(("try", failure.hint))
    return Problem(kind="Failed at", heading=f"{where}, in {failure.phase}", entries=tuple(entries))


def _doubts(report: Report) -> Iterator[Notes]:
    """Yield what the calm view must not hide: what was not counted, guessed, warned about."""
    uncounted = (
        f"{without_overloads(entry.op)}, {format_number_of(entry.calls, 'call')}: {entry.why}"
        for entry in missing_formulas(report)
    )
    return notes_of(
        ("Warnings", report.warnings),
        ("Not counted", uncounted),
        ("Guessed", guesses(report.assumptions)),
        tone=Tone.WARNING,
        calm=_CALM_NOTES,
    )


# ---------------------------------------------------------------------------- title


def _title(report: Report) -> Iterator[str]:
    yield report.model_name
    tensors = [value for value in report.inputs if value.tensor is not None]
    shown = [named_value(value, report.batch_size) for value in tensors[:_MOST_INPUTS]]
    if len(tensors) > _MOST_INPUTS:
        shown.append(f"{len(tensors) - _MOST_INPUTS} more inputs")
    if shown and report.batch_size is not None:
        shown.append(f"B = {report.batch_size}")
    if shown:
        yield ", ".join(shown)
    yield from settings(report.scenario, dtypes_of(report))
    if failed := _failed(report):
        yield failed
    yield str(report.execution) if has_run(report) else "structure only"


def _failed(report: Report) -> str:
    return "" if report.failure is None else f"failed in {report.failure.phase}"


# ---------------------------------------------------------------------------- answers


def _answers(report: Report, parts: Part) -> Iterator[Fact]:
    """Yield at most nine lines, the verdict first; ``parts`` is the folded model."""
    memory, time = report.memory, report.time
    if memory is not None and memory.fits is not None:
        yield _fits(report, memory)
    if time is not None and has_run(report):
        yield fact("Time", *_time(time), optional=1)
    yield fact("Params", *_parameters(report, parts), optional=1)
    if not has_run(report):
        if report.failure is None:
            yield fact("Not run", NOT_RUN, tone=Tone.NOTICE)
        return
    is_complete = not missing_formulas(report)
    tone = Tone.PLAIN if is_complete else Tone.WARNING
    yield fact("Compute", *_compute(report), tone=tone)
    if memory is not None:
        yield fact("Memory", *_peak(report, memory), optional=1)
    shares = tuple(
        f"{MEASURES[field]}: {text}"
        for field in heavy_fields(report)[:2]
        for text in heaviest(report, parts, field)
    )
    if shares:
        yield fact("Heaviest", *shares, optional=1)
    if report.suggestion is not None:
        yield fact("Try", *_suggested(report.suggestion), "torchgauge advise", optional=1)


def _suggested(best: Suggestion) -> Iterator[str]:
    yield best.text
    yield from figures_of(best)
    if best.accuracy is Accuracy.RETRAIN:
        yield ACCURACY[best.accuracy]


def _fits(report: Report, memory: MemoryEstimate) -> Fact:
    known = Verdict.FITS if memory.fits else Verdict.DOES_NOT_FIT  # in reports of version 0.1
    return verdict_fact(
        memory.verdict or known,
        memory.device_bytes or 0,
        memory.intervals.get("device_bytes"),
        report.scenario.device,
        memory.capacity_bytes or 0,
        report.scenario.other_programs_bytes,
    )


def _time(time: StepTime) -> Iterator[str]:
    measured, predicted = time.measured, time.predicted
    step = f"{format_milliseconds(time.total_ms)} a step"
    if measured is not None:
        yield f"{step}, measured on {measured.device}" + (" (noisy)" if is_noisy(time) else "")
    elif predicted is not None:
        yield f"{step} ± {format_percent(round(predicted.error, 2), 1.0)}, predicted"
        if predicted.samples_per_second is not None:
            yield f"{format_rate(predicted.samples_per_second)} samples/s"
        bound, _ = max(predicted.bound_by.items(), key=lambda item: item[1])
        yield f"{bound}-bound"
    else:
        yield step


def _parameters(report: Report, parts: Part) -> Iterator[str]:
    totals = report.totals
    if not totals.params:
        yield "none"
        return
    yield format_integer(totals.params)
    yield format_bytes(totals.param_bytes)
    if not totals.non_trainable_params:
        yield "all trainable"
    elif not totals.trainable_params:
        yield "all frozen"
    else:
        yield f"{format_integer(totals.trainable_params)} trainable"
    yield from heaviest(report, parts, "params", between=" in ")


def _compute(report: Report) -> Iterator[str]:
    totals = report.totals
    so_far = " so far" if report.failure is not None else ""
    yield (
        f"{format_count(totals.forward_macs, 'MACs')} = "
        f"{format_count(totals.forward_flops, 'FLOPs')} forward{so_far} (1 MAC = 2 FLOPs)"
    )
    missing = missing_formulas(report)
    if missing:
        noun = "part" if any(entry.op.startswith(OUTSIDE) for entry in missing) else "operator"
        calls = sum(entry.calls for entry in missing)
        kinds, times = format_number_of(len(missing), noun), format_number_of(calls, "call")
        yield f"{kinds} not counted ({times}), see below"
    elif report.failure is None:
        yield "all counted"


def _peak(report: Report, memory: MemoryEstimate) -> Iterator[str]:
    so_far = "so far " if report.failure is not None else ""
    place = memory.peak_module or without_overloads(memory.peak_op or "")
    whose = "" if memory.device_bytes is None else "of tensors "
    text = f"peak {whose}{so_far}{format_bytes(memory.peak_allocated_bytes)} in {memory.peak_phase}"
    yield text + (f" at {place}" if place else "")
    if memory.at_peak and memory.peak_allocated_bytes:
        role, nbytes = max(memory.at_peak.items(), key=lambda item: item[1])
        share = format_share(nbytes, memory.peak_allocated_bytes)
        yield f"{share} {role_name(role).removeprefix('saved ')}"
