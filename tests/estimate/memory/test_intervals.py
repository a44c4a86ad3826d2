"""Between which bytes a step may lie, and the verdict over that interval."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import torchgauge as tg
from torchgauge.estimate.memory.device import Gpu, judge, loop_of, weigh
from torchgauge.estimate.memory.intervals import Spread, kind_of, spread_of, spreads
from torchgauge.facts.fit import Verdict
from torchgauge.facts.trace import Trace
from torchgauge.target import target_of

MIB = 1 << 20
ORDER = [Verdict.DOES_NOT_FIT, Verdict.TOO_CLOSE, Verdict.FRAGMENTED, Verdict.FITS]
sizes = st.integers(0, 1 << 40)
spread = st.builds(
    Spread,
    kind=st.just("any"),
    lower=st.floats(0.3, 1.0),
    upper=st.floats(1.0, 4.0),
    figures=st.just(20),
    exact_bytes=sizes,
)


# ---------------------------------------------------------------------------- the interval


@given(spread, sizes, sizes)
def test_an_interval_holds_its_figure_and_grows_with_it(made: Spread, one: int, two: int) -> None:
    (low, high), (other_low, other_high) = made.around(min(one, two)), made.around(max(one, two))
    assert low <= min(one, two) <= high
    assert low <= other_low and high <= other_high
    assert made.around(made.exact_bytes) == (made.exact_bytes, made.exact_bytes)


@given(spread, sizes, sizes)
def test_the_limits_are_where_the_ends_meet_the_capacity(
    made: Spread, nbytes: int, least: int
) -> None:
    safe, last = made.limits(least, least)
    assert safe <= least <= last
    slack = 2  # the ends are rounded to whole bytes
    if nbytes <= safe - slack:
        assert made.around(nbytes)[1] <= least
    if nbytes >= safe + slack * made.upper:
        assert made.around(nbytes)[1] >= least
    if nbytes >= last + slack / made.lower:
        assert made.around(nbytes)[0] >= least


def test_the_table_has_an_interval_for_each_kind_that_was_measured() -> None:
    assert {"steps without convolutions", "small convolutions", "large convolutions"} <= set(
        spreads()
    )
    for kind, made in spreads().items():
        assert 0 < made.lower <= 1 <= made.upper, kind
        assert made.figures >= 10 and f"{made.figures} published figures of {kind}" in (
            made.assumption
        )


# ---------------------------------------------------------------------------- kinds


def step(
    model: nn.Module, size: tuple[int, ...], device: str, **scenario: Any
) -> tuple[Trace, Gpu]:
    asked = tg.Scenario(device=device, **scenario)
    gpu, trace = target_of(asked).gpu, tg.analyze(model, size, scenario=asked).trace
    assert gpu is not None and trace is not None
    return trace, gpu


CNN = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.Flatten())
PIXELS = nn.Sequential(nn.Conv2d(3, 64, 1), nn.ReLU(), nn.Conv2d(64, 64, 3, groups=64))
IMAGES = (8, 3, 32, 32)


@pytest.mark.parametrize(
    ("model", "size", "device", "scenario", "kind"),
    [
        (nn.Linear(8, 8), (4, 8), "T4", {}, "steps without convolutions"),
        (CNN, IMAGES, "RTX 3090", {}, "large convolutions"),
        (PIXELS, IMAGES, "RTX 3090", {}, "small convolutions"),
        (CNN, IMAGES, "T4", {}, "large convolutions, GPUs before Ampere"),
        (CNN, IMAGES, "RTX 3090", {"cudnn_benchmark": True}, "large convolutions, cudnn.benchmark"),
        (CNN, IMAGES, "RTX 3090", {"channels_last": True}, "large convolutions, channels last"),
        (CNN, IMAGES, "RTX 3090", {"precision": "bf16"}, "large convolutions, 16 bits"),
    ],
)  # fmt: skip
def test_kinds(
    model: nn.Module, size: tuple[int, ...], device: str, scenario: dict[str, Any], kind: str
) -> None:
    trace, gpu = step(model, size, device, **scenario)
    weight = weigh(trace, gpu)
    assert kind_of(trace, gpu.platform, weight.reserved_bytes) == kind
    known = kind in spreads()
    report = tg.analyze(model, size, scenario=trace.scenario)
    said = [text for text in report.assumptions if text.startswith("memory interval: ")]
    assert said == [weight.spread.assumption] and kind in said[0]
    assert ("holds four of five" in said[0]) is known and ("the widest" in said[0]) is not known
    if not known:
        assert weight.spread.lower == min(item.lower for item in spreads().values())
        assert weight.spread.upper == max(item.upper for item in spreads().values())


def test_what_is_known_exactly_does_not_widen_the_interval() -> None:
    """Parameters, gradients and states of 3 layers of 4 MiB, and little else."""
    model = nn.Sequential(*[nn.Linear(1024, 1024, bias=False) for _ in range(3)])
    trace, gpu = step(model, (1, 1024), "A100 SXM4 80GB", mode="training", optimizer="adam",
                      optimizer_implementation="fused")  # fmt: skip
    found = spread_of(trace, gpu.platform, 100 * MIB)
    assert 48 * MIB <= found.exact_bytes < 49 * MIB
    low, high = found.around(100 * MIB)
    assert high - low < (found.upper - found.lower) * 52 * MIB + 2


# ---------------------------------------------------------------------------- the verdict


@cache
def traced() -> tuple[Trace, Gpu]:
    return step(CNN, (64, 3, 64, 64), "RTX 3090", mode="training", optimizer="adamw")


@given(st.lists(st.integers(0, 4000), min_size=2, max_size=6), st.floats(0.5, 1), st.floats(1, 2))
def test_more_memory_never_makes_the_verdict_worse(
    usable: list[int], lower: float, upper: float
) -> None:
    trace, gpu = traced()
    loop, weight = loop_of(trace, gpu), weigh(trace, gpu)
    made = replace(weight.spread, lower=lower, upper=upper)
    found = [
        judge(
            loop, replace(gpu, usable_bytes=size * MIB), made,
            weight.allocated_bytes, weight.reserved_bytes,
        )
        for size in sorted(usable)
    ]  # fmt: skip
    places = [ORDER.index(verdict) for _, verdict in found]
    assert places == sorted(places)
    assert [fits for fits, _ in found] == sorted(fits for fits, _ in found)
    for fits, verdict in found:
        assert verdict is Verdict.TOO_CLOSE or fits is verdict.runs


@given(st.integers(0, 4000), st.integers(0, 2000))
def test_what_other_programs_use_is_not_there(usable: int, others: int) -> None:
    trace, gpu = traced()
    beside = replace(gpu, usable_bytes=(usable + others) * MIB, other_programs_bytes=others * MIB)
    alone = replace(gpu, usable_bytes=usable * MIB)
    assert replace(weigh(trace, beside), gpu=alone) == weigh(trace, alone)


def test_the_verdict_is_that_of_the_ends_of_the_interval() -> None:
    """Above the upper end it fits, below the lower one it fails, in between it is too close."""
    trace, gpu = traced()
    weight = weigh(trace, gpu)
    low, high = weight.device_interval
    assert weight.allocated_bytes < weight.reserved_bytes
    assert weigh(trace, replace(gpu, usable_bytes=high + MIB)).verdict is Verdict.FITS
    context = weight.gpu.context_bytes
    least = weight.spread.around(weight.allocated_bytes)[0] + weight.gpu.contexts[0]
    assert weigh(trace, replace(gpu, usable_bytes=least - MIB)).verdict is Verdict.DOES_NOT_FIT
    close = weigh(trace, replace(gpu, usable_bytes=context + weight.allocated_bytes))
    assert close.verdict is Verdict.TOO_CLOSE
    assert least < low < weight.device_bytes < high


def test_a_report_has_the_verdict_of_the_weight() -> None:
    for others in (0, 23 << 30, 24 << 30):
        scenario = tg.Scenario(device="RTX 3090", mode="training", other_programs_bytes=others)
        report = tg.analyze(CNN, (64, 3, 64, 64), scenario=scenario)
        gpu = target_of(scenario).gpu
        assert report.memory is not None and report.trace is not None and gpu is not None
        weight = weigh(report.trace, gpu)
        assert report.memory.verdict is weight.verdict
        assert report.memory.fits is weight.fits
        assert report.memory.intervals["context_bytes"] == weight.gpu.contexts
        if weight.verdict is Verdict.FITS:
            assert report.memory.intervals["device_bytes"] == weight.device_interval
