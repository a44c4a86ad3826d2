"""The areas of the figure of memory are the bytes of the report."""

from __future__ import annotations

import pytest
from drawn import failed, texts, trained

import torchgauge as tg
from torchgauge.errors import UsageError
from torchgauge.facts.trace import Phase
from torchgauge.figures.memory import memory_curve
from torchgauge.figures.palette import OTHER
from torchgauge.reports import step_of


def corners_of(figure):
    """Return the corners of each area by name, as matplotlib drew them."""
    return {area.get_label(): area.get_paths()[0].vertices for area in figure.axes[0].collections}


def surface(corners):
    """Return the surface of a polygon (Gauss's area formula)."""
    x, y = corners[:, 0], corners[:, 1]
    return abs(float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())) / 2


def units(figure):
    sizes = {"KiB": 1024.0, "MiB": 1024.0**2, "µs": 1e-3, "ms": 1.0}
    names = [figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()]
    return [sizes.get(name.rpartition("(")[2].rstrip(")"), 1.0) for name in names]


def test_each_area_is_the_bytes_of_its_role():
    report = trained("cpu")
    step = step_of(report.trace)
    curve = memory_curve(step, columns=10_000)
    assert curve.totals == tuple(point.live_bytes for point in report.memory.timeline)
    roles = step.memory.roles
    assert curve.areas["Saved activations"] == roles["saved_activation"]
    assert curve.areas["Parameters"] == roles["parameter"]
    largest = max(map(sum, zip(*roles.values(), strict=True)))
    small = [values for values in roles.values() if max(values) < 0.01 * largest]
    rest = tuple(map(sum, zip(*small, strict=True)))
    assert curve.areas.get(OTHER, ()) == (rest if any(rest) else ())


@pytest.mark.parametrize("device", ["cpu", "T4"])
def test_the_drawn_areas_are_bytes_by_length(device):
    report = trained(device)
    figure = report.plot.memory()
    curve = memory_curve(step_of(report.trace))
    across, up = units(figure)
    lengths = [end - begin for begin, end in zip(curve.at, curve.at[1:], strict=False)]
    drawn = corners_of(figure)
    assert list(drawn) == list(curve.areas)
    for name, values in curve.areas.items():
        expected = sum(v * length for v, length in zip(values, lengths, strict=True))
        assert surface(drawn[name]) * across * up == pytest.approx(expected), name
    top = max(corners[:, 1].max() for corners in drawn.values())
    assert top * up == pytest.approx(report.memory.peak_allocated_bytes)


def test_parameters_lie_at_the_bottom():
    figure = trained("cpu").plot.memory()
    corners = corners_of(figure)["Parameters"]
    assert corners[:, 1].min() == 0
    assert corners[:, 1].max() * units(figure)[1] == trained("cpu").memory.parameter_bytes


@pytest.mark.parametrize("columns", [1, 3, 20, 350])
def test_no_moment_is_fuller_than_the_columns_show(columns):
    step = step_of(trained().trace)
    curve = memory_curve(step, columns=columns)
    totals = list(map(sum, zip(*step.memory.roles.values(), strict=True)))
    assert max(curve.totals) == curve.totals[curve.peak] == max(totals)
    assert list(curve.at) == sorted(curve.at)
    assert len(curve.at) <= 2 * columns + 2


def test_phases_follow_one_another_up_to_the_end():
    curve = memory_curve(step_of(trained().trace))
    assert [phase for phase, _, _ in curve.phases] == list(Phase)
    for (_, _, end), (_, begin, _) in zip(curve.phases, curve.phases[1:], strict=False):
        assert end == begin
    assert curve.phases[-1][2] == curve.at[-1]
    assert curve.at[-1] == pytest.approx(trained().time.total_ms)


def test_units_and_device_are_on_the_axes():
    figure = trained().plot.memory()
    assert figure.axes[0].get_xlabel().startswith("Predicted time of a step on T4 (")
    assert trained("cpu").plot.memory().axes[0].get_xlabel() == "Operators of a step, in order"
    assert any(text.startswith("peak ") for text in texts(figure))


def test_a_failed_model_is_drawn_up_to_the_failure():
    assert "Temporaries" in corners_of(failed().plot.memory())


def test_a_loaded_report_says_what_to_do(tmp_path):
    path = tmp_path / "report.json"
    trained().save(path)
    loaded = tg.load(path)
    for draw in (loaded.plot.memory, loaded.plot.graph, loaded.plot.roofline, loaded.graph):
        with pytest.raises(UsageError, match="a loaded or measured report has none") as caught:
            draw()
        assert 'tg.estimate(tg.load("step.gauge"))' in caught.value.hint
    trained().trace.save(tmp_path / "step.gauge")
    again = tg.estimate(tg.load(tmp_path / "step.gauge"))
    assert texts(again.plot.memory()) == texts(trained().plot.memory())
    assert texts(loaded.plot.parameters()) == texts(trained().plot.parameters())
    assert texts(loaded.plot.time()) == texts(trained().plot.time())
