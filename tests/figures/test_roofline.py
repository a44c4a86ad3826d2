"""Points and roof of the roofline are those of the step and of the datasheet."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from drawn import texts, trained

from torchgauge.devices import find_device
from torchgauge.errors import UsageError
from torchgauge.estimate.time.kernels.kinds import Kind
from torchgauge.figures.palette import KINDS
from torchgauge.figures.roofline import roofline_of
from torchgauge.reports import step_of


def test_points_and_what_is_not_shown_sum_to_the_step():
    step = step_of(trained().trace)
    shown = roofline_of(step, "T4")
    whole = sum(point.time_ms for point in shown.points) + shown.hidden_ms
    assert whole == pytest.approx(sum(step.operators.time_ms)) == shown.total_ms


def test_a_point_is_work_by_bytes_and_by_time():
    step = step_of(trained().trace)
    ops = step.operators
    number = next(i for i, name in enumerate(ops.name) if step.texts[name] == "aten.convolution")
    flops, seconds = ops.flops[number] + ops.elementwise_flops[number], ops.time_ms[number] / 1e3
    shown = roofline_of(step, "T4").points
    same = [p for p in shown if p.flops_per_byte == flops / ops.nbytes[number]]
    assert any(p.flops_per_second == pytest.approx(flops / seconds, rel=0.06) for p in same)


def test_the_roof_is_the_datasheets():
    report = trained()
    figure = report.plot.roofline()
    (roof,) = [line for line in figure.axes[0].lines if line.get_gid() == "roof"]
    t4 = find_device("T4")
    (left, ridge, _), (low, flat, end) = roof.get_xdata(), roof.get_ydata()
    assert flat == end == step_of(report.trace).roof.flops_per_second
    assert low / left == pytest.approx(flat / ridge) == pytest.approx(t4.bandwidth_bytes_per_second)


def test_drawn_points_are_the_points():
    shown = roofline_of(step_of(trained().trace), "T4")
    drawn = [
        tuple(place)
        for series in trained().plot.roofline().axes[0].collections
        for place in series.get_offsets().data
    ]
    expected = [(point.flops_per_byte, point.flops_per_second) for point in shown.points]
    assert sorted(drawn) == sorted(expected)


def test_axes_have_units_and_the_legend_kinds():
    found = texts(trained().plot.roofline())
    assert {"Arithmetic intensity (FLOP/byte)", "Throughput (FLOP/s)", "Convolutions"} <= set(found)
    assert not any("mathdefault" in text for text in found)


def test_a_cpu_has_no_roof():
    with pytest.raises(UsageError, match="there is no roofline for cpu"):
        trained("cpu").plot.roofline()


def test_every_kind_has_a_name():
    assert set(KINDS) == set(Kind)
    assert len(set(KINDS.values())) == len(KINDS)


def test_the_page_has_a_name_for_every_kind_in_both_languages():
    source = Path(__file__).parents[2] / "web" / "src" / "words.ts"
    names = re.findall(r'^  (\w+): \["[^"]+", "[^"]+"\],$', source.read_text("utf-8"), re.MULTILINE)
    assert {str(kind) for kind in Kind} <= set(names)
