"""Bytes, counts and times to text and back. The only place where numbers are formatted.

Bytes use binary units (1 KiB = 1024 B), counts use decimal ones (1 M = 10^6); both always
carry their unit. A number has at most three digits before the point: 1,010 MiB are 0.99 GiB.
"""

from __future__ import annotations

import re

_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_COUNT_UNITS = ("", "K", "M", "G", "T", "P", "E")
_FOUR_DIGITS = 999.995
"""From here on two decimals would print four digits before the point."""
_FACTORS = {"": 1, "K": 1_000, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12, "P": 10**15}


def _scaled(value: float, base: int, units: tuple[str, ...]) -> str:
    index = 0
    magnitude = abs(float(value))
    # Bytes themselves are exact. Of the other units three digits are written, never "1000.00".
    while index < len(units) - 1 and magnitude >= (_FOUR_DIGITS if index else base - 0.005):
        magnitude /= base
        index += 1
    if index == 0:
        text = f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"
    else:
        text = f"{'-' if value < 0 else ''}{magnitude:,.2f}"
    return f"{text} {units[index]}".rstrip()


def format_bytes(value: float) -> str:
    """Write a number of bytes in binary units.

    >>> format_bytes(12845056), format_bytes(1010 * 2**20)
    ('12.25 MiB', '0.99 GiB')
    >>> format_bytes(512)
    '512 B'
    """
    return _scaled(value, 1024, _BYTE_UNITS)


def format_count(value: float, unit: str = "") -> str:
    """Write a count in decimal units, optionally with what is counted.

    >>> format_count(924844032)
    '924.84 M'
    >>> format_count(1412956160, "MACs")
    '1.41 GMACs'
    >>> format_count(999)
    '999'
    """
    text = _scaled(value, 1000, _COUNT_UNITS)
    if not unit:
        return text
    return f"{text}{unit}" if text[-1].isalpha() else f"{text} {unit}"


def format_integer(value: int) -> str:
    """Write an exact integer with thousands separators.

    >>> format_integer(401484648)
    '401,484,648'
    """
    return f"{value:,d}"


def format_number_of(count: int, thing: str) -> str:
    """Write how many of something there are; names of things whose plural is no ``s`` do not occur.

    >>> format_number_of(1, "sample"), format_number_of(2000, "sample")
    ('1 sample', '2000 samples')
    """
    return f"{count} {thing}{'' if count == 1 else 's'}"


def format_percent(part: float, whole: float) -> str:
    """Write a share in percent with up to two decimals; never rounds a part up to 100 %.

    >>> format_percent(401409000, 401484648)
    '99.98 %'
    >>> format_percent(0, 0)
    '–'
    """
    if not whole:
        return "–"
    share = 100.0 * part / whole
    if part < whole and share > 99.99:
        share = 99.99
    return f"{share:.2f}".rstrip("0").rstrip(".") + " %"


def format_share(part: float, whole: float) -> str:
    """Write a share in percent; what is not zero is never written as zero.

    >>> format_share(1792, 401484648), format_share(0, 5)
    ('< 0.01 %', '0 %')
    """
    text = format_percent(part, whole)
    return "< 0.01 %" if part > 0 and text == "0 %" else text


def format_rough_share(part: float, whole: float) -> str:
    """Write a share in whole percent, for figures: what is not zero is never written as zero.

    >>> format_rough_share(426, 617), format_rough_share(1, 617), format_rough_share(0, 5)
    ('69 %', '< 1 %', '0 %')
    """
    share = 100 * part / whole if whole else 0.0
    return "< 1 %" if 0 < share < 0.5 else f"{share:.0f} %"


def format_cell_share(part: float, whole: float) -> str:
    """Write a share for a column of shares, all with two decimals, so that their points align.

    >>> format_cell_share(1, 2), format_cell_share(1792, 401484648), format_cell_share(0, 5)
    ('50.00 %', '< 0.01 %', '0.00 %')
    """
    text = format_share(part, whole)
    if text == "–" or text.startswith("<"):
        return text
    integer, _, decimals = text.removesuffix(" %").partition(".")
    return f"{integer}.{decimals:0<2} %"


def format_milliseconds(value: float) -> str:
    """Write a time given in milliseconds with the unit that fits.

    >>> format_milliseconds(0.0123)
    '12.3 µs'
    >>> format_milliseconds(1234)
    '1.23 s'
    """
    if value >= _FOUR_DIGITS:
        return f"{value / 1000:.2f} s"
    if value >= 0.99995:
        return f"{value:.2f} ms"
    return f"{value * 1000:.1f} µs"


def format_rate(value: float) -> str:
    """Write how many of something a second, with three figures.

    >>> format_rate(46.26), format_rate(4_626.4)
    ('46.3', '4,626')
    """
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def format_joules(value: float) -> str:
    """Write an energy given in joules with the unit that fits.

    >>> format_joules(0.0123), format_joules(1234)
    ('12.3 mJ', '1.23 kJ')
    """
    if value >= 1000:
        return f"{value / 1000:.3g} kJ"
    if value >= 1:
        return f"{value:.3g} J"
    return f"{value * 1000:.3g} mJ"


def parse_count(text: str) -> int:
    """Read a count such as ``25.6M``, ``4 G`` or ``1_000``.

    Raises:
        ValueError: when the text is not a number with an optional K, M, G, B or T.

    >>> parse_count("25.6M")
    25600000
    """
    match = re.fullmatch(r"\s*([0-9][0-9_,]*\.?[0-9]*)\s*([KMGBTP]?)\s*", text, re.IGNORECASE)
    if match is None:
        raise ValueError(f"not a count: {text!r} (write 1000, 25.6M or 4G)")
    number = float(match[1].replace("_", "").replace(",", ""))
    return round(number * _FACTORS[match[2].upper()])


def parse_bytes(text: str) -> int:
    """Read a number of bytes such as ``24 GiB``, ``24GB`` (decimal) or ``1024``.

    Raises:
        ValueError: when the text is not a number with an optional byte unit.

    >>> parse_bytes("24 GiB")
    25769803776
    """
    pattern = r"\s*([0-9][0-9_,]*\.?[0-9]*)\s*(?:([KMGTP])(i)?)?B?\s*"
    match = re.fullmatch(pattern, text, re.IGNORECASE)
    if match is None:
        raise ValueError(f"not a number of bytes: {text!r} (write 1024, 24GiB or 24GB)")
    number = float(match[1].replace("_", "").replace(",", ""))
    power = " KMGTP".index(match[2].upper()) if match[2] else 0
    base = 1024 if match[3] else 1000
    factor: int = base**power
    return round(number * factor)


def parse_milliseconds(text: str) -> float:
    """Read a time such as ``20 ms``, ``1.5 s`` or ``300 µs``; a bare number is in milliseconds.

    Raises:
        ValueError: when the text is not a number with an optional unit of time.

    >>> parse_milliseconds("1.5 s"), parse_milliseconds("20")
    (1500.0, 20.0)
    """
    match = re.fullmatch(r"\s*([0-9]+\.?[0-9]*)\s*(s|ms|us|µs|μs)?\s*", text)
    if match is None:
        raise ValueError(f"not a time: {text!r} (write 20 ms or 1.5 s)")
    return float(match[1]) * {"s": 1e3, "ms": 1.0}.get(match[2] or "ms", 1e-3)
