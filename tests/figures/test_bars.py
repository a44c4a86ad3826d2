"""The bars of the figures of parameters and of time sum to the report's totals."""

from __future__ import annotations

import pytest
from drawn import Network, texts, trained
from torch import nn

import report_builder as build
import torchgauge as tg
from torchgauge.errors import UsageError
from torchgauge.facts.time import OpTime, StepTime
from torchgauge.facts.trace import Phase
from torchgauge.figures.palette import OTHER
from torchgauge.figures.parameters import Bar, bar_name, parameter_bars
from torchgauge.figures.time import time_rows


def widths(figure):
    return [[bar.get_width() for bar in bars] for bars in figure.axes[0].containers]


def test_parameters_of_a_small_model_are_its_layers():
    report = tg.analyze(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), (4,))
    assert [(bar.label, bar.params) for bar in parameter_bars(report)] == [("0", 40), ("2", 18)]
    assert widths(report.plot.parameters()) == [[40.0, 18.0]]


@pytest.mark.parametrize("name", ["simple_cnn", "transformer", "shared_weights"])
@pytest.mark.parametrize("most", [3, 6, 14, 100])
def test_parameters_sum_to_the_total(name, most):
    report = build.ALL[name.removesuffix("_weights")]()
    bars = parameter_bars(report, most)
    assert sum(bar.params for bar in bars) == report.totals.params
    assert sum(bar.trainable_params for bar in bars) == report.totals.trainable_params
    assert len(bars) <= most


def test_drawn_parameters_sum_to_the_total():
    drawn = sum(map(sum, widths(trained().plot.parameters())))
    assert drawn * 1e3 == pytest.approx(trained().totals.params)  # the axis is in thousands
    assert trained().plot.parameters().axes[0].get_xlabel() == "Parameters (thousands)"


def test_frozen_parameters_stand_apart():
    model = Network()
    model.stem.requires_grad_(False)
    report = tg.analyze(model, (3, 16, 16), batch_size=4)
    trainable, frozen = widths(report.plot.parameters())
    assert sum(trainable) * 1e3 == pytest.approx(report.totals.trainable_params)
    assert sum(frozen) * 1e3 == pytest.approx(report.totals.non_trainable_params)
    assert "Frozen" in texts(report.plot.parameters())


def test_equal_blocks_are_one_bar_that_says_so():
    bars = {bar.label: bar for bar in parameter_bars(trained())}
    assert bars["blocks.0–2.first"].copies == 3
    assert bars["blocks.0–2.first"].params == 3 * (8 * 8 * 9 + 8)


def test_names_are_cut_from_the_left():
    bar = Bar(label="model.layers.0–15.mlp.up_proj", params=1, trainable_params=1, copies=16)
    assert bar_name(bar, 40) == "model.layers.0–15.mlp.up_proj"
    assert bar_name(bar, 20) == "…0–15.mlp.up_proj"
    assert bar_name(bar, 16) == "…mlp.…_proj × 16"


def test_a_model_without_parameters_has_no_such_figure():
    report = tg.analyze(nn.ReLU(), (4,))
    with pytest.raises(UsageError, match="ReLU has no parameters to draw"):
        report.plot.parameters()


def test_time_sums_to_the_step_and_its_phases():
    time = trained().time
    rows = time_rows(time)
    assert sum(row.total_ms for row in rows) == pytest.approx(time.total_ms)
    for phase in Phase:
        spent = sum(row.phases.get(phase, 0.0) for row in rows)
        assert spent == pytest.approx(getattr(time, f"{phase}_ms"), abs=1e-6)
    drawn = sum(map(sum, widths(trained().plot.time())))
    unit = {"µs": 1e-3, "ms": 1.0}[trained().plot.time().axes[0].get_xlabel()[16:18]]
    assert drawn * unit == pytest.approx(time.total_ms, rel=1e-5)


def test_few_rows_hold_the_rest_together():
    time = trained().time
    rows = time_rows(time, most=3)
    assert [row.label for row in rows][-1] == OTHER
    assert len(rows) == 3
    assert sum(row.total_ms for row in rows) == pytest.approx(time.total_ms)


def test_a_measured_step_has_operators_and_what_lies_between_them():
    ops = (
        OpTime(name="aten.mm", kernel="sgemm_128", phase=Phase.FORWARD, calls=2, time_ms=3.0),
        OpTime(name="aten.mm", kernel="sgemm_64", phase=Phase.BACKWARD, calls=2, time_ms=4.0),
    )
    time = StepTime(forward_ms=5.0, backward_ms=4.0, total_ms=9.0, between_ops_ms=2.0, ops=ops)
    rows = time_rows(time)
    assert [(row.label, row.total_ms) for row in rows] == [("aten.mm", 7.0), (OTHER, 2.0)]
    assert rows[0].phases == {Phase.FORWARD: 3.0, Phase.BACKWARD: 4.0}


def test_without_a_time_the_figure_says_what_to_do():
    with pytest.raises(UsageError, match="no time to draw") as caught:
        trained("cpu").plot.time()
    assert "device='T4'" in caught.value.hint
