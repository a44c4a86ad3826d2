"""What comes of each limit, on reports made by hand."""

from __future__ import annotations

from dataclasses import replace

import report_builder as build
from torchgauge.budget.layers import grown_layers, heaviest_layers
from torchgauge.budget.limits import MEASURES, Limit, limit_from
from torchgauge.budget.verdicts import Baseline, checked, doubts_of
from torchgauge.facts.fit import DeviceFit, Verdict
from torchgauge.facts.loop.check import LimitCheck, Outcome
from torchgauge.facts.report import Report
from torchgauge.facts.trace import NotCounted
from torchgauge.loop.worker import Answered

GAP = NotCounted(op="my::op", calls=2, why="no formula")


def limits(**written: object) -> tuple[Limit, ...]:
    made = (limit_from(key.replace("_", "-"), value, 1) for key, value in written.items())
    return tuple(limit for limit in made if limit is not None)


def only(report: Report, baseline: Report | None = None, **written: object) -> LimitCheck:
    held = Baseline(report=baseline, lacking="there is no baseline x", hint="write it")
    (found,) = checked(limits(**written), Answered(report=report), held)
    return found


def test_at_the_limit_is_within_it():
    report = build.simple_cnn()
    params = report.totals.params
    assert only(report, max_params=params).outcome is Outcome.OK
    over = only(report, max_params=params - 1)
    assert (over.outcome, over.excess) == (Outcome.OVER, 1)
    assert over.layers[0].path == "classifier" and not over.layers[0].is_difference


def test_against_the_baseline():
    report = build.simple_cnn()
    assert only(report, report, max_params="baseline").outcome is Outcome.OK
    smaller = replace(report, totals=replace(report.totals, params=report.totals.params // 2))
    over = only(report, smaller, max_params="baseline + 2 %")
    assert over.outcome is Outcome.OVER
    assert over.baseline == smaller.totals.params
    assert over.limit == smaller.totals.params * 1.02


def test_without_a_baseline_it_cannot_be_checked():
    found = only(build.simple_cnn(), max_params="baseline")
    assert (found.outcome, found.detail, found.hint) == (
        Outcome.ERROR, "there is no baseline x", "write it",
    )  # fmt: skip


def test_a_baseline_of_another_scenario_cannot_be_used():
    found = only(build.simple_cnn(4), build.simple_cnn(1), max_params="baseline")
    assert found.outcome is Outcome.ERROR
    assert found.detail.startswith("the baseline is of another scenario: batch size 1 → 4")


def test_another_pytorch_is_the_same_question():
    report = build.simple_cnn()
    older = replace(report, torch_version="2.6.0")
    assert only(report, older, max_params="baseline").outcome is Outcome.OK


def test_what_a_report_does_not_hold():
    cpu = build.simple_cnn()
    assert only(cpu, device_memory="1 GiB").detail == "only a GPU has memory of its own"
    assert only(cpu, step_time="1 s").hint == 'add a GPU: device = "T4"'
    bare = build.structure_only()
    assert only(bare, peak_memory="1 GiB").detail == "the model was not run"


def test_nothing_uncounted():
    report = replace(build.transformer(), not_counted=(GAP,))
    found = only(report, nothing_uncounted=True)
    assert found.outcome is Outcome.OVER
    assert found.detail == "my::op (2 ×): no formula"
    clean = replace(report, not_counted=())
    assert only(clean, nothing_uncounted=True).outcome is Outcome.OK


def device(name: str, *, fits: bool) -> DeviceFit:
    return DeviceFit(
        device=name, verdict=Verdict.FITS if fits else Verdict.DOES_NOT_FIT, usable_bytes=1000,
        context_bytes=100, allocated_bytes=500, reserved_bytes=600 if fits else 6000, fits=fits,
        device_interval=(0, 0), other_programs_bytes=50,
    )  # fmt: skip


def test_each_device_is_a_limit():
    answered = Answered(
        report=build.simple_cnn(), devices=(device("A10", fits=True), device("T4", fits=False)),
        largest={"T4": 41},
    )  # fmt: skip
    large, small = checked(limits(fits=["A10", "T4"]), answered, Baseline())
    assert (large.written, large.outcome, large.value, large.limit) == ("A10", Outcome.OK, 700, 950)
    assert small.outcome is Outcome.OVER
    assert small.detail == "does not fit; the largest batch is 41"
    none = replace(answered, largest={"T4": None})
    assert [*checked(limits(fits="T4"), none, Baseline())][1].detail.endswith(
        "not even one sample does"
    )


def test_layers_that_grew():
    report = build.simple_cnn()
    assert grown_layers(report, report, MEASURES["max-params"]) == ()
    grown = grown_layers(build.single_layer(), report, MEASURES["max-params"])
    assert grown and all(layer.is_difference and layer.value > 0 for layer in grown)
    assert [layer.value for layer in grown] == sorted((g.value for g in grown), reverse=True)


def test_heaviest_layers_of_every_measure():
    report = build.predicted()
    for key in ("max-params", "max-macs", "max-param-bytes", "step-time"):
        assert heaviest_layers(report, MEASURES[key]), key


def test_doubts_are_what_strict_refuses():
    report = replace(build.transformer(), not_counted=(GAP,), warnings=("careful",))
    found = list(doubts_of(report))
    assert found[0].startswith("not counted: ") and found[-1] == "warning: careful"
