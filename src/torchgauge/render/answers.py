"""The title and the answers that stand before the table: how big, how much work, what costs most.

Everything here is text in segments; a renderer joins them with `` · `` and wraps between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torchgauge.facts.memory import MemoryEstimate, PhaseMemory
from torchgauge.facts.precision import dtypes_of, precision_text
from torchgauge.facts.query import has_run, own_costs
from torchgauge.facts.report import Report
from torchgauge.facts.scenario import Precision, Scenario, ZeroGrad
from torchgauge.facts.time import Measurement, StepTime, TimePrediction
from torchgauge.facts.trace import OUTSIDE, NamedValue, NotCounted
from torchgauge.render.figures import share
from torchgauge.render.parts import Part, innermost
from torchgauge.render.shapes import one_line, shape_text
from torchgauge.units import (
    format_bytes,
    format_count,
    format_integer,
    format_joules,
    format_milliseconds,
    format_percent,
    format_rate,
)

NOT_RUN = (
    "no input was given; with one (input_size=…, --input-size …) the table has "
    "shapes, MACs and memory"
)

_MOST_INPUTS = 4
_HEAVIEST, _LEAST_SHARE = 3, 0.05
_NOISY_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Answer:
    """One line before the table."""

    label: str
    segments: tuple[str, ...]


def title(report: Report) -> tuple[str, ...]:
    """Return the segments of the first line: model, inputs, scenario, how it was run."""
    found = [one_line(report.model_name)]
    inputs = _inputs(report)
    if inputs:
        found.append(inputs)
    found.append(_scenario(report))
    if report.failure is not None:
        found.append(f"failed in {report.failure.phase}")
    return (*found, str(report.execution) if has_run(report) else "structure only")


def answers(report: Report, parts: Part) -> tuple[Answer, ...]:
    """Return the lines before the table; ``parts`` is the folded model at full depth."""
    found = [Answer("Parameters", tuple(_parameters(report, parts)))]
    if not has_run(report):
        if report.failure is None:
            found.append(Answer("Not run", (NOT_RUN,)))
        return tuple(found)
    if report.time is not None:
        found.append(Answer("Time", tuple(_time(report, report.time))))
    found.append(Answer("Compute", tuple(_compute(report))))
    if report.memory is not None:
        found.append(Answer("Memory", tuple(_memory(report, report.memory))))
    if report.phase_memory:
        found.append(Answer("Occupied", tuple(_occupied(report.phase_memory))))
    most = tuple(_costs_most(report, parts))
    if most:
        found.append(Answer("Costs most", most))
    if report.time is not None and report.time.ops:
        found.append(Answer("Slowest ops", tuple(_slowest_ops(report.time))))
    return tuple(found)


def missing_formulas(report: Report) -> tuple[NotCounted, ...]:
    """Return the entries of ``not_counted`` that are operators, not modules that never ran."""
    return tuple(entry for entry in report.not_counted if not is_module(entry, report))


def is_module(entry: NotCounted, report: Report) -> bool:
    """Return whether an entry of ``not_counted`` names a module that never ran."""
    return entry.calls == 0 and entry.op in report.modules


def named_value(value: NamedValue, batch_size: int | None) -> str:
    """Write a leaf with its name, shape and dtype: ``x [B, 3, 224, 224] float32``."""
    name = one_line(value.name)
    if value.tensor is None:
        return f"{name} = {shape_text(value, None)}"
    return f"{name} {shape_text(value, batch_size)} {value.tensor.dtype}"


def _inputs(report: Report) -> str:
    tensors = [value for value in report.inputs if value.tensor is not None]
    shown = [named_value(value, report.batch_size) for value in tensors[:_MOST_INPUTS]]
    if len(tensors) > _MOST_INPUTS:
        shown.append(f"{len(tensors) - _MOST_INPUTS} more inputs")
    if shown and report.batch_size is not None:
        shown.append(f"B = {report.batch_size}")
    return ", ".join(shown)


def _scenario(report: Report) -> str:
    scenario = report.scenario
    details: list[str] = []
    if scenario.is_training:
        details += [f"optimizer {scenario.optimizer}", f"loss {scenario.loss}"]
    details += _precision(report)
    if scenario.device != "cpu":
        details.append(f"for {one_line(scenario.device)}")
    if scenario.checkpointing:
        kind = scenario.checkpointing
        details.append("checkpointing" if kind is True else f"{kind} checkpointing")
    if scenario.offload_activations:
        details.append("activations offloaded")
    if scenario.accumulation > 1:
        details.append(f"{scenario.accumulation} micro-batches")
    details += _less_common(scenario)
    return f"{scenario.mode} ({', '.join(details)})" if details else str(scenario.mode)


def _precision(report: Report) -> Iterator[str]:
    """Yield the precision; float32 all over goes without saying unless it was asked for."""
    dtypes = dtypes_of(report)
    as_usual = report.scenario.precision == Precision.AS_BUILT and set(dtypes) <= {"float32"}
    if not as_usual:
        yield precision_text(report.scenario.precision, dtypes)


def _less_common(scenario: Scenario) -> Iterator[str]:
    """Yield the settings that differ from what most runs have."""
    for name, value in dict(scenario.optimizer_options).items():
        yield f"{one_line(name)}={one_line(str(value))}"
    if scenario.optimizer_implementation is not None:
        yield f"{scenario.optimizer_implementation} optimizer"
    if scenario.zero_grad is not ZeroGrad.BEFORE_FORWARD:
        yield f"gradients zeroed {scenario.zero_grad}"
    for is_on, text in (
        (scenario.gradient_clipping, "gradients clipped"),
        (scenario.ema, "moving average of the parameters"),
        (scenario.channels_last, "channels last"),
        (scenario.cudnn_benchmark, "cuDNN benchmark"),
        (scenario.compiled, "compiled"),
        (bool(scenario.allocator), f"allocator {one_line(scenario.allocator)}"),
        (scenario.first_step, "first step"),
        (scenario.torch_release is not None, f"PyTorch {scenario.torch_release}"),
    ):
        if is_on:
            yield text


# ---------------------------------------------------------------------------- the answers


def _parameters(report: Report, parts: Part) -> Iterator[str]:
    totals = report.totals
    if not totals.params:
        yield "none"
        return
    if not totals.non_trainable_params:
        kinds = "all trainable"
    elif not totals.trainable_params:
        kinds = "all frozen"
    else:
        kinds = (
            f"{format_integer(totals.trainable_params)} trainable, "
            f"{format_integer(totals.non_trainable_params)} frozen"
        )
    yield f"{format_integer(totals.params)}, {kinds}, {format_bytes(totals.param_bytes)}"
    yield from _shares(parts, "params", totals.params, " in ")


def _compute(report: Report) -> Iterator[str]:
    totals = report.totals
    so_far = " until the failure" if report.failure is not None else ""
    yield (
        f"{format_count(totals.forward_macs, 'MACs')} = "
        f"{format_count(totals.forward_flops, 'FLOPs')} forward{so_far} (1 MAC = 2 FLOPs)"
    )
    if report.scenario.is_training:
        yield f"backward {format_count(totals.backward_flops, 'FLOPs')} as executed"
        if totals.optimizer_flops:
            yield f"optimizer {format_count(totals.optimizer_flops, 'FLOPs')}"
        yield f"step {format_count(totals.total_flops, 'FLOPs')}"
    missing = missing_formulas(report)
    if missing:
        calls = sum(entry.calls for entry in missing)
        noun = "part" if any(entry.op.startswith(OUTSIDE) for entry in missing) else "operator"
        kinds = f"1 {noun}" if len(missing) == 1 else f"{len(missing)} {noun}s"
        times = "1 call" if calls == 1 else f"{format_integer(calls)} calls"
        yield f"{kinds} not counted ({times}), see below"
    elif report.failure is None:
        yield "nothing left uncounted"


def _time(report: Report, time: StepTime) -> Iterator[str]:
    measured = time.measured
    step = f"{format_milliseconds(time.total_ms)} per step"
    if measured is not None:
        low, high = measured.intervals["total"].low_ms, measured.intervals["total"].high_ms
        step += f", median of {format_integer(measured.repetitions)} on {one_line(measured.device)}"
        sure = format_percent(measured.confidence, 1.0)
        yield step
        yield (
            f"{sure} sure between {format_milliseconds(low)} and {format_milliseconds(high)}"
            f"{_noisy(measured, time.total_ms)}"
        )
    elif time.predicted is not None:
        yield from _prediction(step, time.predicted)
    else:
        yield step
    if report.scenario.is_training:
        for name in ("forward", "loss", "backward", "optimizer"):
            milliseconds: float = getattr(time, f"{name}_ms")
            if milliseconds:
                yield f"{name} {format_milliseconds(milliseconds)}"
    if time.outside_ms >= _LEAST_SHARE * time.total_ms:
        yield f"outside of modules {share(time.outside_ms, time.total_ms)}"
    if time.between_ops_ms >= _LEAST_SHARE * time.total_ms:
        yield f"between operators {share(time.between_ops_ms, time.total_ms)}"


def _prediction(step: str, predicted: TimePrediction) -> Iterator[str]:
    """Say what a predicted time is worth, and what bounds it."""
    error = format_percent(round(predicted.error, 2), 1.0)
    yield f"{step} ± {error}, predicted for {one_line(predicted.device)}"
    shares = sorted(predicted.bound_by.items(), key=lambda item: -item[1])
    yield "bound by " + ", ".join(f"{name} {share(part, 1.0)}" for name, part in shares)
    if predicted.samples_per_second is not None:
        yield f"{format_rate(predicted.samples_per_second)} samples/s"
    if predicted.flops_share is not None:
        yield f"{share(predicted.flops_share, 1.0)} of the peak FLOP rate (MFU)"
    if predicted.most_joules is not None:
        yield f"at most {format_joules(predicted.most_joules)} at the power limit"


def _noisy(measured: Measurement, median: float) -> str:
    """Say so when the interval is too wide to compare anything by."""
    spread = measured.intervals["total"]
    return " (noisy)" if spread.high_ms - spread.low_ms > _NOISY_SHARE * median else ""


def _slowest_ops(time: StepTime) -> Iterator[str]:
    for op in time.ops[:_HEAVIEST]:
        times = "1 call" if op.calls == 1 else f"{format_integer(op.calls)} calls"
        kernel = f" ({one_line(op.kernel)})" if op.kernel != op.name else ""
        part = share(op.time_ms, time.total_ms)
        yield f"{part} {one_line(op.name)}{kernel} in {op.phase}, {times}"


def _occupied(phases: tuple[PhaseMemory, ...]) -> Iterator[str]:
    for kind, name in (
        ("reserved_bytes", "reserved by the allocator"),
        ("device_bytes", "on the device"),
        ("resident_bytes", "by the whole process, in main memory"),
    ):
        known = [size for item in phases if (size := getattr(item, kind)) is not None]
        if known:
            yield f"{format_bytes(max(known))} {name}"


def _memory(report: Report, memory: MemoryEstimate) -> Iterator[str]:
    yield f"input {format_bytes(memory.input_bytes)}"
    if report.scenario.is_training:
        yield f"parameters {format_bytes(memory.parameter_bytes)}"
        yield f"gradients {format_bytes(memory.gradient_bytes)}"
        if memory.optimizer_bytes:
            yield f"optimizer {format_bytes(memory.optimizer_bytes)}"
        yield f"saved activations {format_bytes(memory.saved_activation_bytes)}"
    else:
        yield f"activations {format_bytes(layer_output_bytes(report))}"
        yield f"parameters {format_bytes(memory.parameter_bytes)}"
    if memory.buffer_bytes:
        yield f"buffers {format_bytes(memory.buffer_bytes)}"
    so_far = " until the failure" if report.failure is not None else ""
    yield f"peak {format_bytes(memory.peak_allocated_bytes)}{so_far} {_peak_place(memory)}"
    if memory.device_bytes is not None:
        yield from _on_the_device(report, memory)


def _on_the_device(report: Report, memory: MemoryEstimate) -> Iterator[str]:
    """Yield what the allocator holds, what the device shows, and whether that fits."""
    assert memory.peak_reserved_bytes is not None and memory.device_bytes is not None
    if report.scenario.is_training:
        step = "the first step" if report.scenario.first_step else "a step after the first"
        yield f"of {step}"
    yield f"{format_bytes(memory.peak_reserved_bytes)} reserved by the allocator"
    between = ""
    if "device_bytes" in memory.intervals:
        low, high = memory.intervals["device_bytes"]
        between = f" (between {format_bytes(low)} and {format_bytes(high)})"
    yield f"{format_bytes(memory.device_bytes)} on the device with the CUDA context{between}"
    if memory.minimum_bytes is not None:
        yield f"runs under a limit of {format_bytes(memory.minimum_bytes)}"
    if memory.fits is not None and memory.capacity_bytes is not None:
        verdict = "fits" if memory.fits else "does not fit"
        name = one_line(report.scenario.device)
        yield f"{verdict} {name} ({format_bytes(memory.capacity_bytes)})"


def _peak_place(memory: MemoryEstimate) -> str:
    place = f"in {memory.peak_phase}"
    if memory.peak_module:
        return f"{place} at {one_line(memory.peak_module)}"
    return f"{place} at {one_line(memory.peak_op)}" if memory.peak_op else place


def layer_output_bytes(report: Report) -> int:
    """Return what the innermost modules allocate for their outputs, all together."""
    return sum(cost.activation_bytes for cost in own_costs(report).values())


def _costs_most(report: Report, parts: Part) -> Iterator[str]:
    training = report.scenario.is_training
    field = "saved_activation_bytes" if training else "activation_bytes"
    name = "saved activations" if training else "activations"
    by_time = [("time", "time_ms")] if report.time is not None else []
    for what, of in (*by_time, ("MACs", "macs"), (name, field)):
        whole: float = getattr(parts.cost, of)
        if of == "time_ms" and report.time is not None:
            whole = report.time.total_ms
        shares = list(_shares(parts, of, whole, " "))
        if shares:
            yield f"{what}: {', '.join(shares)}"


def _shares(parts: Part, field: str, whole: float, between: str) -> Iterator[str]:
    """Yield the shares of the heaviest parts, the largest first."""
    figures = [(part.label, float(getattr(part.cost, field))) for part in innermost(parts)]
    figures.sort(key=lambda item: -item[1])
    for rank, (label, value) in enumerate(figures[:_HEAVIEST]):
        if value > 0 and (rank == 0 or value >= _LEAST_SHARE * whole):
            yield f"{share(value, whole)}{between}{label}"
