"""Figures that only summaries of models write, beside those of ``units``."""

from __future__ import annotations

from torchgauge.units import format_percent


def mebibytes(nbytes: int) -> str:
    """Write bytes in MiB whatever their size, as summaries of models do.

    >>> mebibytes(1605938592)
    '1,531.54 MiB'
    """
    return f"{nbytes / 2**20:,.2f} MiB"


def share(part: float, whole: float) -> str:
    """Write a share in percent; what is not zero is never written as zero.

    >>> share(1792, 401484648), share(0, 5)
    ('< 0.01 %', '0 %')
    """
    text = format_percent(part, whole)
    return "< 0.01 %" if part > 0 and text == "0 %" else text
