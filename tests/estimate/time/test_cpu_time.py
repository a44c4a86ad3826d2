"""Predicted time on a calibrated CPU: the interpolation, the operators, the report, the file."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import cpu_calibration as stand_in
import torchgauge as tg
from asked import run_model
from torchgauge.devices.cpu_file import HOME_FILE, VARIABLE
from torchgauge.errors import DeviceError, ScenarioError
from torchgauge.estimate.time.cpu.calibration import from_json
from torchgauge.estimate.time.cpu.page_faults import MAPPED_FROM, faulted_bytes
from torchgauge.estimate.time.cpu.predict import op_seconds, predict_on_cpu
from torchgauge.estimate.time.cpu.surface import Surface
from torchgauge.estimate.time.cpu.work import CpuWork, work_of
from torchgauge.estimate.time.kernels.kinds import Kind
from torchgauge.facts.codec.wire import to_dict
from torchgauge.facts.query import own_costs
from torchgauge.facts.trace import Phase
from torchgauge.measure.calibration.fit import surfaces_of
from torchgauge.measure.calibration.run import slower
from torchgauge.measure.calibration.timing import Sample


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


SIZE = (32, 64)


class Calls(nn.Module):
    """Calls a function."""

    def __init__(self, function: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> object:
        return self.function(x)


@pytest.fixture
def calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cpu.json"
    path.write_text(stand_in.calibration().to_json())
    monkeypatch.setenv(VARIABLE, str(path))
    return path


# ---------------------------------------------------------------------------- surfaces


def curve(*points: tuple[float, float]) -> Surface:
    return Surface(
        points=tuple((math.log(x),) for x, _ in points),
        mean=(),
        scales=(1.0,),
        weights=tuple(math.log(y) for _, y in points),
        error=0.0,
    )


def test_a_curve_goes_through_its_points_and_between_them_by_lines_in_the_logarithm() -> None:
    found = curve((1, 8.0), (100, 2.0))
    assert found.ratio((1,)) == pytest.approx(8.0)
    assert found.ratio((100,)) == pytest.approx(2.0)
    assert found.ratio((10,)) == pytest.approx(4.0)


def test_outside_of_what_was_measured_the_edge_holds() -> None:
    found = curve((10, 8.0), (100, 2.0))
    assert found.ratio((1,)) == pytest.approx(8.0)
    assert found.ratio((1e6,)) == pytest.approx(2.0)
    assert curve((10, 3.0)).ratio((500,)) == pytest.approx(3.0)


def test_a_surface_over_other_sizes_is_refused() -> None:
    with pytest.raises(ValueError, match="2 sizes for a surface over 1"):
        curve((1, 1.0)).ratio((1, 2))


def product_of(rows: float, columns: float, inner: float) -> CpuWork:
    flops = 2.0 * rows * columns * inner
    return CpuWork(
        surface="mm", sizes=(rows, columns, inner, 1.0), kind=Kind.MATMUL, dtype="float32",
        flops=flops, padded_flops=flops, nbytes=4.0 * (rows * columns + columns * inner),
    )  # fmt: skip


def narrow(rows: float, columns: float) -> float:
    """How a rate falls with few rows or columns."""
    return (1.0 + 24.0 / rows) * (1.0 + 12.0 / columns)


def test_a_surface_finds_a_law_that_it_was_not_told() -> None:
    chance = random.Random(3)

    def drawn() -> CpuWork:
        return product_of(*(math.exp(chance.uniform(0.0, 7.0)) for _ in range(3)))

    def sample(work: CpuWork, noise: float) -> Sample:
        ratio = narrow(*work.sizes[:2]) * math.exp(chance.gauss(0.0, noise))
        return stand_in.sample(work, ratio)

    samples = [sample(drawn(), 0.05) for _ in range(120)]
    surface = surfaces_of(samples, stand_in.ROOF)["mm"]
    fresh = [drawn() for _ in range(200)]
    errors = sorted(
        abs(surface.ratio(work.sizes) / narrow(*work.sizes[:2]) - 1.0) for work in fresh
    )
    assert errors[100] < 0.04
    assert errors[160] < 0.08
    # The stated error is that of a measurement, noise and all.
    assert 0.04 < surface.error < 0.12


@given(st.tuples(*(st.floats(1.0, 1e6) for _ in range(4))))
def test_a_constant_ratio_stays_that_everywhere(sizes: tuple[float, ...]) -> None:
    surface = CALIBRATION.surfaces["mm"]
    assert surface.ratio(sizes) == pytest.approx(stand_in.SLOWER, rel=1e-3)


CALIBRATION = stand_in.calibration()


# ---------------------------------------------------------------------------- operators


def ops_of(module: nn.Module, *size: int) -> list[CpuWork]:
    trace = run_model(module, size, as_given=True).outcome.trace
    return [work for op in trace.ops if (work := work_of(op, 2)) is not None]


@pytest.mark.parametrize(
    ("module", "size", "surface", "sizes"),
    [
        (
            nn.Conv2d(32, 48, 3, padding=1), (4, 32, 28, 28),
            "convolution", (3136, 48, 32, 9, 1, 4, 1, 1),
        ),
        (
            nn.Conv2d(3, 16, 7, 2, 3), (1, 3, 64, 64),
            "convolution.first", (1024, 16, 3, 49, 4, 1, 1),
        ),
        (
            nn.Conv2d(24, 24, 3, 2, 1, groups=24), (2, 24, 28, 28),
            "convolution.depthwise", (392, 24, 9, 4, 2, 32 / 24),
        ),
        (
            nn.Conv2d(32, 64, 3, groups=4), (1, 32, 10, 10),
            "convolution.grouped", (64, 16, 8, 4, 9),
        ),
        (nn.Conv2d(16, 8, 1), (1, 16, 8, 8), "convolution.im2col", (64, 8, 16)),
        (
            nn.ConvTranspose2d(8, 16, 2, 2), (1, 8, 5, 5),
            "convolution.transposed", (25, 8, 16, 4, 1, 2, 1),
        ),
        (nn.Conv2d(32, 64, 2, 2), (2, 32, 8, 8), "convolution.patches", (32, 64, 32, 4, 2, 1, 1)),
        (nn.Linear(64, 40), (32, 64), "mm", (32, 40, 64, 2)),
        (nn.Linear(64, 40, bias=False), (32, 64), "mm", (32, 40, 64, 1)),
        (nn.Linear(64, 10), (32, 64), "mm.narrow", (32, 10, 64, 2)),
        (nn.LayerNorm(64), (4, 8, 64), "native_layer_norm", (32, 64)),
        (nn.Softmax(-1), (4, 8, 64), "_softmax", (32, 64)),
        (nn.Softmax(-1), (4, 8, 10), "_softmax.short", (32, 10)),
        (nn.MaxPool2d(3, 2), (2, 4, 9, 9), "max_pool2d_with_indices", (128, 9, 648)),
        (
            nn.BatchNorm2d(4).eval(), (2, 4, 9, 9),
            "native_batch_norm.evaluation", (648, 2, 4, 88 / 81),
        ),
        (nn.BatchNorm1d(6).eval(), (5, 6), "native_batch_norm.evaluation", (30, 5, 6, 8)),
        (nn.MaxPool2d(5, 1, 2), (2, 4, 9, 9), "max_pool2d_with_indices.wide", (648, 25, 648)),
        (nn.Softmax(1), (2, 8, 4, 4), "_softmax.columns", (32, 8)),
        (Calls(lambda x: x.sum().softmax(0)), (2, 8), "_softmax.short", (1, 1)),
        (nn.Upsample(scale_factor=2), (2, 3, 8, 8), "upsample_nearest2d", (2, 3, 64, 4)),
        (
            nn.Upsample(scale_factor=2, mode="bilinear"), (2, 3, 8, 8),
            "upsample_bilinear2d", (2, 3, 64, 4),
        ),
        (Calls(lambda x: x.argmax(1)), (6, 10), "argmax", (6, 10)),
        (Calls(lambda x: x.argmax(0)), (6, 10), "argmax.columns", (10, 6)),
        (Calls(lambda x: x.topk(2)), (6, 10), "topk", (6, 10)),
        (Calls(lambda x: torch.mv(x, x[0])), (6, 10), "mm.narrow", (1, 6, 10, 1)),
        (nn.ReLU(inplace=True), (5, 7), "relu_", (35,)),
    ],
)  # fmt: skip
def test_an_operator_has_its_place_on_a_surface(
    module: nn.Module, size: tuple[int, ...], surface: str, sizes: tuple[float, ...]
) -> None:
    work = ops_of(module.eval(), *size)[-1]
    assert (work.surface, work.sizes) == (surface, sizes)


def test_channels_are_filled_up_to_blocks_of_sixteen() -> None:
    (work,) = ops_of(nn.Conv2d(40, 24, 3, padding=1, bias=False), 2, 40, 28, 28)
    assert work.flops == 2 * 2 * 784 * 40 * 24 * 9
    assert work.padded_flops == pytest.approx(2 * 2 * 784 * 48 * 32 * 9)
    assert work.sizes[-2:] == (32 / 24, 48 / 40)


def test_the_backward_of_a_norm_over_two_dimensions_has_the_rows_of_its_forward() -> None:
    module = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm((8, 64)))
    scenario = tg.Scenario(mode="training")
    trace = run_model(module, (4, 8, 64), as_given=True, scenario=scenario).outcome.trace
    works = [work for op in trace.ops if (work := work_of(op, 2)) is not None]
    places = {work.surface: work.sizes for work in works if "layer_norm" in work.surface}
    assert set(places) == {"native_layer_norm", "native_layer_norm_backward"}
    assert set(places.values()) == {(4, 512)}


def test_channels_last_is_another_surface() -> None:
    module = nn.Conv2d(16, 16, 3, padding=1)
    trace = run_model(
        module, (2, 16, 8, 8), as_given=True, scenario=tg.Scenario(channels_last=True)
    ).outcome.trace
    works = [work_of(op, 2) for op in trace.ops]
    assert "convolution.channels_last" in {work.surface for work in works if work}


@pytest.mark.parametrize("dtype", ["bf16", "fp64"])
def test_other_dtypes_have_the_place_of_float32(dtype: str) -> None:
    scenario = tg.Scenario(precision="bf16") if dtype == "bf16" else tg.Scenario()
    module = nn.Conv2d(32, 32, 3) if dtype == "bf16" else nn.Conv2d(32, 32, 3).double()
    options = {} if dtype == "bf16" else {"dtypes": [torch.float64]}
    run = run_model(module, (2, 32, 8, 8), as_given=True, scenario=scenario, **options)
    (work,) = [w for op in run.outcome.trace.ops if (w := work_of(op, 2)) is not None]
    assert (work.surface, len(work.sizes)) == ("convolution", 8)


def test_an_operator_takes_the_ratio_of_its_surface_times_the_roof() -> None:
    work = product_of(32, 64, 64)
    roof = stand_in.ROOF.seconds(work.flops, work.nbytes)
    assert op_seconds(work, CALIBRATION) == pytest.approx(stand_in.SLOWER * roof, rel=1e-3)


def test_products_of_another_dtype_take_so_many_times_as_long() -> None:
    work = product_of(32, 64, 64)
    half = replace(work, dtype="bfloat16")
    assert op_seconds(half, CALIBRATION) == pytest.approx(0.5 * op_seconds(work, CALIBRATION))
    other = replace(work, surface="relu", sizes=(64.0,), kind=Kind.ELEMENTWISE, flops=0.0)
    half = replace(other, dtype="bfloat16")
    assert op_seconds(half, CALIBRATION) == op_seconds(other, CALIBRATION)


@pytest.mark.timed
def test_the_other_dtypes_are_timed_beside_float32() -> None:
    ratios = slower(torch.float64)
    assert set(ratios) == {"matmul", "convolution"}
    assert 1.1 < ratios["matmul"] < 20.0
    assert slower(torch.float32)["matmul"] == pytest.approx(1.0, rel=0.6)


def test_an_operator_that_was_not_timed_is_as_slow_as_its_kind_and_widens_the_error() -> None:
    strange = CpuWork(
        surface="sinc", sizes=(4096.0,), kind=Kind.ELEMENTWISE, dtype="float32", nbytes=32768.0
    )
    roof = stand_in.ROOF.seconds(0.0, 32768.0)
    assert op_seconds(strange, CALIBRATION) == pytest.approx(stand_in.SLOWER * roof)
    known = predict_on_cpu(run_model(nn.ReLU(), SIZE).outcome.trace, CALIBRATION)
    new = predict_on_cpu(run_model(nn.Softshrink(), SIZE).outcome.trace, CALIBRATION)
    assert known.error == CALIBRATION.error < new.error < 1.0


def test_blocks_that_are_mapped_one_by_one_are_faulted_in_every_step() -> None:
    rows = MAPPED_FROM // (4 * 1024)
    trace = run_model(nn.ReLU(), (rows, 1024), as_given=True).outcome.trace
    assert faulted_bytes(trace, 2) == {trace.ops[-1].index: MAPPED_FROM}
    less = run_model(nn.ReLU(), (rows - 1, 1024), as_given=True).outcome.trace
    assert faulted_bytes(less, 2) == {}
    took = predict_on_cpu(trace, CALIBRATION).total_seconds
    free = replace(CALIBRATION, overheads=replace(CALIBRATION.overheads, page_us=0.0))
    pages = MAPPED_FROM / 4096
    assert took - predict_on_cpu(trace, free).total_seconds == pytest.approx(pages * 1e-6)


# ---------------------------------------------------------------------------- the report


def test_without_a_calibration_a_report_has_no_time() -> None:
    report = tg.analyze(model(), SIZE)
    assert report.time is None
    assert not any("calibrat" in text for text in report.assumptions)


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_the_parts_of_a_step_sum_to_it(calibrated: Path, mode: str) -> None:
    report = tg.analyze(model(), SIZE, scenario=tg.Scenario(mode=mode))
    time = report.time
    assert time is not None and time.predicted is not None
    phases = time.forward_ms + time.loss_ms + time.backward_ms + time.optimizer_ms
    assert phases == pytest.approx(time.total_ms)
    own = sum(cost.time_ms for cost in own_costs(report).values())
    assert own + time.outside_ms == pytest.approx(time.total_ms)
    assert sum(op.time_ms for op in time.ops) + time.between_ops_ms == pytest.approx(time.total_ms)
    assert sum(time.predicted.bound_by.values()) == pytest.approx(1.0)
    assert (time.optimizer_ms > 0) == (mode == "training")


def test_the_time_of_a_small_step_is_what_the_formulas_say(calibrated: Path) -> None:
    report = tg.analyze(model(), SIZE)
    assert report.time is not None
    products = [product_of(32, 128, 64), product_of(32, 10, 128)]
    # The bias and the input are read too.
    nbytes = [4 * (128 + 32 * 64 + 64 * 128 + 32 * 128), 4 * (10 + 32 * 128 + 128 * 10 + 32 * 10)]
    seconds = sum(
        2.0 * stand_in.ROOF.seconds(work.flops, size)
        for work, size in zip(products, nbytes, strict=True)
    )
    seconds += 2.0 * stand_in.ROOF.seconds(0.0, 2 * 4 * 32 * 128)  # ReLU
    overheads = 4 * 1.0 + 3 * 2.0 + 2 * 0.5  # four modules, three operators, two transposed views
    assert report.time.total_ms == pytest.approx(1e3 * seconds + 1e-3 * overheads, rel=2e-3)


def test_only_the_time_depends_on_the_calibration(
    calibrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_times = to_dict(tg.analyze(model(), SIZE))
    monkeypatch.setenv(VARIABLE, "")
    without = to_dict(tg.analyze(model(), SIZE))
    for report in (with_times, without):
        report.pop("time", None)
        report.pop("assumptions")
        for module in report["modules"]:
            for call in module["calls"]:
                call.pop("time_ms", None)
                call.pop("backward_time_ms", None)
    assert with_times == without


def test_the_calibration_of_another_cpu_is_not_used_and_told_of(calibrated: Path) -> None:
    calibrated.write_text(stand_in.of_another_cpu().to_json())
    report = tg.analyze(model(), SIZE)
    assert report.time is None
    (told,) = [text for text in report.assumptions if "calibrated for" in text]
    assert "Abacus, 3 threads, torch 1.0" in told
    assert "torchgauge measure --calibrate" in told


def test_a_gpu_is_predicted_as_before(calibrated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = tg.Scenario(device="RTX 4090")
    with_file = tg.analyze(model(), SIZE, scenario=scenario)
    monkeypatch.setenv(VARIABLE, "")
    without = tg.analyze(model(), SIZE, scenario=scenario)
    assert to_dict(without) == to_dict(with_file)


def test_a_predicted_timeline_has_the_operators_one_after_the_other(
    calibrated: Path, tmp_path: Path
) -> None:
    path = tmp_path / "step.json"
    report = tg.analyze(model(), SIZE, timeline=path)
    events = json.loads(path.read_text())["traceEvents"]
    ops = [e for e in events if e.get("cat") == "cpu_op"]
    assert len(ops) == 3
    assert not any(e.get("cat") == "kernel" for e in events)
    ends = [e["ts"] + e["dur"] for e in ops]
    assert all(e["ts"] >= end - 1e-6 for e, end in zip(ops[1:], ends, strict=False))
    assert report.time is not None
    assert ends[-1] == pytest.approx(1e3 * report.time.total_ms)


def test_a_compiled_step_is_not_predicted_on_a_cpu(calibrated: Path) -> None:
    with pytest.raises(ScenarioError, match="compiled"):
        tg.analyze(model(), SIZE, scenario=tg.Scenario(compiled=True))


# ---------------------------------------------------------------------------- the file


def test_a_calibration_is_read_as_it_was_written() -> None:
    found = from_json(CALIBRATION.to_json(), "x")
    assert found.cpu == CALIBRATION.cpu
    assert found.overheads == CALIBRATION.overheads
    assert found.caches == CALIBRATION.caches
    work = product_of(100, 100, 100)
    assert op_seconds(work, found) == pytest.approx(op_seconds(work, CALIBRATION), rel=1e-4)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-20],
        lambda text: "[]",
        lambda text: text.replace('"schema_version": 4', '"schema_version": 99'),
        lambda text: text.replace('"points"', '"dots"'),
        lambda text: text.replace('"threads"', '"strings"'),
        lambda text: spoilt(text, lambda data: data["cpu"].update(threads="2")),
        lambda text: spoilt(text, lambda data: data["surfaces"]["mm"].update(points=[])),
        lambda text: spoilt(text, lambda data: data["surfaces"]["mm"]["weights"].pop()),
        lambda text: spoilt(text, lambda data: data["surfaces"]["mm"]["points"][0].pop()),
        lambda text: spoilt(text, lambda data: data["surfaces"]["mm"].update(points=["abc"])),
        lambda text: spoilt(text, lambda data: data.update(error="big")),
        lambda text: spoilt(text, lambda data: data.update(dtypes=[])),
        lambda text: spoilt(text, lambda data: data["overheads"].update(op_us=None)),
        lambda text: spoilt(text, lambda data: data["roof"].update(flops_per_second=0)),
        lambda text: spoilt(text, lambda data: data["roof"].update(op_seconds=float("nan"))),
        lambda text: spoilt(text, lambda data: data["caches"]["distances"].reverse()),
        lambda text: spoilt(text, lambda data: data["caches"]["read"].pop()),
        lambda text: spoilt(text, lambda data: data["caches"]["code_us"].pop("view")),
        lambda text: spoilt(text, lambda data: data["caches"].update(written=None)),
        lambda text: "[" * 100_000,
    ],
)
def test_a_damaged_file_is_refused_with_a_way_out(
    calibrated: Path, spoil: Callable[[str], str]
) -> None:
    calibrated.write_text(spoil(calibrated.read_text()))
    with pytest.raises(DeviceError) as caught:
        tg.analyze(model(), SIZE)
    assert str(calibrated) in str(caught.value)
    assert "torchgauge measure --calibrate" in (caught.value.hint or "")


def spoilt(text: str, change: Callable[[dict[str, Any]], object]) -> str:
    data = json.loads(text)
    change(data)
    return json.dumps(data)


def test_a_damaged_file_in_the_usual_place_leaves_the_report_without_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / HOME_FILE
    path.parent.mkdir(parents=True)
    path.write_text(CALIBRATION.to_json().replace('"schema_version": 4', '"schema_version": 1'))
    report = tg.analyze(model(), SIZE)
    assert report.time is None
    (why,) = [text for text in report.assumptions if text.startswith("no times")]
    assert "another version" in why
    assert "torchgauge measure --calibrate" in why


def test_modules_without_operators_cost_the_same_wherever_they_stand(calibrated: Path) -> None:
    nothing = [nn.Identity() for _ in range(10)]
    times = [
        tg.analyze(nn.Sequential(*layers), (1, 8)).time
        for layers in ([*nothing, nn.ReLU()], [nn.ReLU(), *nothing], nothing)
    ]
    first, last, alone = [time.total_ms for time in times if time is not None]
    assert first == pytest.approx(last)
    assert alone == pytest.approx(11e-3 * stand_in.OVERHEADS.module_us)
    assert all(time is not None and time.forward_ms == time.total_ms for time in times)


def test_the_error_grows_where_operators_are_known_less_well(calibrated: Path) -> None:
    def stated() -> float:
        time = tg.analyze(nn.ReLU(), (64, 4096)).time
        assert time is not None and time.predicted is not None
        return time.predicted.error

    before = stated()
    assert before == pytest.approx(CALIBRATION.error)
    text = calibrated.read_text()
    calibrated.write_text(spoilt(text, lambda data: data["surfaces"]["relu"].update(error=0.9)))
    assert CALIBRATION.error < stated() <= 0.9


@pytest.mark.parametrize("name", ["/nowhere/cpu.json", "~nobody-of-that-name/cpu.json"])
def test_a_named_file_that_is_missing_is_an_error(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, name)
    with pytest.raises(DeviceError, match="there is no file"):
        tg.analyze(model(), SIZE)


def test_a_prediction_of_each_phase_is_there(calibrated: Path) -> None:
    trace = run_model(model(), SIZE, scenario=tg.Scenario(mode="training")).outcome.trace
    phases = predict_on_cpu(trace, CALIBRATION).phase_seconds()
    assert {Phase.FORWARD, Phase.LOSS, Phase.BACKWARD, Phase.OPTIMIZER} <= set(phases)
