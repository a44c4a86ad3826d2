"""Predicted beside measured: rows that sum to the step, the worst first, in every format."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

from report_builder import simple_cnn
from torchgauge.compare.times import compare_times
from torchgauge.errors import UsageError
from torchgauge.facts.report import ModuleTable, Report
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.time import OUTSIDE, Measurement, OpTime, StepTime, TimeComparison
from torchgauge.facts.trace import Phase
from torchgauge.render import FORMATS, get_format
from torchgauge.render.pages.times import times_page

PREDICTED = {"features.0": 2.0, "features.3": 4.0, "classifier": 1.0}
MEASURED = {"features.0": 3.0, "features.3": 4.4, "classifier": 0.5, "features.1": 0.25}


def timed(own: dict[str, float], outside: float, *, measured: bool) -> Report:
    """A simple CNN whose modules take so many milliseconds by themselves."""
    report = simple_cnn()
    whole = {
        path: sum(ms for name, ms in own.items() if name == path or name.startswith(f"{path}."))
        for path in report.modules
    }
    whole[""] = sum(own.values())
    modules = ModuleTable(
        tuple(
            replace(
                module,
                calls=tuple(replace(call, time_ms=whole[path]) for call in module.calls),
            )
            for path, module in report.modules.items()
        )
    )
    total = whole[""] + outside
    time = StepTime(
        forward_ms=total,
        total_ms=total,
        outside_ms=outside,
        ops=(
            OpTime(name="aten.convolution", kernel="k", phase=Phase.FORWARD, calls=2,
                   time_ms=total * 0.75),
        ),
        measured=Measurement(device="cpu, 2 threads", repetitions=5, warm_up=1, confidence=0.95,
                             intervals={}) if measured else None,
    )  # fmt: skip
    return replace(report, modules=modules, time=time)


@pytest.fixture
def comparison() -> TimeComparison:
    return compare_times(
        timed(PREDICTED, 0.5, measured=False), timed(MEASURED, 0.35, measured=True)
    )


def test_the_rows_of_modules_sum_to_the_step_in_both_columns(comparison):
    for column in ("predicted_ms", "measured_ms"):
        total = sum(getattr(row, column) for row in comparison.modules)
        assert total == pytest.approx(getattr(comparison.total, column))


def test_the_worst_come_first(comparison):
    assert [row.name for row in comparison.modules] == [
        "features.0", "classifier", "features.3", "features.1", OUTSIDE,
    ]  # fmt: skip
    differences = [abs(row.difference_ms) for row in comparison.modules]
    assert differences == sorted(differences, reverse=True)


def test_ratios_are_predicted_over_measured(comparison):
    rows = {row.name: row for row in comparison.modules}
    assert rows["classifier"].ratio == pytest.approx(2.0)
    assert rows["features.1"].ratio == 0.0
    assert compare_times(
        timed(MEASURED, 0.0, measured=False), timed(PREDICTED, 0.0, measured=True)
    ).modules[-1].ratio is None  # fmt: skip


def test_operators_are_matched_by_name_and_phase(comparison):
    (row,) = comparison.operators
    assert (row.name, row.kind) == ("aten.convolution", "forward")
    assert row.predicted_ms == pytest.approx(0.75 * 7.5)


def shown(comparison, name="text", *, top=20, **options):
    return get_format(name, **options).render(times_page(comparison, top=top))


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_shows_both_columns(comparison, format):
    text = shown(comparison, format)
    assert "features.0" in text or r"features.0" in text.replace("\\", "")
    assert "cpu, 2 threads" in text or format == "csv"


def test_the_text_keeps_to_its_width_and_says_the_verdict(comparison):
    text = shown(comparison, width=60)
    assert "predicted 7.50 ms · measured 8.50 ms · ratio 0.88×" in text
    assert max(map(len, text.splitlines())) <= 60
    assert shown(comparison, ascii=True).isascii()


def test_rows_are_cut_and_the_cut_is_said(comparison):
    text = shown(comparison, top=2)
    assert "features.1" not in text
    assert "3 more modules in JSON and CSV" in text
    assert "features.1" in shown(comparison, top=None)
    assert "features.1" in shown(comparison, "csv", top=2)


def test_json_and_csv_hold_the_figures(comparison):
    document = json.loads(comparison.to_json())
    assert document["total"]["ratio"] == pytest.approx(7.5 / 8.5)
    assert document["modules"][0]["difference_ms"] == pytest.approx(-1.0)
    rows = list(csv.DictReader(io.StringIO(shown(comparison, "csv"))))
    assert {row["row"] for row in rows} == {"total", "phase", "module", "operator", "outside"}
    assert float(rows[0]["predicted_ms"]) == pytest.approx(7.5)


def test_what_cannot_be_compared_is_said():
    ours, theirs = timed(PREDICTED, 0.5, measured=False), timed(MEASURED, 0.5, measured=True)
    with pytest.raises(UsageError, match="the predicted report holds no times"):
        compare_times(replace(ours, time=None), theirs)
    with pytest.raises(UsageError, match="their modules differ"):
        compare_times(ours, replace(theirs, modules=ModuleTable(())))
    with pytest.raises(UsageError, match="one report is of inference, the other of training"):
        compare_times(ours, replace(theirs, scenario=Scenario(mode="training")))
    with pytest.raises(UsageError, match="differ in the batch size"):
        compare_times(ours, replace(theirs, batch_size=512))
    with pytest.raises(UsageError, match="differ in the precision"):
        compare_times(ours, replace(theirs, scenario=Scenario(precision="bf16-autocast")))
    with pytest.raises(UsageError, match="differ in the kind of device: cpu and gpu"):
        compare_times(ours, replace(theirs, scenario=Scenario(device="RTX 4090")))
