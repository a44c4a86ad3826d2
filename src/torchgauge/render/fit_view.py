"""What the answer to "will it fit?" shows: lines and tables, the same in every format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torchgauge.facts.fit import (
    Alternative,
    CacheFit,
    DeviceFit,
    FitReport,
    Largest,
    LocalFree,
    Part,
    Verdict,
)
from torchgauge.facts.precision import precision_text
from torchgauge.facts.scenario import ZeroGrad
from torchgauge.render.page import Column, Page, Table
from torchgauge.render.shapes import one_line
from torchgauge.units import format_bytes, format_count, format_percent

FAST = 8
"""Sizes at full speed are a multiple of it."""
_WARNINGS = 3
"""Of devices, shown one by one."""
VERDICTS = {
    Verdict.FITS: "fits",
    Verdict.FRAGMENTED: "fits, fragmented",
    Verdict.DOES_NOT_FIT: "does not fit",
}


def view_of(report: FitReport) -> Page:
    """Return what is shown of a report."""
    single = len(report.devices) == 1
    tables = [_breakdown(report)] if single else [_devices(report)]
    useful = [item for item in report.alternatives if item.saved_bytes > 0]
    if useful:
        tables.append(_alternatives(report, useful))
    return Page(
        head=(report.model_name, *report.inputs, *_scenario(report, single)),
        verdict=tuple(_verdict(report.devices[0])) if single else (_count(report),),
        tables=tuple(tables),
        facts=tuple(_facts(report)),
        notes=tuple(_notes(report)),
    )


# ---------------------------------------------------------------------------- verdict


def _scenario(report: FitReport, single: bool) -> Iterator[str]:
    scenario = report.scenario
    if scenario.is_training:
        yield f"training, {scenario.optimizer}"
    else:
        yield str(scenario.mode)
    yield precision_text(scenario.precision, report.parameter_dtypes)
    for field in ("checkpointing", "ema", "gradient_clipping", "channels_last"):
        if getattr(scenario, field):
            yield field.replace("_", " ")
    if scenario.offload_activations:
        yield "activations in main memory"
    if scenario.accumulation > 1:
        yield f"{scenario.accumulation} micro-batches"
    if scenario.zero_grad is not ZeroGrad.BEFORE_FORWARD:
        yield f"zero_grad {scenario.zero_grad}"
    if scenario.optimizer_implementation is not None:
        yield str(scenario.optimizer_implementation)
    if scenario.allocator:
        yield scenario.allocator
    if single:
        yield scenario.device


def _verdict(device: DeviceFit) -> Iterator[str]:
    usable, needed = format_bytes(device.usable_bytes), format_bytes(device.device_bytes)
    room = device.headroom_bytes
    share = format_percent(abs(room), device.usable_bytes)
    if device.verdict is Verdict.FITS:
        yield (
            f"It fits on {device.device}: {needed} needed, {usable} there, "
            f"{format_bytes(room)} ({share}) to spare."
        )
        return
    if device.verdict is Verdict.FRAGMENTED:
        yield (
            f"It fits on {device.device} only while the allocator gives cached memory back and "
            f"asks again, which costs time: it would take {needed}, {usable} are there."
        )
    else:
        yield (
            f"It does not fit on {device.device}: {needed} needed, {usable} there, "
            f"{format_bytes(-room)} ({share}) too much."
        )
    if device.minimum_bytes is not None:
        least = device.minimum_bytes + device.context_bytes
        yield f"It would run in {format_bytes(least)}, the CUDA context included, at the least."


def _count(report: FitReport) -> str:
    count = sum(device.verdict.runs for device in report.devices)
    return f"It fits on {count} of {len(report.devices)} devices."


# ---------------------------------------------------------------------------- tables


def _breakdown(report: FitReport) -> Table:
    device = report.devices[0]
    total = device.device_bytes
    rows = [
        (_name(part, report), format_bytes(nbytes), format_percent(nbytes, total))
        for part, nbytes in report.breakdown.items()
    ]
    rows.append(("Used on the device", format_bytes(total), ""))
    return Table(
        title="What the memory is for, at the peak",
        columns=(
            Column(title="Part", is_number=False),
            Column(title="Bytes"),
            Column(title="Share"),
        ),
        rows=tuple(rows),
    )


def _name(part: Part, report: FitReport) -> str:
    if part is Part.OUTPUTS and report.cache is not None:
        return "Keys and values, outputs"
    return str(part)[:1].upper() + str(part)[1:]


def _devices(report: FitReport) -> Table:
    rows = [
        (
            device.device,
            format_bytes(device.usable_bytes),
            format_bytes(device.device_bytes),
            format_bytes(device.headroom_bytes),
            VERDICTS[device.verdict] + (" !" if device.warnings else ""),
        )
        for device in sorted(report.devices, key=lambda d: (d.usable_bytes, d.device))
    ]
    return Table(
        title="",
        columns=(
            Column(title="Device", is_number=False),
            Column(title="Usable"),
            Column(title="Needed"),
            Column(title="Headroom"),
            Column(title="Verdict", is_number=False),
        ),
        rows=tuple(rows),
    )


def _alternatives(report: FitReport, useful: Sequence[Alternative]) -> Table:
    title = (
        "What would make it fit" if not report.verdict.runs else "What would free memory"
    ) + ", each traced"
    return Table(
        title=title,
        columns=(
            Column(title="Change", is_number=False),
            Column(title="Needed"),
            Column(title="Saves"),
            Column(title="Extra FLOPs"),
            Column(title="Verdict", is_number=False),
        ),
        rows=tuple(_alternative(item, report.total_flops) for item in useful),
    )


def _alternative(item: Alternative, flops: int) -> tuple[str, ...]:
    text = " + ".join(item.changes) + (f" ({item.note})" if item.note else "")
    extra = "–"
    if item.extra_flops:
        extra = f"{'+' if item.extra_flops > 0 else '-'}{_share(abs(item.extra_flops), flops)}"
    return (
        text,
        format_bytes(item.device_bytes),
        format_bytes(item.saved_bytes),
        extra,
        VERDICTS[item.verdict],
    )


def _share(part: int, whole: int) -> str:
    if whole <= 0:
        return format_count(part)
    percent = 100 * part / whole
    return "0 %" if percent < 0.05 else f"{percent:.1f} %"


# ---------------------------------------------------------------------------- facts


def _facts(report: FitReport) -> Iterator[tuple[str, str]]:
    yield "Peak at", report.peak_at
    if report.cache is not None:
        yield from _cache_facts(report.cache)
    if report.largest_batch is not None:
        yield "Largest batch", _largest(report.largest_batch, "batch", "sample")
    for gpu in report.local:
        yield f"GPU {gpu.index} here", _local(gpu)


def _cache_facts(cache: CacheFit) -> Iterator[tuple[str, str]]:
    yield (
        "Keys and values",
        f"{format_bytes(cache.cache_bytes)} for {cache.context:,} tokens per sequence, "
        f"{format_bytes(cache.bytes_per_token)} per token, {cache.kind} cache",
    )
    yield (
        "Tensors",
        f"{format_bytes(cache.prefill_peak_bytes)} at most while the prompt is read, "
        f"{format_bytes(cache.decode_peak_bytes)} while the last token is made",
    )
    if cache.largest_context is not None:
        yield "Largest context", _largest(cache.largest_context, "context", "token")


def _largest(found: Largest, what: str, unit: str) -> str:
    traced = f"{len(found.tried)} traced"
    if found.runs is None:
        return f"not even one {unit} fits ({traced})"
    more = "" if found.is_bound else " or more"
    text = f"{found.runs:,}{more}"
    if found.full_speed is not None:
        text += f"; {found.full_speed:,} at full speed (multiple of {max(FAST, found.unit)}, "
        text += "nothing given back)"
    elif found.runs >= FAST:
        text += "; no multiple of 8 at full speed"
    larger = [item.size for item in found.tried if item.size > found.runs]
    if found.is_bound and larger:
        text += f"; {larger[0]:,} does not fit"
    note = f"; {found.note}" if found.note else ""
    return f"{text} ({traced}){note}"


def _local(gpu: LocalFree) -> str:
    if gpu.free_bytes is None:
        return f"{gpu.name}, what is free on it is not known"
    text = f"{gpu.name}, {format_bytes(gpu.free_bytes)} free now"
    if gpu.fits_now is None:
        return text
    return f"{text}: {'enough' if gpu.fits_now else 'not enough'}"


def _notes(report: FitReport) -> Iterator[str]:
    for text in report.warnings:
        yield f"warning: {text}"
    said = set(report.warnings)
    others = [text for device in report.devices for text in device.warnings if text not in said]
    for text in others[:_WARNINGS]:
        yield f"warning: {text}"
    if len(others) > _WARNINGS:
        yield f"warning: likewise {len(others) - _WARNINGS} more of those marked with !"
    useless = [item for item in report.alternatives if item.saved_bytes <= 0]
    if useless:
        listed = "; ".join(
            f"{' + '.join(item.changes)} (+ {format_bytes(-item.saved_bytes)})" for item in useless
        )
        yield f"takes no less: {listed}"
    if report.not_tried:
        listed = "; ".join(f"{item.name} ({item.why})" for item in report.not_tried)
        yield f"not tried: {listed}"
    for gap in report.not_counted:
        yield f"not counted: {one_line(gap.op)} ({gap.calls} ×): {one_line(gap.why)}"
    for text in report.assumptions:
        yield f"assumed: {text}"
