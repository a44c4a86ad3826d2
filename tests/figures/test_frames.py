"""Dataframes hold the report's numbers, in both libraries."""

from __future__ import annotations

import pytest
from drawn import Network, trained

import torchgauge as tg
from torchgauge.errors import MissingExtraError, UsageError
from torchgauge.figures import frames
from torchgauge.reports import step_of

LIBRARIES = ("pandas", "polars")


def column(frame, name):
    return list(frame[name])


@pytest.fixture(params=LIBRARIES)
def library(request):
    pytest.importorskip(request.param)
    return request.param


def test_modules_sum_to_the_totals(library):
    report = trained()
    frame = report.to_dataframe(library=library)
    assert column(frame, "path") == list(report.modules)
    totals = report.totals
    assert sum(column(frame, "own_params")) == totals.params == column(frame, "params")[0]
    assert sum(column(frame, "own_macs")) == totals.forward_macs == column(frame, "macs")[0]
    assert sum(column(frame, "own_param_bytes")) == totals.param_bytes
    assert sum(column(frame, "own_gradient_bytes")) == report.memory.gradient_bytes
    inside = report.time.total_ms - report.time.outside_ms
    assert sum(column(frame, "own_time_ms")) == pytest.approx(inside)
    assert column(frame, "time_ms")[0] == pytest.approx(inside)


def test_a_module_has_what_lies_below_it(library):
    frame = trained().to_dataframe("modules", library=library)
    params = dict(zip(column(frame, "path"), column(frame, "params"), strict=True))
    assert params["blocks"] == 3 * params["blocks.0"] == 3 * (2 * (8 * 8 * 9 + 8) + 16)
    shapes = dict(zip(column(frame, "path"), column(frame, "output_shape"), strict=True))
    assert shapes["stem"] == "[4, 8, 16, 16]"


def test_operators_are_those_of_the_step(library):
    report = trained()
    frame = report.to_dataframe("operators", library=library)
    step = step_of(report.trace)
    assert column(frame, "op") == list(step.operators.op)
    assert sum(column(frame, "flops")) == sum(step.operators.flops)
    assert sum(column(frame, "time_ms")) == pytest.approx(report.time.total_ms)
    assert set(column(frame, "bound_by")) <= {"compute", "memory", "launch", ""}


def test_the_timeline_has_roles_that_sum_to_it(library, tmp_path):
    report = trained()
    frame = report.to_dataframe("timeline", library=library)
    live = [point.live_bytes for point in report.memory.timeline]
    roles = [column(frame, name) for name in frame.columns if name.endswith("_bytes")][1:]
    assert column(frame, "live_bytes") == live == list(map(sum, zip(*roles, strict=True)))
    report.save(tmp_path / "report.json")
    loaded = tg.load(tmp_path / "report.json")
    assert column(loaded.to_dataframe("timeline", library=library), "live_bytes") == live
    assert column(loaded.to_dataframe(library=library), "params") == column(
        report.to_dataframe(library=library), "params"
    )
    with pytest.raises(UsageError, match="the table of operators needs the trace"):
        loaded.to_dataframe("operators", library=library)


def test_what_is_not_known_has_a_type_all_the_same(library):
    report = tg.analyze(Network(), (3, 16, 16))
    for table in ("modules", "operators"):
        frame = report.to_dataframe(table, library=library)
        assert str(frame["time_ms"].dtype).lower() == "float64"
    assert column(report.to_dataframe(library=library), "shared_with")[0] is None


def test_every_number_has_its_unit_in_its_name():
    counts = {"depth", "calls", "buffers", "op"}
    units = ("params", "bytes", "macs", "flops", "ms")
    for table in ("modules", "operators", "timeline"):
        frame = trained().to_dataframe(table, library="pandas")
        for name in frame.select_dtypes("number").columns:
            assert name in counts or name.endswith(units), name


def test_the_library_that_is_there_is_taken(monkeypatch):
    there = {"pandas", "polars"}
    monkeypatch.setattr(frames, "find_spec", lambda name: name if name in there else None)
    assert frames.chosen_library(None) == "pandas"
    there.remove("pandas")
    assert frames.chosen_library(None) == "polars"
    with pytest.raises(MissingExtraError, match="pandas is needed to make dataframes") as caught:
        frames.chosen_library("pandas")
    assert caught.value.hint == "pip install pandas"
    there.clear()
    with pytest.raises(MissingExtraError, match="pandas or polars is needed") as caught:
        frames.chosen_library(None)
    assert caught.value.hint == "pip install pandas"


def test_errors():
    with pytest.raises(UsageError, match="there is no table 'ops'") as caught:
        trained().to_dataframe("ops")
    assert caught.value.hint == "choose modules, operators, timeline"
    with pytest.raises(UsageError, match="there are no dataframes of 'dask'"):
        trained().to_dataframe(library="dask")
    with pytest.raises(UsageError, match="the timeline needs a step"):
        tg.analyze(Network()).to_dataframe("timeline")
