"""A report as a page: the answers first, then the table, then what there is to know besides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torchgauge.facts.guess import guesses
from torchgauge.facts.memory import MemoryEstimate
from torchgauge.facts.precision import dtypes_of, precision_text
from torchgauge.facts.query import has_run
from torchgauge.facts.report import Report
from torchgauge.facts.scenario import Precision, Scenario, ZeroGrad
from torchgauge.facts.time import StepTime
from torchgauge.facts.trace import OUTSIDE, Phase
from torchgauge.render.page import Block, Fact, Facts, Notes, Page, Problem, Tone
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
from torchgauge.render.shapes import named_value
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
    return Page(title=tuple(_title(report)), blocks=tuple(blocks))


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
    entries = [("input", text) for text in inputs or ["no inputs"]]
    entries += [("error", line) for line in lines if line.strip()]
    if failure.hint:
        entries.append(("try", failure.hint))
    return Problem(kind="Failed at", heading=f"{where}, in {failure.phase}", entries=tuple(entries))


def _doubts(report: Report) -> Iterator[Notes]:
    """Yield what the calm view must not hide: what was not counted, guessed, warned about."""
    uncounted = tuple(
        f"{entry.op}, {format_number_of(entry.calls, 'call')}: {entry.why}"
        for entry in missing_formulas(report)
    )
    guessed = tuple(guesses(report.assumptions))
    for heading, lines in (
        ("Warnings", report.warnings), ("Not counted", uncounted), ("Guessed", guessed),
    ):  # fmt: skip
        if lines:
            yield Notes(heading=heading, lines=lines, tone=Tone.WARNING, calm=_CALM_NOTES)


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
    yield from _settings(report)
    if report.failure is not None:
        yield f"failed in {report.failure.phase}"
    yield str(report.execution) if has_run(report) else "structure only"


def _settings(report: Report) -> Iterator[str]:
    scenario = report.scenario
    yield str(scenario.mode)
    if scenario.is_training:
        yield str(scenario.optimizer)
    # float32 all over goes without saying unless it was asked for.
    dtypes = dtypes_of(report)
    if scenario.precision != Precision.AS_BUILT or not set(dtypes) <= {"float32"}:
        yield precision_text(scenario.precision, dtypes)
    if scenario.device != "cpu":
        yield scenario.device
    if scenario.checkpointing:
        kind = scenario.checkpointing
        yield "checkpointing" if kind is True else f"{kind} checkpointing"
    if scenario.offload_activations:
        yield "activations in CPU memory"
    if scenario.accumulation > 1:
        yield f"{scenario.accumulation} micro-batches"
    yield from _less_common(scenario)


def _less_common(scenario: Scenario) -> Iterator[str]:
    """Yield the settings that differ from what most runs have."""
    for name, value in dict(scenario.optimizer_options).items():
        yield f"{name}={value}"
    for is_on, text in (
        (scenario.is_training and scenario.loss != "auto", f"loss {scenario.loss}"),
        (bool(scenario.optimizer_implementation), f"{scenario.optimizer_implementation} optimizer"),
        (scenario.zero_grad is not ZeroGrad.BEFORE_FORWARD, f"zero_grad {scenario.zero_grad}"),
        (scenario.gradient_clipping, "gradient clipping"),
        (scenario.ema, "moving average of the parameters"),
        (scenario.channels_last, "channels last"),
        (scenario.cudnn_benchmark, "cuDNN benchmark"),
        (scenario.compiled, "compiled"),
        (bool(scenario.allocator), f"allocator {scenario.allocator}"),
        (scenario.first_step, "first step"),
        (scenario.torch_release is not None, f"PyTorch {scenario.torch_release}"),
    ):
        if is_on:
            yield text


# ---------------------------------------------------------------------------- answers


def _answers(report: Report, parts: Part) -> Iterator[Fact]:
    """Yield at most eight lines, the verdict first; ``parts`` is the folded model."""
    memory, time = report.memory, report.time
    if memory is not None and memory.fits is not None:
        yield _fits(report, memory)
    if time is not None and has_run(report):
        yield Fact(label="Time", segments=tuple(_time(time)))
    yield Fact(label="Params", segments=tuple(_parameters(report, parts)))
    if not has_run(report):
        if report.failure is None:
            yield Fact(label="Not run", segments=(NOT_RUN,), tone=Tone.NOTICE)
        return
    is_complete = not missing_formulas(report)
    tone = Tone.PLAIN if is_complete else Tone.WARNING
    yield Fact(label="Compute", segments=tuple(_compute(report)), tone=tone)
    if memory is not None:
        yield Fact(label="Memory", segments=(_peak(report, memory),))
    shares = tuple(
        f"{MEASURES[field]}: {text}"
        for field in heavy_fields(report)[:2]
        for text in heaviest(report, parts, field)
    )
    if shares:
        yield Fact(label="Heaviest", segments=shares)


def _fits(report: Report, memory: MemoryEstimate) -> Fact:
    needed, there = memory.device_bytes or 0, memory.capacity_bytes or 0
    sizes = f"{format_bytes(needed)} needed; {report.scenario.device} has {format_bytes(there)}"
    if not memory.fits:
        missing = f" ({format_bytes(needed - there)} too little)" if needed > there else ""
        return Fact(label="Fits", segments=(f"no: {sizes}{missing}",), tone=Tone.BAD)
    if needed > there:
        text = f"only by giving cached memory back, which costs time: {sizes}"
        return Fact(label="Fits", segments=(text,), tone=Tone.WARNING)
    used = format_percent(needed, there)
    return Fact(label="Fits", segments=(f"yes: {sizes} ({used} used)",), tone=Tone.GOOD)


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


def _peak(report: Report, memory: MemoryEstimate) -> str:
    so_far = "so far " if report.failure is not None else ""
    place = memory.peak_module or memory.peak_op
    text = f"peak {so_far}{format_bytes(memory.peak_allocated_bytes)} in {memory.peak_phase}"
    text += f" at {place}" if place else ""
    if not memory.at_peak or not memory.peak_allocated_bytes:
        return text
    role, nbytes = max(memory.at_peak.items(), key=lambda item: item[1])
    share = format_share(nbytes, memory.peak_allocated_bytes)
    return f"{text}, {share} {role_name(role).removeprefix('saved ')}"
