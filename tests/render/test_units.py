"""Numbers to text and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchgauge.units import (
    format_bytes,
    format_count,
    format_integer,
    format_milliseconds,
    format_percent,
    format_share,
    parse_bytes,
    parse_count,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"), (1, "1 B"), (1023, "1,023 B"), (1024, "1.00 KiB"), (1536, "1.50 KiB"),
        (1023.9 * 1024, "1.00 MiB"), (1000 * 1024 - 6, "999.99 KiB"), (1000 * 1024, "0.98 MiB"),
        (1012 * 2**20, "0.99 GiB"), (-1012 * 2**20, "-0.99 GiB"), (1000 * 2**30, "0.98 TiB"),
        (1024**2 - 1, "1.00 MiB"), (12_845_056, "12.25 MiB"), (2**30, "1.00 GiB"),
        (2**40, "1.00 TiB"), (2**50, "1.00 PiB"), (2**60, "1,024.00 PiB"), (-2048, "-2.00 KiB"),
    ],
)  # fmt: skip
def test_bytes(value, text):
    assert format_bytes(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (999, "999"), (1000, "1.00 K"), (999_999, "1.00 M"), (999_994, "999.99 K"),
        (86_704_128, "86.70 M"), (924_844_032, "924.84 M"), (1_412_956_160, "1.41 G"),
        (10**12, "1.00 T"), (10**15, "1.00 P"), (10**18, "1.00 E"), (10**21, "1,000.00 E"),
    ],
)  # fmt: skip
def test_counts(value, text):
    assert format_count(value) == text


def test_counts_carry_what_is_counted():
    assert format_count(1_412_956_160, "MACs") == "1.41 GMACs"
    assert format_count(12, "FLOPs") == "12 FLOPs"
    assert format_count(2500, "FLOPs") == "2.50 KFLOPs"
    assert format_integer(401_484_648) == "401,484,648"


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 5, "0 %"), (1, 3, "33.33 %"), (1, 2, "50 %"), (5, 5, "100 %"), (0, 0, "–"),
        (999_999, 1_000_000, "99.99 %"), (401_409_000, 401_484_648, "99.98 %"),
    ],
)  # fmt: skip
def test_percent_never_rounds_a_part_up_to_the_whole(part, whole, text):
    assert format_percent(part, whole) == text == format_share(part, whole)


def test_a_share_never_rounds_down_to_nothing():
    assert format_share(1, 10**9) == "< 0.01 %"
    assert format_share(0, 10**9) == "0 %"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123, "12.3 µs"),
        (0.99996, "1.00 ms"),
        (1, "1.00 ms"),
        (999.4, "999.40 ms"),
        (999.996, "1.00 s"),
        (1234, "1.23 s"),
    ],
)
def test_milliseconds(value, text):
    assert format_milliseconds(value) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("25.6M", 25_600_000), ("4 G", 4 * 10**9), ("1_000", 1000), ("1,000", 1000),
        ("7b", 7 * 10**9), ("2T", 2 * 10**12), (" 3 ", 3),
    ],
)  # fmt: skip
def test_counts_are_read(text, value):
    assert parse_count(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("24 GiB", 24 * 2**30), ("24GB", 24 * 10**9), ("1024", 1024), ("1k", 1000), ("512 B", 512),
        ("1.5MiB", 1_572_864), ("2 ti", 2 * 2**40), ("1 PiB", 2**50),
    ],
)  # fmt: skip
def test_bytes_are_read(text, value):
    assert parse_bytes(text) == value


@pytest.mark.parametrize("text", ["", "many", "1.2.3", "-5", "5 X", "M", "nan"])
def test_what_is_no_number_is_refused_with_examples(text):
    with pytest.raises(ValueError, match=r"not a count: .* \(write 1000, 25\.6M or 4G\)"):
        parse_count(text)
    with pytest.raises(ValueError, match=r"not a number of bytes: .* \(write 1024, 24GiB or"):
        parse_bytes(text)


@given(value=st.integers(1, 10**17))
def test_what_is_written_is_read_back_to_three_digits(value):
    assert parse_bytes(format_bytes(value)) == pytest.approx(value, rel=0.006)
    assert parse_count(format_count(value)) == pytest.approx(value, rel=0.006)


@given(small=st.integers(0, 10**15), more=st.integers(0, 10**15))
def test_larger_numbers_never_look_smaller(small, more):
    assert parse_bytes(format_bytes(small)) <= parse_bytes(format_bytes(small + more))
