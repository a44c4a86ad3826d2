"""What a report says beyond its answers: the figures behind them, and all that a reader may ask.

Nothing that a report lists may be missing from its page: what was not counted, never called,
assumed and warned about.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from torchgauge.facts.guess import guesses
from torchgauge.facts.memory import AliveTensor, MemoryEstimate, PhaseMemory
from torchgauge.facts.query import has_run, never_called, own_costs
from torchgauge.facts.report import Report
from torchgauge.facts.time import Interval, StepTime, TimePrediction
from torchgauge.facts.trace import NotCounted, Role
from torchgauge.render.page import Facts, Notes, fact, notes_of
from torchgauge.render.pages.verdict import between_bytes
from torchgauge.render.shapes import without_overloads
from torchgauge.render.tree.parts import Part, innermost
from torchgauge.units import (
    format_bytes,
    format_count,
    format_integer,
    format_joules,
    format_milliseconds,
    format_number_of,
    format_percent,
    format_share,
)

_HEAVIEST, _LEAST_SHARE = 3, 0.05
_NOISY_SHARE = 0.1
_NAMED_ROLES = (Role.PARAMETER, Role.BUFFER, Role.GRADIENT, Role.INPUT)
MEASURES = {
    "params": "parameters",
    "macs": "MACs",
    "time_ms": "time",
    "saved_activation_bytes": "activations",
    "activation_bytes": "activations",
}
"""Costs of a part, for people."""


def role_name(role: Role) -> str:
    """Write a role for several tensors.

    >>> role_name(Role.SAVED_ACTIVATION), role_name(Role.TEMPORARY), role_name(Role.ROUNDING)
    ('saved activations', 'temporaries', 'rounding')
    """
    if role is Role.ROUNDING:
        return "rounding"
    text = str(role).replace("_", " ")
    return f"{text.removesuffix('y')}ies" if text.endswith("y") else f"{text}s"


def missing_formulas(report: Report) -> tuple[NotCounted, ...]:
    """Return the entries of ``not_counted`` that are operators, not modules that never ran."""
    return tuple(entry for entry in report.not_counted if not _is_module(entry, report))


def _is_module(entry: NotCounted, report: Report) -> bool:
    return entry.calls == 0 and entry.op in report.modules


def is_noisy(time: StepTime) -> bool:
    """Return whether a measured interval is too wide to compare anything by."""
    if time.measured is None:
        return False
    spread = time.measured.intervals["total"]
    return spread.high_ms - spread.low_ms > _NOISY_SHARE * time.total_ms


def heaviest(
    report: Report, parts: Part, field: str, *, between: str = " ", count: int = 1
) -> Iterator[str]:
    """Yield the share and the name of the heaviest parts, the largest first."""
    whole: float = getattr(parts.cost, field)
    if field == "time_ms" and report.time is not None:
        whole = report.time.total_ms
    figures = [(part.label, float(getattr(part.cost, field))) for part in innermost(parts)]
    figures.sort(key=lambda item: -item[1])
    for rank, (label, value) in enumerate(figures[:count]):
        if value > 0 and (rank == 0 or value >= _LEAST_SHARE * whole):
            yield f"{format_share(value, whole)}{between}{label}"


def heavy_fields(report: Report) -> tuple[str, ...]:
    """Return the costs that say where a model is heavy, the one of most interest first."""
    kept = "saved_activation_bytes" if report.scenario.is_training else "activation_bytes"
    return ("macs", kept) if report.time is None else ("time_ms", kept, "macs")


# ---------------------------------------------------------------------------- figures


def details(report: Report, parts: Part) -> Iterator[Facts]:
    """Yield the figures behind the answers; ``parts`` is the folded model."""
    groups = [("Parameters", _parameters(report))]
    if has_run(report):
        if report.time is not None:
            groups.append(("Time of a step", _time(report, report.time)))
        groups.append(("Operations", _operations(report)))
        if report.memory is not None:
            groups.append(("Memory", _memory(report, report.memory)))
        if report.phase_memory:
            groups.append(("Occupied", _occupied(report.phase_memory)))
    groups.append(("Heaviest layers", _heaviest_layers(report, parts)))
    for heading, pairs in groups:
        facts = tuple(fact(label, *texts) for label, *texts in pairs)
        if facts:
            yield Facts(heading=heading, facts=facts, detail=True)


_Pairs = Iterator[tuple[str, ...]]


def _parameters(report: Report) -> _Pairs:
    totals = report.totals
    yield "Total params", format_integer(totals.params), format_bytes(totals.param_bytes)
    yield "Trainable params", format_integer(totals.trainable_params)
    yield "Non-trainable params", format_integer(totals.non_trainable_params)
    if totals.buffers:
        size = format_bytes(totals.buffer_bytes)
        yield "Buffers", format_integer(totals.buffers), f"{size}, not parameters"


def _operations(report: Report) -> _Pairs:
    totals = report.totals
    yield (
        "Forward", format_count(totals.forward_macs, "MACs"),
        format_count(totals.forward_flops, "FLOPs"),
    )  # fmt: skip
    if report.scenario.is_training:
        yield "Backward", f"{format_count(totals.backward_flops, 'FLOPs')} as executed"
        if totals.optimizer_flops:
            yield "Optimizer", format_count(totals.optimizer_flops, "FLOPs")
        yield "Step", format_count(totals.total_flops, "FLOPs")
    if totals.elementwise_flops:
        text = format_count(totals.elementwise_flops, "FLOPs")
        yield "Element-wise", f"{text} in the forward, not part of the figures above"


def _time(report: Report, time: StepTime) -> _Pairs:
    measured = time.measured
    if measured is not None:
        spread = measured.intervals["total"]
        sure = format_percent(measured.confidence, 1.0)
        yield (
            "Measured", f"median of {format_integer(measured.repetitions)}",
            f"{sure} confidence interval {_interval(spread)}",
        )  # fmt: skip
    if time.predicted is not None:
        yield from _prediction(time.predicted)
    if report.scenario.is_training:
        for name in ("forward", "loss", "backward", "optimizer"):
            milliseconds: float = getattr(time, f"{name}_ms")
            if milliseconds:
                yield name.capitalize(), format_milliseconds(milliseconds)
    for label, spent in (
        ("Outside of modules", time.outside_ms),
        ("Between operators", time.between_ops_ms),
    ):
        if spent >= _LEAST_SHARE * time.total_ms:
            yield label, format_share(spent, time.total_ms)


def _interval(spread: Interval) -> str:
    """Write both ends of an interval, with one unit where they share it."""
    low, high = format_milliseconds(spread.low_ms), format_milliseconds(spread.high_ms)
    number, unit = low.split()
    return f"{number}–{high}" if unit == high.split()[1] else f"{low} – {high}"


def _prediction(predicted: TimePrediction) -> _Pairs:
    """Say what bounds a predicted time, and what it means for the device."""
    error = format_percent(round(predicted.error, 2), 1.0)
    yield "Predicted for", predicted.device, f"± {error} (four of five steps stay within)"
    shares = sorted(predicted.bound_by.items(), key=lambda item: -item[1])
    yield "Bound by", ", ".join(f"{name} {format_share(part, 1.0)}" for name, part in shares)
    if predicted.flops_share is not None:
        share = format_share(predicted.flops_share, 1.0)
        yield "MFU", f"{share} of the device's peak FLOP/s"
    if predicted.most_joules is not None:
        yield "Energy", f"at most {format_joules(predicted.most_joules)}, at the power limit"


def _memory(report: Report, memory: MemoryEstimate) -> _Pairs:
    yield "Input", format_bytes(memory.input_bytes)
    yield "Parameters", format_bytes(memory.parameter_bytes)
    if memory.buffer_bytes:
        yield "Buffers", format_bytes(memory.buffer_bytes)
    if report.scenario.is_training:
        yield "Gradients", format_bytes(memory.gradient_bytes)
        if memory.optimizer_bytes:
            yield "Optimizer states", format_bytes(memory.optimizer_bytes)
        yield "Saved activations", f"{format_bytes(memory.saved_activation_bytes)} for the backward"
    else:
        outputs = sum(cost.activation_bytes for cost in own_costs(report).values())
        yield "Layer outputs", format_bytes(outputs), "sum over layers; only some are alive at once"
    roles = sorted(memory.at_peak.items(), key=lambda item: -item[1])
    alive = [f"{role_name(role)} {format_bytes(nbytes)}" for role, nbytes in roles if nbytes]
    yield ("At the peak", *alive)
    if memory.device_bytes is not None:
        yield from _on_the_device(report, memory)


def _on_the_device(report: Report, memory: MemoryEstimate) -> _Pairs:
    """Yield what the allocator holds and what the device shows as used."""
    assert memory.peak_reserved_bytes is not None and memory.device_bytes is not None
    if report.scenario.is_training:
        yield (
            "Valid for",
            "the first step" if report.scenario.first_step else "steps after the first",
        )
    yield "Allocator", f"{format_bytes(memory.peak_reserved_bytes)} reserved"
    between = ""
    if "device_bytes" in memory.intervals:
        between = f", {between_bytes(memory.intervals['device_bytes'])} in four of five cases"
    device = format_bytes(memory.device_bytes)
    yield "On the device", f"{device} with the CUDA context{between}"
    if memory.minimum_bytes is not None:
        context = memory.device_bytes - memory.peak_reserved_bytes
        least = format_bytes(memory.minimum_bytes + context)
        yield "Minimum", f"{least} with the CUDA context, where cached memory is given back"


def _occupied(phases: tuple[PhaseMemory, ...]) -> _Pairs:
    for kind, name in (
        ("reserved_bytes", "Allocator"),
        ("device_bytes", "On the device"),
        ("resident_bytes", "Whole process"),
    ):
        known = [size for item in phases if (size := getattr(item, kind)) is not None]
        if known:
            where = " of host memory" if kind == "resident_bytes" else ""
            yield name, f"{format_bytes(max(known))}{where}"


def _heaviest_layers(report: Report, parts: Part) -> _Pairs:
    for field in ("params", *(heavy_fields(report) if has_run(report) else ())):
        shares = tuple(heaviest(report, parts, field, count=_HEAVIEST))
        if shares:
            yield (f"{MEASURES[field][0].upper()}{MEASURES[field][1:]}", *shares)


# ---------------------------------------------------------------------------- notes


def listed_notes(report: Report) -> Iterator[Notes]:
    """Yield the lists that a reader looks up."""
    guessed = set(guesses(report.assumptions))
    return notes_of(
        ("Slowest operators", _slowest(report)),
        ("Largest tensors at the peak", _alive(report)),
        ("Worth speeding up", _worth(report)),
        ("Modules never called", _never_called(report)),
        ("Shared parameters, counted once", _shared(report)),
        ("Assumptions", (text for text in report.assumptions if text not in guessed)),
    )


def _slowest(report: Report) -> Iterator[str]:
    time = report.time
    for op in time.ops[:_HEAVIEST] if time is not None else ():
        name = without_overloads(op.name)
        kernel = f" ({op.kernel})" if op.kernel != op.name else ""
        part = format_share(op.time_ms, time.total_ms) if time is not None else ""
        yield f"{part} {name}{kernel} in {op.phase}, {format_number_of(op.calls, 'call')}"


def _worth(report: Report) -> Iterator[str]:
    """Yield what would gain most if it ran at the datasheet's rate: its time, and what it is."""
    predicted = report.time.predicted if report.time is not None else None
    if report.time is None or predicted is None:
        return
    for item in predicted.bottlenecks:
        gain = format_share(item.gain_ms, report.time.total_ms)
        now, least = format_milliseconds(item.time_ms), format_milliseconds(item.roof_ms)
        where = f"{item.module}: " if item.module else ""
        yield (
            f"{where}{without_overloads(item.op)} takes {now}, at least {least} at the peak rate; "
            f"saves up to {gain} of the step"
        )


def _alive(report: Report) -> Iterator[str]:
    """Yield the largest blocks at the peak: size, role, tensor, and who made them where.

    An inference on the CPU stays calm: what it holds at most is a layer's input and output.
    """
    if report.memory is None or not (report.scenario.is_training or report.memory.device_bytes):
        return
    for tensor in report.memory.alive_at_peak:
        yield tensor_text(tensor)


def tensor_text(tensor: AliveTensor) -> str:
    """Return a block in words: size, role, tensor, and who made it where."""
    parts = [format_bytes(tensor.nbytes), str(tensor.role).replace("_", " ")]
    if tensor.shape is not None:
        sizes = ", ".join(map(str, tensor.shape))
        parts.append(f"[{sizes}] {tensor.dtype}")
    parts.append(without_overloads(tensor.label))
    if tensor.module and tensor.role not in _NAMED_ROLES:
        parts.append(f"in {tensor.module}")
    if tensor.code:
        parts.append(f"at {tensor.code}")
    return " ".join(part for part in parts if part)


def _never_called(report: Report) -> Iterator[str]:
    listed = {entry.op for entry in report.not_counted if _is_module(entry, report)}
    for entry in report.not_counted:
        if entry.op in listed:
            yield f"{entry.op}: {entry.why}"
    others = [
        f"{module.path} ({module.type})"
        for module in never_called(report)
        if module.path not in listed
        and not module.path.startswith(tuple(f"{other}." for other in listed))
    ]
    yield from _grouped(others)


def _shared(report: Report) -> Iterator[str]:
    pairs: list[str] = []
    for path, module in report.modules.items():
        if module.shared_with is not None:
            pairs.append(f"{path} is {module.shared_with or 'the model'}")
        pairs += [
            f"{item.name} is {item.shared_with}"
            for item in module.own_parameters
            if item.shared_with is not None
        ]
    yield from _grouped(pairs)


def _grouped(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines that differ in their numbers only as one, with how many there are."""
    groups: dict[str, list[str]] = {}
    for text in lines:
        groups.setdefault(re.sub(r"\d+", "0", text), []).append(text)
    for texts in groups.values():
        yield texts[0] if len(texts) == 1 else f"{_pattern(texts)} × {len(texts)}"


def _pattern(texts: list[str]) -> str:
    """Return the text that all of them share, with ``*`` for the numbers that differ."""
    pieces = [re.split(r"(\d+)", text) for text in texts]
    same = zip(*pieces, strict=True)
    return "".join(piece[0] if len(set(piece)) == 1 else "*" for piece in same)
