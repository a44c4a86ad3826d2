"""The recorder of ground truth, dry on the CPU: the same code path as on a GPU."""

from __future__ import annotations

import gc
import lzma
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu_truth import cases as table  # noqa: E402
from benchmarks.gpu_truth import measure, schema  # noqa: E402
from benchmarks.gpu_truth.compare import NotPredicted, compare_record, scenario_of  # noqa: E402
from benchmarks.gpu_truth.dry_run import dry_run  # noqa: E402
from benchmarks.gpu_truth.gauge import CudaGauge, gauge_for  # noqa: E402
from benchmarks.gpu_truth.pack import pack, unpack  # noqa: E402
from benchmarks.gpu_truth.record import main as record  # noqa: E402
from benchmarks.gpu_truth.schema import Status  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def comparisons(folder):
    """Record, kill, resume, read and compare once for all tests."""
    return {comparison.record.id: comparison for comparison in dry_run(folder)}


@pytest.mark.slow
def test_a_killed_recording_resumes_and_is_complete(comparisons):
    assert set(comparisons) == {case.id for case in table.DRY_CASES}
    statuses = {name: c.record.status for name, c in comparisons.items()}
    assert statuses.pop("dry-absent") is Status.UNSUPPORTED
    assert statuses.pop("dry-fatal") is Status.CRASH  # and the cases after it were recorded
    assert set(statuses.values()) == {Status.OK}


@pytest.mark.parametrize("name", ["dry-cnn-training", "dry-cnn-inference", "dry-gpt-training"])
def test_the_simulation_is_what_ran(comparisons, name):
    comparison = comparisons[name]
    assert comparison.streams.identical, comparison.streams.differences[:3]
    assert comparison.peak_error == 0


def test_every_op_has_its_memory_and_the_warm_ones_their_time(comparisons):
    record = comparisons["dry-cnn-training"].record
    assert len(record.measures) == len(record.trace.ops)
    allocated = [m.allocated_bytes for m in record.measures]
    assert None not in allocated and max(allocated) > 0
    assert all(m.transient_bytes >= 0 and m.time_us > 0 for m in record.measures)


def test_the_profiler_and_the_storages_agree_on_what_ops_allocate(comparisons):
    record = comparisons["dry-gpt-training"].record
    made = [0] * len(record.trace.ops)
    for storage in record.trace.storages:
        if storage.op >= 0:
            made[storage.op] += storage.nbytes
    for op, ours, found in zip(record.trace.ops, made, record.measures, strict=True):
        if op.name != "aten.lift_fresh.default":  # the scalar was made just before the op
            assert ours == found.allocated_bytes, op.name


def test_phases_are_in_order_and_the_second_step_finds_states(comparisons):
    record = comparisons["dry-gpt-training"].record
    order = ["forward", "loss", "backward", "optimizer"]
    assert [p.phase for p in record.phases] == 2 * order
    assert [t.phase for t in record.times] == order
    first, second = record.phases[:4], record.phases[4:]
    assert second[0].peak_allocated_bytes > first[0].peak_allocated_bytes
    assert all(p.reserved_bytes is None and p.device_bytes is None for p in record.phases)


def test_what_a_cpu_does_not_have_is_null(comparisons):
    for comparison in comparisons.values():
        record = comparison.record
        assert record.history is None and record.cap is None
        assert record.environment.context_bytes is None and record.environment.driver is None
        assert record.peak_reserved_bytes is None


def test_a_kernel_that_is_missing_does_not_stop_the_other_points(comparisons):
    points = comparisons["dry-micro-attention"].record.points
    assert [point.shape["backend"] for point in points] == ["flash", "cudnn"]
    assert points[0].status is Status.OK
    names = {op.name for op in points[0].trace.ops}
    assert any("flash" in name and "backward" in name for name in names)


def test_what_cannot_be_predicted_says_why(comparisons):
    assert comparisons["dry-absent"].why_not == "ended as unsupported"
    assert "foreach" in comparisons["dry-gpt-checkpointing"].why_not
    assert comparisons["dry-gpt-checkpointing"].streams is None


def test_records_are_read_as_they_were_written(comparisons, tmp_path):
    record = comparisons["dry-gpt-checkpointing"].record
    history = schema.AllocatorHistory(
        segments=((0, 2_097_152, 0, ((512, True), (2_096_640, False))),),
        events=(("alloc", 512, 1024, 0), ("free_completed", 512, 1024, 0)),
        marks=((0, "forward", 2),),
    )
    cap = schema.CapSearch(smallest_ok_bytes=4_194_304, largest_failed_bytes=None, tries=3)
    record = replace(record, history=history, cap=cap)
    path = schema.write_record(tmp_path, record)
    assert schema.read_record(path) == record
    assert path.stat().st_size < schema.LIMIT_BYTES
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # nothing half-written is left


def test_a_record_over_the_limit_loses_its_history_and_says_so(comparisons, tmp_path, monkeypatch):
    record = comparisons["dry-cnn-inference"].record
    noise = tuple(("alloc", hash((i, "a")) % 2**60, i, 0) for i in range(2000))
    history = schema.AllocatorHistory(segments=(), events=noise, marks=())
    monkeypatch.setattr(schema, "LIMIT_BYTES", 10_000)
    path = schema.write_record(tmp_path, replace(record, history=history))
    read = schema.read_record(path)
    assert read.history is None and "history left out" in read.notes[-1]
    assert read.trace is not None


@pytest.mark.parametrize("content", [b"", b"not xz", lzma.compress(b'{"schema_version": 99}')])
def test_a_damaged_or_newer_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / f"broken{schema.SUFFIX}"
    path.write_bytes(content)
    with pytest.raises(schema.RecordError, match="broken"):
        schema.read_record(path)


def test_packed_records_come_out_again(comparisons, folder, tmp_path):
    archives = pack(folder, tmp_path / "out")
    assert [path.name for path in archives] == ["records-0.tar"]
    assert unpack(tmp_path / "out", tmp_path / "back") == len(comparisons)
    assert [r.id for r in schema.read_all(tmp_path / "back")] == sorted(comparisons)


def test_a_recording_that_is_complete_has_nothing_to_do(comparisons, folder, capsys):
    assert record(["--device", "cpu", "--dry", "--output", str(folder)]) == 0
    assert (
        f"{len(comparisons)} cases, {len(comparisons)} recorded before" in capsys.readouterr().out
    )


def test_a_recording_without_time_records_nothing_and_says_what_is_left(tmp_path, capsys):
    arguments = ["--device", "cpu", "--dry", "--minutes", "0", "--output", str(tmp_path)]
    assert record(arguments) == 0
    assert f"nothing; {len(table.DRY_CASES)} left to do" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error, status",
    [
        (torch.OutOfMemoryError("CUDA out of memory"), Status.OUT_OF_MEMORY),
        (NotImplementedError("no kernel"), Status.UNSUPPORTED),
        (RuntimeError("No available kernel. Aborting execution."), Status.UNSUPPORTED),
        (RuntimeError("sizes do not match"), Status.ERROR),
    ],
)
def test_what_a_case_raises_is_its_record(monkeypatch, error, status):
    def fail(case, device):
        raise error

    monkeypatch.setattr(measure, "Step", fail)
    gauge = gauge_for("cpu")
    found = measure.record_case(table.DRY_CASES[0], gauge, gauge.environment(), 10.0)
    assert found.status is status and str(error) in found.message
    assert found.id == "dry-cnn-training" and gc.isenabled()


def test_every_case_has_a_scenario_on_a_gpu():
    for case in table.cases():
        if case.kind == "model":
            assert measure._scenario(case, "cuda").mode == case.mode


# ------------------------------------------------------------------------ the case list


def test_the_case_list_covers_what_was_asked_for():
    found = table.cases()
    models = [case for case in found if case.kind == "model"]
    assert len({case.id for case in found}) == len(found)
    assert len(table.MODELS) >= 40 and {case.model for case in models} == set(table.MODELS)
    families = {spec.family for spec in table.MODELS.values()}
    assert families >= {"cnn", "vit", "detection", "segmentation", "language", "moe", "diffusion",
                        "rnn", "graph"}  # fmt: skip
    assert {case.precision for case in models} == set(table.PRECISIONS)
    for field, values in {
        "mode": {"inference", "training"},
        "optimizer": {None, "sgd", "adamw"},
        "implementation": {None, "for-loop", "foreach", "fused"},
        "checkpointing": {False, True},
        "sdpa": {None, *table.BACKENDS},
    }.items():
        assert {getattr(case, field) for case in models} == values
    assert all(spec.sources[-1].startswith("own:") for spec in table.MODELS.values())


def test_the_first_cases_are_one_training_step_of_every_model():
    first = table.cases()[: len(table.MODELS)]
    assert [case.model for case in first] == list(table.MODELS)
    assert {(case.mode, case.optimizer) for case in first} == {("training", "adamw")}


def test_the_micro_grids_are_of_a_size_that_can_be_recorded():
    sizes = [math.prod(map(len, axes.values())) for axes in table.MICRO.values()]
    assert len(sizes) >= 20 and sum(sizes) > 300 and max(sizes) <= 200


def test_a_case_without_words_is_not_predicted():
    case = table.Case(id="x", model="dry-gpt", optimizer="adamw", sdpa="math")
    with pytest.raises(NotPredicted, match="attention backend"):
        scenario_of(case, "cpu")


def test_a_crash_is_a_record_too(comparisons):
    record = comparisons["dry-cnn-training"].record
    crashed = replace(record, status=Status.CRASH, trace=None, case=asdict(table.DRY_CASES[0]))
    assert compare_record(crashed).why_not == "ended as crash"


# --------------------------------------------------- what needs a GPU, with torch's answers faked


class FakeCuda:
    """An allocator with a cap: a step needs ``need`` bytes."""

    def __init__(self, monkeypatch, need: int = 0) -> None:
        self.cap, self.need, self.caps = 1.0, need, []
        cuda = torch.cuda
        for name in ("synchronize", "empty_cache", "reset_peak_memory_stats"):
            monkeypatch.setattr(cuda, name, lambda: None)
        monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: None, raising=False)
        monkeypatch.setattr(cuda, "current_device", lambda: 0)
        properties = type("Properties", (), {"total_memory": 2**34})
        monkeypatch.setattr(cuda, "get_device_properties", lambda device: properties)
        monkeypatch.setattr(cuda, "set_per_process_memory_fraction", self.set_cap)
        self.gauge = object.__new__(CudaGauge)
        self.gauge._recording = False
        self.gauge._segments = []

    def set_cap(self, share: float) -> None:
        self.cap = share
        self.caps.append(round(share * 2**34))

    def step(self) -> None:
        if self.cap * 2**34 < self.need:
            raise torch.cuda.OutOfMemoryError("too much")


def test_the_smallest_cap_is_closed_in_on(monkeypatch):
    need = 700 * 2**20
    fake = FakeCuda(monkeypatch, need)
    found = fake.gauge.search_cap(fake.step, low=640 * 2**20, high=960 * 2**20)
    assert found.largest_failed_bytes < need <= found.smallest_ok_bytes
    assert found.smallest_ok_bytes - found.largest_failed_bytes <= (960 - 640) * 2**20 / 2**4
    assert found.tries == len(fake.caps) - 1 <= 6
    assert fake.cap == 1.0  # whatever happened


def test_a_step_that_fails_under_its_own_peak_is_not_searched(monkeypatch):
    fake = FakeCuda(monkeypatch, need=2**30)
    found = fake.gauge.search_cap(fake.step, low=2**20, high=2**29)
    assert found == schema.CapSearch(smallest_ok_bytes=None, largest_failed_bytes=2**29, tries=1)


def test_the_allocator_history_is_relative_and_without_the_snapshots_of_its_own(monkeypatch):
    fake = FakeCuda(monkeypatch)
    base = 0x7F0000000000
    events: list[dict[str, object]] = []
    segment = {
        "address": base, "total_size": 2**21, "stream": 0,
        "blocks": [{"size": 512, "state": "active_allocated"},
                   {"size": 2**21 - 512, "state": "inactive"}],
    }  # fmt: skip

    def snapshot():
        events.append({"action": "snapshot", "addr": 0, "size": 0, "stream": 0})
        return {"segments": [segment], "device_traces": [list(events)]}

    def record_history(enabled=None, **settings):
        events.clear()

    monkeypatch.setattr(torch.cuda.memory, "_snapshot", snapshot)
    monkeypatch.setattr(torch.cuda.memory, "_record_memory_history", record_history)
    gauge = fake.gauge
    gauge.start_history()
    events.append({"action": "alloc", "addr": base + 512, "size": 1024, "stream": 0})
    gauge.mark_history(0, "forward")
    events.append({"action": "oom", "device_free": 5, "size": 2**40, "stream": 0})
    events.append({"action": "free_completed", "addr": base + 512, "size": 1024, "stream": 0})
    gauge.mark_history(0, "backward")
    history = gauge.stop_history()
    assert history.segments == ((0, 2**21, 0, ((512, True), (2**21 - 512, False))),)
    assert history.events == (
        ("alloc", 512, 1024, 0), ("oom", 0, 2**40, 0), ("free_completed", 512, 1024, 0),
    )  # fmt: skip
    assert history.marks == ((0, "forward", 1), (0, "backward", 3))


def test_without_a_gpu_the_recorder_says_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="--device cpu for a dry run"):
        gauge_for("cuda")
