"""The answer to "will it fit?" as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

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
from torchgauge.facts.guess import guesses
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
from torchgauge.render.pages.settings import settings
from torchgauge.render.pages.verdict import VERDICTS, verdict_fact
from torchgauge.render.shapes import without_overloads
from torchgauge.units import (
    format_bytes,
    format_cell_share,
    format_count,
    format_number_of,
)

FAST = 8
"""Sizes at full speed are a multiple of it."""
_CALM_NOTES = 3


def fit_page(report: FitReport) -> Page:
    """Return what is shown of the answer."""
    single = len(report.devices) == 1
    blocks: list[Block] = [Facts(facts=tuple(_facts(report, single)))]
    blocks.append(_breakdown(report) if single else _devices(report))
    useful = [item for item in report.alternatives if item.saved_bytes > 0]
    if useful:
        blocks.append(_alternatives(report, useful))
    blocks += [*_notes(report), _data(report)]
    return Page(title=tuple(_title(report, single)), blocks=tuple(blocks))


def _title(report: FitReport, single: bool) -> Iterator[str]:
    # With several devices the table has them.
    scenario = report.scenario if single else replace(report.scenario, device="cpu")
    yield report.model_name
    yield from report.inputs
    yield from settings(scenario, report.parameter_dtypes)


# ---------------------------------------------------------------------------- answers


def _facts(report: FitReport, single: bool) -> Iterator[Fact]:
    if single:
        yield from _verdict(report.devices[0])
        yield from _safe(report)
        yield fact("Peak", f"in {_peak_at(report)}")
    else:
        count = sum(device.verdict.runs for device in report.devices)
        tone = Tone.GOOD if count == len(report.devices) else Tone.WARNING if count else Tone.BAD
        close = sum(device.verdict is Verdict.TOO_CLOSE for device in report.devices)
        text = f"on {count} of {format_number_of(len(report.devices), 'device')}"
        more = (f"too close to call on {close}",) if close else ()
        yield fact("Fits", text, *more, tone=tone)
    if report.largest_batch is not None:
        yield fact("Largest batch", *_largest(report.largest_batch, "sample"))
    if report.cache is not None:
        yield from _cache_facts(report.cache)
    for gpu in report.local:
        yield fact(f"GPU {gpu.index} here", _local(gpu))


def _peak_at(report: FitReport) -> str:
    text = without_overloads(report.peak_at)
    # A generation runs inside a module of ours, which calls the user's "model".
    return text if report.cache is None else text.replace(", model.", ", ", 1)


def _verdict(device: DeviceFit) -> Iterator[Fact]:
    yield verdict_fact(
        device.verdict, device.device_bytes, device.device_interval, device.device,
        device.usable_bytes, device.other_programs_bytes,
    )  # fmt: skip
    if device.minimum_bytes is not None and device.verdict is not Verdict.FITS:
        least = format_bytes(device.minimum_bytes + device.context_bytes)
        text = f"{least} with the CUDA context, where cached memory is given back"
        yield fact("Minimum", text)


def _safe(report: FitReport) -> Iterator[Fact]:
    """Yield what would make a step safe that is too close to call."""
    if report.verdict is not Verdict.TOO_CLOSE:
        return
    largest, found = report.largest_batch, []
    if largest is not None and largest.safe is not None:
        found.append(f"batch {largest.safe:,}")
    safe = [item for item in report.alternatives if item.verdict is Verdict.FITS]
    if safe:  # the one that costs and changes least
        best = min(safe, key=lambda a: (max(a.extra_flops, 0), bool(a.note), -a.device_bytes))
        found.append(f"{' + '.join(best.changes)} ({format_bytes(best.device_bytes)})")
    yield fact("Safe", *(found or ("nothing that was traced",)))


def _cache_facts(cache: CacheFit) -> Iterator[Fact]:
    size, per_token = format_bytes(cache.cache_bytes), format_bytes(cache.bytes_per_token)
    yield fact(
        "KV cache",
        f"{size} for {cache.context:,} tokens per sequence",
        f"{per_token} per token",
        f"{cache.kind} cache",
    )
    prefill, decode = format_bytes(cache.prefill_peak_bytes), format_bytes(cache.decode_peak_bytes)
    yield fact("Tensors", f"{prefill} at most in the prefill", f"{decode} for the last token")
    if cache.largest_context is not None:
        yield fact("Largest context", *_largest(cache.largest_context, "token"))


def _largest(largest: Largest, unit: str) -> Iterator[str]:
    traced = f"{format_number_of(len(largest.tried), 'size')} traced"
    if largest.runs is None:
        yield f"not even one {unit} fits"
        yield traced
        return
    most = f"{largest.runs:,}{'' if largest.is_bound else ' or more'}"
    if largest.full_speed == largest.runs:
        yield f"{most}, at full speed"
    else:
        if largest.safe != largest.runs:
            yield "none is safe" if largest.safe is None else f"{largest.safe:,} is safe"
            most += " may run, too close to call above" if largest.safe else " may run"
        yield most
        multiple = max(FAST, largest.unit)
        if largest.full_speed is not None:
            size = f"{largest.full_speed:,}"
            yield f"{size} without freeing cached memory (a multiple of {multiple})"
        elif largest.runs >= FAST:
            yield f"no multiple of {FAST} without freeing cached memory"
    larger = [item.size for item in largest.tried if item.size > largest.runs]
    if largest.is_bound and larger:
        yield f"{larger[0]:,} does not fit"
    yield traced
    if largest.note:
        yield largest.note


def _local(gpu: LocalFree) -> str:
    if gpu.free_bytes is None:
        return f"{gpu.name}; its free memory is not known"
    text = f"{gpu.name} has {format_bytes(gpu.free_bytes)} free now"
    if gpu.fits_now is None:
        return text
    return f"{text}: {'enough' if gpu.fits_now else 'not enough'}"


# ---------------------------------------------------------------------------- tables


def _breakdown(report: FitReport) -> Table:
    total = report.devices[0].device_bytes
    rows = [
        (_name(part, report), format_bytes(nbytes), format_cell_share(nbytes, total))
        for part, nbytes in report.breakdown.items()
    ]
    rows.append(("Used on the device", format_bytes(total), ""))
    columns = (Column("Part", is_number=False), Column("Size"), Column("Share"))
    return table_of(columns, rows, heading="Memory at the peak")


def _name(part: Part, report: FitReport) -> str:
    if part is Part.PARAMETERS:
        return "Parameters, buffers"
    if part is Part.OUTPUTS and report.cache is not None:
        return "KV cache, outputs"
    return str(part)[:1].upper() + str(part)[1:]


def _devices(report: FitReport) -> Table:
    rows = [
        (
            device.device,
            format_bytes(device.usable_bytes),
            format_bytes(device.device_bytes),
            format_bytes(device.headroom_bytes).replace("-", "−"),
            VERDICTS[device.verdict] + (" !" if device.warnings else ""),
        )
        for device in sorted(report.devices, key=lambda d: (d.usable_bytes, d.device))
    ]
    columns = (
        Column("Device", is_number=False),
        Column("Usable", keep=70),
        Column("Needed", keep=80),
        Column("Headroom", keep=60),
        Column("Verdict", is_number=False, keep=90),
    )
    return table_of(columns, rows)


def _alternatives(report: FitReport, useful: Sequence[Alternative]) -> Table:
    columns = (
        Column("Change", is_number=False, wraps=True),
        Column("Needed", keep=80),
        Column("Saves", keep=90),
        Column("Extra FLOPs", keep=70),
        Column("Verdict", is_number=False, keep=60),
    )
    rows = [_alternative(item, report.total_flops) for item in useful]
    return table_of(columns, rows, heading="What saves memory")


def _alternative(item: Alternative, flops: int) -> tuple[str, ...]:
    extra = "–"
    if item.extra_flops:
        extra = f"{'+' if item.extra_flops > 0 else '−'}{_share(abs(item.extra_flops), flops)}"
    return (
        " + ".join(item.changes),
        format_bytes(item.device_bytes),
        format_bytes(item.saved_bytes),
        extra,
        VERDICTS[item.verdict],
    )


def _share(part: int, whole: int) -> str:
    if whole <= 0:
        return format_count(part)
    percent = 100 * part / whole
    return "< 0.1 %" if percent < 0.05 else f"{percent:.1f} %"


# ---------------------------------------------------------------------------- notes


def _notes(report: FitReport) -> Iterator[Notes]:
    said = set(report.warnings)
    others = [text for device in report.devices for text in device.warnings if text not in said]
    guessed = guesses(report.assumptions)
    yield from notes_of(
        ("Warnings", [*report.warnings, *others]),
        (
            "Not counted",
            (
                f"{without_overloads(gap.op)} ({gap.calls} ×): {gap.why}"
                for gap in report.not_counted
            ),
        ),
        ("Guessed", guessed),
        tone=Tone.WARNING,
        calm=_CALM_NOTES,
    )
    named = [(" + ".join(item.changes), item) for item in report.alternatives]
    useless = [(name, -item.saved_bytes) for name, item in named if item.saved_bytes <= 0]
    yield from notes_of(
        ("About these changes", (f"{name}: {item.note}" for name, item in named if item.note)),
        (
            "Changes without a saving",
            (
                f"{name} needs {format_bytes(more)} more" if more else f"{name}: no change"
                for name, more in useless
            ),
        ),
        ("Changes not tried", (f"{item.name}: {item.why}" for item in report.not_tried)),
        ("Assumptions", (text for text in report.assumptions if text not in guessed)),
    )


def _data(report: FitReport) -> Data:
    """Return one row per device, traced batch and alternative."""
    rows: list[tuple[object, ...]] = [
        ("device", item.device, item.verdict, item.device_bytes, item.headroom_bytes, "")
        for item in report.devices
    ]
    tried = () if report.largest_batch is None else report.largest_batch.tried
    rows += [("batch", item.size, item.verdict, item.device_bytes, "", "") for item in tried]
    rows += [
        ("alternative", " + ".join(item.changes), item.verdict, item.device_bytes,
         item.saved_bytes, item.extra_flops)
        for item in report.alternatives
    ]  # fmt: skip
    columns = ("row", "name", "verdict", "device_bytes", "difference_bytes", "extra_flops")
    return Data(columns=columns, rows=tuple(rows))
