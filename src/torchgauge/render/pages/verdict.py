"""Whether a step fits: one line of the page of a report and of that of ``fit``."""

from __future__ import annotations

from typing import Final

from torchgauge.facts.fit import Verdict
from torchgauge.render.page import Fact, Tone
from torchgauge.units import format_bytes, format_percent

VERDICTS: Final = {
    Verdict.FITS: "fits",
    Verdict.FRAGMENTED: "fits, fragmented",
    Verdict.TOO_CLOSE: "too close to call",
    Verdict.DOES_NOT_FIT: "does not fit",
}


def verdict_fact(
    verdict: Verdict,
    needed: int,
    interval: tuple[int, int] | None,
    device: str,
    usable: int,
    others: int,
) -> Fact:
    """Return the line; sizes in bytes, ``interval`` is that of ``needed``."""
    left = f", {format_bytes(others)} of it for other programs" if others else ""
    between = f" ({between_bytes(interval)})" if interval else ""
    sizes = f"{format_bytes(needed)} needed{between}; {device} has {format_bytes(usable)}{left}"
    if verdict is Verdict.FITS:
        used = format_percent(needed + others, usable)
        said, tone = f"yes: {sizes} ({used} used)", Tone.GOOD
    elif verdict is Verdict.TOO_CLOSE:
        said, tone = f"too close to call: {sizes}", Tone.WARNING
    elif verdict is Verdict.FRAGMENTED:
        said = f"only by giving cached memory back, which costs time: {sizes}"
        tone = Tone.WARNING
    else:
        lacking = needed + others - usable
        missing = f" ({format_bytes(lacking)} too little)" if lacking > 0 else ""
        said, tone = f"no: {sizes}{missing}", Tone.BAD
    share = (needed + others) / usable if usable else None
    return Fact(label="Fits", segments=(said,), tone=tone, share=share)


def between_bytes(interval: tuple[int, int]) -> str:
    """Return the ends of an interval, the unit once where both have it.

    >>> between_bytes((8268021760, 9019431321))
    '7.70–8.40 GiB'
    """
    low, high = (format_bytes(size) for size in interval)
    return f"{low.removesuffix(' ' + high.rpartition(' ')[2])}–{high}"
