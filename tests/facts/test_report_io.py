"""Reports as JSON and back: the contract, equality, and what damaged files are told."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import report_builder as build
import torchgauge as tg
from torchgauge.errors import ReportFormatError
from torchgauge.facts.codec.files import write_atomically
from torchgauge.facts.codec.wire import to_dict, to_json
from torchgauge.facts.fit import Verdict
from torchgauge.facts.io import load_answer
from torchgauge.facts.memory import GPU_FIELDS, MemoryEstimate
from torchgauge.facts.report import (
    CallCost,
    ModuleReport,
    Report,
    Totals,
    report_from_dict,
    report_from_json,
)
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.time import (
    Interval,
    Measurement,
    OpTime,
    StepTime,
    TimePrediction,
)
from torchgauge.facts.trace import NamedValue, ParameterInfo, Phase


@pytest.mark.parametrize("name", build.ALL)
def test_what_is_saved_is_loaded(name, tmp_path):
    report = build.ALL[name]()
    report.save(tmp_path / "report.json")
    assert load_answer(tmp_path / "report.json") == report
    assert list(tmp_path.iterdir()) == [tmp_path / "report.json"]


def test_the_json_renderer_writes_the_saved_report(tmp_path):
    report = build.shared_weights()
    report.save(tmp_path / "report.json")
    shown = report.to_json()
    assert shown + "\n" == (tmp_path / "report.json").read_text(encoding="utf-8")
    assert report_from_json(shown) == report


def test_json(golden):
    golden("simple_cnn.json", to_json(build.simple_cnn()))
    golden("failed.json", to_json(build.failed(), indent=None))


def test_the_contract_has_these_names_in_this_order():
    data = to_dict(build.transformer(2, training=True))
    assert list(data)[:14] == [
        "schema_version", "tool", "torch_version", "execution", "model", "scenario", "inputs",
        "outputs", "totals", "memory", "modules", "not_counted", "assumptions", "warnings",
    ]  # fmt: skip
    assert data["schema_version"] == 1
    assert data["tool"] == {"name": "torchgauge", "version": "0.1.0"}
    assert list(data["scenario"])[:4] == ["mode", "device", "precision", "optimizer"]
    assert list(data["inputs"][0])[:3] == ["name", "shape", "dtype"]
    assert list(data["totals"])[:10] == [
        "params", "trainable_params", "non_trainable_params", "param_bytes", "buffers",
        "buffer_bytes", "forward_macs", "forward_flops", "backward_flops", "total_flops",
    ]  # fmt: skip
    assert list(data["memory"])[:9] == [
        "input_bytes", "parameter_bytes", "gradient_bytes", "optimizer_bytes",
        "saved_activation_bytes", "peak_allocated_bytes", "peak_at", "at_peak", "timeline",
    ]  # fmt: skip
    assert list(data["memory"]["peak_at"]) == ["phase", "module", "op"]
    assert list(data["memory"]["timeline"][0]) == ["op", "phase", "live_bytes"]
    assert list(data["modules"][0])[:8] == [
        "path", "type", "depth", "params", "trainable_params", "param_bytes", "shared_with",
        "calls",
    ]  # fmt: skip
    assert list(data["modules"][0]["calls"][0])[:6] == [
        "inputs", "outputs", "forward_macs", "backward_flops", "saved_activation_bytes",
        "peak_allocated_bytes",
    ]  # fmt: skip


def test_what_later_versions_add_is_left_out_not_null():
    text = to_json(build.transformer(2, training=True))
    for name in ("time_ms", '"time"', "phase_memory", "requested_bytes", "reserved", "minimum"):
        assert name not in text


JUDGED = {"fits": False, "verdict": Verdict.TOO_CLOSE}


def test_every_field_of_the_types_is_written():
    report = build.shared_weights()
    on_a_gpu = dict.fromkeys(GPU_FIELDS, 1) | JUDGED
    data = to_dict(replace(report, memory=replace(report.memory, **on_a_gpu)))
    module = data["modules"][2]
    written = {
        ModuleReport: module,
        ParameterInfo: module["own_parameters"][0],
        CallCost: module["calls"][0],
        Totals: data["totals"],
        Scenario: data["scenario"],
    }
    for kind, values in written.items():
        optional = {"time_ms", "backward_time_ms"}  # only where something was measured
        optional |= {"checkpointed"}  # only where places are named
        assert {field.name for field in fields(kind)} - optional <= set(values), kind
    peak = {"peak_phase", "peak_module", "peak_op"}
    listed = {"alive_at_peak", "intervals"}  # left out where nothing is listed
    assert {field.name for field in fields(MemoryEstimate)} - peak - listed <= set(data["memory"])
    renamed = {"tool_version", "model_name", "model_spec", "time", "phase_memory", "trace"}
    renamed |= {"suggestion"}  # left out where none was looked for
    assert {field.name for field in fields(Report)} - renamed <= set(data)


def test_memory_of_a_gpu_comes_back_and_is_left_out_elsewhere():
    report = build.shared_weights()
    assert not set(GPU_FIELDS) & set(to_dict(report)["memory"])
    on_a_gpu = {name: index for index, name in enumerate(GPU_FIELDS)} | {
        "fits": False,
        "verdict": Verdict.TOO_CLOSE,
    }
    there = replace(report, memory=replace(report.memory, **on_a_gpu))
    assert report_from_dict(to_dict(there)) == there


def test_a_report_of_a_version_without_the_later_fields_is_read():
    report = build.simple_cnn()
    data = to_dict(report)
    for name in LATER:
        del data["scenario"][name]
    assert report_from_dict(data) == report


def test_options_of_an_optimizer_come_back_as_they_were():
    options = {"lr": 0.1, "betas": (0.9, 0.95)}
    report = build.transformer(training=True)
    scenario = replace(report.scenario, optimizer_options=options)
    loaded = report_from_json(to_json(replace(report, scenario=scenario)))
    assert loaded.scenario == scenario
    assert hash(loaded.scenario) == hash(scenario)
    assert dict(loaded.scenario.optimizer_options) == options


def test_a_value_that_is_no_tensor_has_a_null_shape_and_its_text():
    data = to_dict(build.detector())
    assert data["inputs"][1] == {"name": "training", "shape": None, "dtype": None, "text": "None"}
    assert data["inputs"][0]["batch_dims"] == [[0, 1]]


TEXTS = st.text()
NUMBERS = st.integers(0, 2**80)
MILLISECONDS = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
INTERVALS = st.builds(
    Interval,
    low_ms=MILLISECONDS, high_ms=MILLISECONDS, fastest_ms=MILLISECONDS, slowest_ms=MILLISECONDS,
)  # fmt: skip
MEASUREMENTS = st.builds(
    Measurement,
    device=TEXTS, repetitions=NUMBERS, warm_up=NUMBERS, confidence=st.floats(0, 1),
    intervals=st.dictionaries(TEXTS, INTERVALS, max_size=3),
)  # fmt: skip
OPS = st.builds(
    OpTime,
    name=TEXTS, kernel=TEXTS, phase=st.sampled_from(Phase), calls=NUMBERS, time_ms=MILLISECONDS,
)  # fmt: skip
PREDICTIONS = st.builds(
    TimePrediction,
    device=TEXTS, error=st.floats(0, 1),
    bound_by=st.dictionaries(TEXTS, st.floats(0, 1), min_size=1, max_size=3),
    samples_per_second=st.none() | MILLISECONDS, flops_share=st.none() | st.floats(0, 1),
    most_joules=st.none() | MILLISECONDS,
)  # fmt: skip
TIMES = st.builds(
    StepTime,
    forward_ms=MILLISECONDS, loss_ms=MILLISECONDS, backward_ms=MILLISECONDS,
    optimizer_ms=MILLISECONDS, total_ms=MILLISECONDS, outside_ms=MILLISECONDS,
    between_ops_ms=MILLISECONDS, ops=st.lists(OPS, max_size=3).map(tuple),
    measured=st.none() | MEASUREMENTS, predicted=st.none() | PREDICTIONS,
)  # fmt: skip


@st.composite
def reports(draw):
    report = build.ALL[draw(st.sampled_from(sorted(build.ALL)))]()
    value = NamedValue(name=draw(TEXTS), text=draw(TEXTS))
    totals = Totals(**{field.name: draw(NUMBERS) for field in fields(Totals)})
    return replace(
        report,
        model_name=draw(TEXTS),
        model_spec=draw(st.none() | TEXTS),
        warnings=tuple(draw(st.lists(TEXTS))),
        assumptions=tuple(draw(st.lists(TEXTS))),
        batch_size=draw(st.none() | NUMBERS),
        inputs=(value, *report.inputs),
        totals=totals,
        time=draw(st.none() | TIMES),
    )


@given(report=reports())
def test_any_report_comes_back_equal_from_strict_json(report):
    text = to_json(report)
    text.encode("utf-8")
    assert report_from_json(text) == report
    assert list(report_from_json(text).modules) == list(report.modules)


def test_half_a_surrogate_pair_can_be_saved(tmp_path):
    report = replace(build.single_layer(), model_name="file\udc80name")
    report.save(tmp_path / "report.json")
    assert load_answer(tmp_path / "report.json") == report


def test_fields_that_are_not_known_are_passed_over():
    data = to_dict(build.simple_cnn())
    data["energy"] = {"joules": 1.0}
    data["memory"]["peak_borrowed_bytes"] = 5
    assert report_from_dict(data) == build.simple_cnn()


# ---------------------------------------------------------------------------- damage


def refusal(data):
    with pytest.raises(ReportFormatError) as caught:
        report_from_dict(data)
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize("data", [None, [], 3, "report", {}, {"modules": []}])
def test_anything_else_is_no_report(data):
    assert refusal(data) == "this is not a torchgauge report: it has no schema_version"


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.5, 1.0])
def test_another_schema_version_is_refused(version):
    data = {**to_dict(build.simple_cnn()), "schema_version": version}
    assert refusal(data) == (f"schema_version {version!r} is not known; this torchgauge reads 1")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("totals", "params"), "many", "totals.params is not an integer"),
        (("totals", "params"), True, "totals.params is not an integer"),
        (("totals", "params"), 1.5, "totals.params is not an integer"),
        (("totals",), [], "totals is not an object"),
        (("modules", 1, "path"), None, "modules[1].path is not a string"),
        (("modules", 1, "calls"), {}, "modules[1].calls is not a list"),
        (("modules", 1, "calls", 0, "recompute"), 0,
         "modules[1].calls[0].recompute is neither true nor false"),
        (("memory", "peak_at", "phase"), "lunch",
         "memory.peak_at.phase is 'lunch', which is not one of forward, loss, backward, optimizer"),
        (("memory", "at_peak"), {"soup": 1}, "memory.at_peak is 'soup', which is not one of"),
        (("inputs", 0, "batch_dims"), [[1]], "inputs[0].batch_dims[0] is not a pair"),
        (("inputs", 0, "shape"), [1, None], "inputs[0].shape[1] is not an integer"),
        (("scenario", "mode"), "cooking", "scenario.mode is 'cooking', which is not one of"),
        (("time",), {"forward_ms": "long"}, "time.forward_ms is not a number"),
        (("time",), {"forward_ms": 1.0}, "time.loss_ms is missing"),
        (("modules",), [], "modules has no root (path '')"),
        (("memory", "capacity_bytes"), 5, "memory.peak_reserved_bytes is missing"),
        (("memory", "device_bytes"), 5, "memory.peak_reserved_bytes is missing"),
        (("execution",), "\ud800", "execution is '\\ud800', which is not one of"),
        (("totals", "params"), "\ud800", "totals.params is not an integer"),
        (("memory", "at_peak"), {"\ud800": 1}, "memory.at_peak is '\\ud800', which is not"),
        *((("scenario", "optimizer_options"), value, "scenario makes no sense: ")
          for value in (None, "zz", -1, [[]], True, 3.5, {"lr": {}})),
    ],
)  # fmt: skip
def test_damage_is_named(place, value, message):
    data = to_dict(build.simple_cnn())
    target = data
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    assert refusal(data).startswith(f"the file is damaged: {message}")


@pytest.mark.parametrize("shares", [{}, None])
def test_a_prediction_has_shares(shares):
    data = to_dict(replace(build.simple_cnn(), time=predicted_time()))
    assert report_from_dict(data).time == predicted_time()
    data["time"]["bound_by"] = shares
    assert refusal(data) == "the file is damaged: time.bound_by is missing"


def predicted_time():
    prediction = TimePrediction(device="T4", error=0.5, bound_by={"launch": 1.0})
    return StepTime(forward_ms=1.0, total_ms=1.0, predicted=prediction)


def test_what_could_not_be_read_is_not_written():
    report = build.simple_cnn()
    wrong = [
        replace(report, batch_size="two"),
        replace(report, time=replace(predicted_time(), total_ms=float("nan"))),
        replace(report, totals=replace(report.totals, params=True)),
        replace(report, execution="\ud800"),
    ]
    for item in wrong:
        with pytest.raises(ReportFormatError, match="the Report cannot be written as JSON: "):
            item.to_json()


def test_a_copy_keeps_the_trace_and_a_pickle_does_not():
    report = tg.analyze(nn.Linear(4, 4), (2, 4))
    for made in (copy.copy(report), copy.deepcopy(report)):
        assert made == report
        assert made is not report
        assert made.trace is report.trace is not None
    assert copy.deepcopy(report).memory is not report.memory
    assert pickle.loads(pickle.dumps(report)) == report
    assert pickle.loads(pickle.dumps(report)).trace is None


def keys_of(data, place=()):
    if isinstance(data, dict):
        for key, value in data.items():
            yield (*place, key)
            yield from keys_of(value, (*place, key))
    elif isinstance(data, list) and data:
        yield from keys_of(data[0], (*place, 0))


LATER = {
    "compiled",
    "optimizer_options", "optimizer_implementation", "zero_grad", "gradient_clipping",
    "offload_activations", "ema", "channels_last", "cudnn_benchmark", "first_step", "allocator",
    "torch_release", "attn_implementation", "grad_enabled", "other_programs_bytes",
}  # fmt: skip
"""Fields of a scenario that reports of version 0.1 do not have."""
OPTIONAL = {
    "name", "total_flops", "text", "at_peak", "time", "phase_memory", "time_ms", "total",
    "backward_time_ms", "requested_bytes", "free_bytes", "alive_at_peak", "own_gradient_bytes",
    "intervals", "guesses",
}  # fmt: skip


def test_every_missing_field_is_named():
    data = to_dict(build.measured()) | {"failure": to_dict(build.out_of_memory())["failure"]}
    for place in keys_of(data):
        if place[0] == "schema_version" or place[-1] in OPTIONAL or "at_peak" in place:
            continue
        if place[-2:-1] == ("intervals",):  # of the phases that ran
            continue
        if place[0] == "scenario" and place[-1] in LATER:
            continue
        damaged = json.loads(json.dumps(data))
        target = damaged
        for key in place[:-1]:
            target = target[key]
        del target[place[-1]]
        message = refusal(damaged)
        assert message.endswith("is missing"), place
        assert str(place[-1]) in message


def test_files_that_are_not_json(tmp_path):
    path = tmp_path / "report.json"

    def refused(content):
        path.write_bytes(content)
        with pytest.raises(ReportFormatError) as caught:
            load_answer(path)
        assert caught.value.hint
        return caught.value.message

    whole = to_json(build.simple_cnn()).encode()
    neither = f"{path} is neither an answer in JSON nor a saved trace"
    for foreign in (b"", b" \n", b"torchgauge", b"<html>", b"\x1f\x8b\x08", "{}".encode("utf-16")):
        assert refused(foreign) == neither
    assert "is not valid JSON" in refused(whole[: len(whole) // 2])
    assert "NaN is not JSON" in refused(whole.replace(b"401484648", b"NaN"))
    assert "is not valid JSON" in refused(b"[" * 100_000)
    assert refused(b"\xff\xfe\x00") == f"{path} is neither an answer in JSON nor a saved trace"
    assert refused(b"{}") == f"{path}: this is not a torchgauge report: it has no schema_version"


def test_a_byte_order_mark_is_passed_over(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(to_json(build.simple_cnn()), encoding="utf-8-sig")
    assert load_answer(path) == build.simple_cnn()


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(ReportFormatError, match=r"cannot read .*: embedded null byte"):
        load_answer("a\0b")
    with pytest.raises(ReportFormatError, match=r"cannot read .*nothing\.json: No such file"):
        load_answer(tmp_path / "nothing.json")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    build.simple_cnn().save(path)

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", no_space)
    with pytest.raises(OSError, match="No space"):
        build.transformer().save(path)
    assert load_answer(path) == build.simple_cnn()
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_named_that_cannot_be_written(tmp_path):
    for path in (tmp_path / "nowhere" / "report.json", tmp_path):
        with pytest.raises(OSError) as caught:
            build.simple_cnn().save(path)
        assert caught.value.filename == str(path)
        assert caught.value.errno
    assert list(tmp_path.iterdir()) == []


def test_text_that_is_not_utf_8_is_written_as_its_number(tmp_path):
    write_atomically(tmp_path / "page.txt", "a\ud800b ü")
    assert (tmp_path / "page.txt").read_text(encoding="utf-8") == "a\\ud800b ü"


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    build.simple_cnn().save(tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert load_answer(tmp_path / "real.json") == build.simple_cnn()


def test_a_report_saves_itself(tmp_path):
    report = build.simple_cnn()
    report.save(tmp_path / "report.json")
    assert load_answer(tmp_path / "report.json") == report
