"""Throughput and memory over batch sizes: where the knee is, and what each format shows."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from torch import nn

import torchgauge as tg
from asked import asked
from torchgauge.cli.main import main
from torchgauge.errors import InputError, ModelError, ScenarioError
from torchgauge.facts.fit import BatchCurve, BatchPoint, Verdict
from torchgauge.fit.curve import batch_curve
from torchgauge.render import FORMATS, get_format
from torchgauge.render.pages.curve import curve_page

GPU = tg.Scenario(mode="training", optimizer="adamw", device="RTX 3090")


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.Flatten(),
                         nn.Linear(64 * 60 * 60, 10))  # fmt: skip


def curve(*points: tuple[int, float, Verdict]) -> BatchCurve:
    made = [
        BatchPoint(batch=batch, step_ms=ms, device_bytes=batch << 30, verdict=verdict,
                   bound_by="compute")
        for batch, ms, verdict in points
    ]  # fmt: skip
    return BatchCurve(model_name="Net", device="RTX 3090", scenario=GPU, error=0.2,
                      points=tuple(made))  # fmt: skip


FITS, NOT = Verdict.FITS, Verdict.DOES_NOT_FIT
KNOWN = curve((1, 5.0, FITS), (2, 5.0, FITS), (4, 6.0, FITS), (8, 11.0, FITS), (16, 20.0, NOT))


def shown(curve, name="text", **options):
    return get_format(name, **options).render(curve_page(curve))


def test_the_knee_is_the_smallest_with_nine_tenths_of_the_best_that_fits():
    assert [round(p.samples_per_second) for p in KNOWN.points] == [200, 400, 667, 727, 800]
    assert KNOWN.knee is KNOWN.points[2]  # 667 of 727; the 800 do not fit


def test_without_a_size_that_fits_there_is_no_knee():
    none = curve((1, 5.0, NOT))
    assert none.knee is None
    assert "no batch size that was traced fits" in shown(none)


def test_each_point_is_what_analyze_says_of_that_batch():
    found = batch_curve(asked(network(), (3, 64, 64), scenario=GPU, batch_size=1), [8, 2])
    assert [point.batch for point in found.points] == [2, 8]
    for point in found.points:
        report = tg.analyze(network(), (point.batch, 3, 64, 64), scenario=GPU)
        assert point.step_ms == pytest.approx(report.time.total_ms)
        assert point.device_bytes == report.memory.device_bytes


def test_it_doubles_up_to_the_first_that_does_not_fit():
    found = batch_curve(asked(network(), (1, 3, 64, 64), scenario=GPU))
    batches = [point.batch for point in found.points]
    assert batches == [1 << power for power in range(len(batches))]
    assert [p.verdict for p in found.points if p.verdict is NOT] == [NOT]
    assert found.points[-1].verdict is NOT
    assert found.knee is not None


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_has_every_point(format):
    text = shown(KNOWN, format)
    for point in KNOWN.points:
        assert str(point.batch) in text
    assert "fits" in text


def test_json_and_csv_hold_the_figures():
    document = json.loads(KNOWN.to_json())
    assert document["knee"] == 4
    assert document["points"][0]["samples_per_second"] == pytest.approx(200)
    rows = list(csv.DictReader(io.StringIO(shown(KNOWN, "csv"))))
    assert [row["knee"] for row in rows] == ["False", "False", "True", "False", "False"]


def test_what_has_no_curve_is_said():
    with pytest.raises(
        ScenarioError,
        match="no time can be predicted for cpu: a curve over batch sizes is made for GPUs",
    ):
        batch_curve(asked(nn.Linear(2, 2), (4, 2), scenario=tg.Scenario()))
    with pytest.raises(InputError, match="a batch size needs an input"):
        batch_curve(asked(nn.Linear(2, 2), scenario=GPU))
    with pytest.raises(InputError, match="are not all positive"):
        batch_curve(asked(nn.Linear(2, 2), (4, 2), scenario=GPU), [0])
    with pytest.raises(ModelError):
        batch_curve(asked(nn.Linear(3, 2), (4, 2), scenario=GPU))


def test_the_command_line(tmp_path: Path, capsys):
    (tmp_path / "m.py").write_text("from torch import nn\nmake = lambda: nn.Linear(64, 64)\n")
    arguments = ["fit", f"{tmp_path / 'm.py'}:make", "--input-size", "1,64", "--quiet",
                 "--device", "RTX 3090"]  # fmt: skip
    assert main([*arguments, "--batch-curve", "1,4"]) == 0
    assert "batch 4, the smallest with 90 % of the best throughput" in capsys.readouterr().out
    for more, said in (
        (["--device", "T4"], "--batch-curve takes one device"),
        (["--context", "8"], "--batch-curve does not go with --context"),
        (["--strict"], "--strict has no meaning with --batch-curve"),
    ):
        assert main([*arguments, "--batch-curve", "1,4", *more]) == 2
        assert said in capsys.readouterr().err
