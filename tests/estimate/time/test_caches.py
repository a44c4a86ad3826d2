"""What it costs that something has left the caches: the curves, and how far back things lie."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import cpu_calibration as stand_in
import torchgauge as tg
from asked import run_model
from torchgauge.estimate.memory.workspaces import Platform, workspaces_for
from torchgauge.estimate.time.cpu.caches import MODULE, PYTHON, VIEW, Caches, LastUses
from torchgauge.estimate.time.cpu.heap import Heap
from torchgauge.estimate.time.cpu.predict import _Steps, predict_on_cpu
from torchgauge.estimate.time.cpu.work import work_of
from torchgauge.facts.trace import Phase, Role, Trace
from torchgauge.measure.calibration import distances

MIB = 2**20
CURVES = Caches(
    distances=(MIB, 4 * MIB, 64 * MIB),
    code=(0.0, 0.5, 1.0),
    read=(1e-10, 2e-10, 4e-10),
    written=(1e-10, 1e-10, 3e-10),
    code_us={MODULE: 8.0, VIEW: 4.0, PYTHON: 2.0, "elementwise": 20.0, "matmul": 40.0},
)


CALIBRATION = stand_in.calibration()


def traced(model: nn.Module, *size: int, mode: str = "inference") -> Trace:
    made = run_model(model, size, as_given=True, scenario=tg.Scenario(mode=mode))
    return made.outcome.trace


def test_between_the_measured_distances_the_logarithm_decides() -> None:
    assert CURVES.code_seconds("matmul", 4 * MIB) == pytest.approx(20e-6)
    assert CURVES.code_seconds("matmul", 2 * MIB) == pytest.approx(10e-6)
    assert CURVES.code_seconds("matmul", 16 * MIB) == pytest.approx(30e-6)
    assert CURVES.seconds(CURVES.read, 1e6, 4 * MIB, MIB) == pytest.approx(1e-4)


def test_outside_of_them_the_edges_hold() -> None:
    assert CURVES.code_seconds("matmul", 1.0) == 0.0
    assert CURVES.code_seconds("matmul", 1e12) == pytest.approx(40e-6)
    assert CURVES.seconds(CURVES.written, 1e6, 1e12, 1.0) == pytest.approx(2e-4)


def test_a_kind_that_was_not_timed_is_like_element_wise_work() -> None:
    assert CURVES.code_seconds("pooling", 1e12) == CURVES.code_seconds("elementwise", 1e12)


@given(st.floats(1.0, 1e12), st.floats(1.0, 1e12))
def test_nothing_is_faster_for_lying_near(distance: float, own: float) -> None:
    costs = (
        CURVES.code_seconds("matmul", distance, own),
        CURVES.seconds(CURVES.read, 1e6, distance, own),
        CURVES.seconds(CURVES.written, 1e6, distance, own),
    )
    assert all(cost == 0.0 if distance <= own else cost >= 0.0 for cost in costs)


def test_code_was_last_used_as_many_bytes_ago_as_were_moved_since() -> None:
    trace = traced(nn.Sequential(nn.ReLU(), nn.Sigmoid(), nn.ReLU()), 4)
    moved = {op.index: 100.0 * (op.index + 1) for op in trace.ops}
    traffic = LastUses(trace, moved)
    found = []
    for op in trace.ops:
        found.append(traffic.code(op.name))
        traffic.data(op)
    # ReLU was run last in the step before, before its last 300 bytes, and again 300 bytes later.
    assert found == [300.0, 600.0, 300.0]


def test_what_is_made_takes_memory_that_an_earlier_layer_has_left() -> None:
    layers = nn.Sequential(nn.ReLU(), nn.Sigmoid(), nn.Tanh(), nn.ReLU())
    trace = traced(layers, 64, 64)
    traffic = LastUses(trace, {op.index: 1000.0 for op in trace.ops})
    found = [traffic.data(op) for op in trace.ops]
    # Two blocks in turn, each of which the layer before has just read. Only the second layer finds
    # one that was last used at the end of the step before, with the first layer in between.
    assert [made for _, made in found] == [
        [(16_384.0, 0.0)], [(16_384.0, 1000.0)], [(16_384.0, 0.0)], [(16_384.0, 0.0)],
    ]  # fmt: skip
    assert [read for read, _ in found[1:]] == [[(16_384.0, 0.0)]] * 3


def test_memory_that_the_backward_needs_is_not_given_out_again() -> None:
    layers = nn.Sequential(nn.Linear(64, 64), nn.Sigmoid(), nn.Tanh())
    trace = traced(layers, 64, 64, mode="training")
    traffic = LastUses(trace, {op.index: 1000.0 for op in trace.ops})
    forward = [traffic.data(op)[1] for op in trace.ops if op.phase is Phase.FORWARD]
    first, second, third = [made for made in forward if made]
    # Sigmoid keeps its result, not what it was given: Tanh takes that. The others take memory that
    # was in use when the step before ran its backward and its optimizer.
    assert third == [(16_384.0, 1000.0)]
    assert sum(nbytes for nbytes, _ in first) == sum(nbytes for nbytes, _ in second) == 16_384
    assert all(distance > 1000.0 for _, distance in (*first, *second))


def test_scratch_memory_pushes_out_as_well() -> None:
    trace = traced(nn.Sequential(nn.ReLU(), nn.Sigmoid(), nn.ReLU()), 64, 64)
    moved = {op.index: 1000.0 for op in trace.ops}
    traffic = LastUses(trace, moved, {1: (5_000, 70_000)})
    found = [traffic.data(op)[1] for op in trace.ops]
    assert [sum(nbytes for nbytes, _ in made) for made in found] == [16_384, 91_384, 16_384]
    far = LastUses(trace, {op.index: 1e9 for op in trace.ops}, {1: (5_000, 70_000)})
    distances = [distance for op in trace.ops for part in far.data(op) for _, distance in part]
    # The step touches the input, two blocks in turn, and the scratch memory beside both.
    assert max(distances) == 3 * 16_384 + 75_000


def test_scratch_memory_is_moved_twice() -> None:
    layer = nn.Conv2d(32, 32, 3, padding=1)
    trace = traced(nn.Sequential(layer, nn.ReLU()), 1, 32, 28, 28)
    (op,) = [op for op in trace.ops if op.name == "aten.convolution.default"]
    scratch = sum(workspaces_for(Platform(type="cpu", threads=2))(op))
    steps = _Steps(trace, replace(CALIBRATION, cpu=replace(CALIBRATION.cpu, threads=2)))
    work = work_of(op, 2)
    assert work is not None and scratch > 0
    assert steps._traffic[op.index] == work.nbytes + 2 * scratch


def test_states_of_an_optimizer_are_there_before_and_after() -> None:
    """They are made in the first step; no later one writes them anew."""
    scenario = tg.Scenario(mode="training", optimizer="adamw")
    made = run_model(nn.Linear(256, 256), (4, 256), as_given=True, scenario=scenario)
    trace = made.outcome.trace
    states = {s.index for s in trace.storages if s.role is Role.OPTIMIZER_STATE}
    assert states
    traffic = LastUses(trace, {op.index: 1000.0 for op in trace.ops})
    begun = [storage for op in trace.ops for storage in traffic._begun(op.index)]
    assert begun and not states & set(begun)


def test_no_data_is_further_away_than_what_a_step_touches() -> None:
    trace = traced(nn.Sequential(*(nn.Sigmoid() for _ in range(50))), 64, 64)
    traffic = LastUses(trace, {op.index: 1e9 for op in trace.ops})
    # The input and two blocks in turn.
    assert (
        max(distance for op in trace.ops for part in traffic.data(op) for _, distance in part)
        <= 3 * 16_384
    )


# ---------------------------------------------------------------------------- the heap


def test_the_smallest_block_that_is_large_enough_is_given_out() -> None:
    heap = Heap()
    for name, size in enumerate((100, 10, 50, 10)):
        heap.take(name, size)
        heap.use(name, float(name))
    heap.free(0)
    heap.free(2)
    assert heap.take(4, 40) == [(40, 2.0)]
    assert heap.take(5, 60) == [(60, 0.0)]
    # Of the first block 40 are left; 70 at the end are new.
    assert heap.take(6, 70) == [(70, None)]
    assert heap.take(7, 40) == [(40, 0.0)]


def test_neighbours_that_are_free_are_one_block() -> None:
    heap = Heap()
    for name in range(4):
        heap.take(name, 10)
        heap.use(name, float(name))
    heap.free(0)
    heap.free(2)
    heap.free(1)
    assert heap.take(4, 30) == [(10, 0.0), (10, 1.0), (10, 2.0)]


def test_the_heap_grows_from_its_last_free_block_on() -> None:
    heap = Heap()
    heap.take(0, 10)
    heap.use(0, 5.0)
    heap.free(0)
    assert heap.take(1, 25) == [(10, 5.0), (15, None)]
    heap.use(1, 6.0)
    heap.free_all()
    assert heap.take(2, 25) == [(25, 6.0)]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 100)), max_size=60))
def test_no_memory_is_given_out_twice(requests: list[tuple[int, int]]) -> None:
    """Each name is taken when it has nothing, else freed: what it wrote is still there then."""
    heap, sizes = Heap(), {}
    for time, (name, size) in enumerate(requests):
        if name in sizes:
            # Were another tensor's bytes among them, their last use would be another.
            heap.free(name)
            assert sum(nbytes for nbytes, _ in heap.take(name, sizes[name])) == sizes[name]
            heap.free(name)
            del sizes[name]
        else:
            assert sum(nbytes for nbytes, _ in heap.take(name, size)) == size
            heap.use(name, float(time))
            sizes[name] = size
        taken = sorted(heap._taken.values())
        assert all(before[1] <= after[0] for before, after in pairwise(taken))
        free = sorted((begin, begin + size) for size, begin in heap._free)
        assert all(before[1] < after[0] for before, after in pairwise(free))
        everything = sorted([*taken, *free])
        assert all(before[1] == after[0] for before, after in pairwise(everything))


def test_an_operator_takes_longer_that_was_last_run_a_large_step_ago() -> None:
    trace = traced(nn.Sequential(nn.Linear(1024, 1024), nn.Sigmoid()), 64, 1024)
    near = stand_in.calibration()
    far = replace(near, caches=replace(CURVES, code_us={**CURVES.code_us, MODULE: 0.0}))
    longer = predict_on_cpu(trace, far).total_seconds - predict_on_cpu(trace, near).total_seconds
    product = 4.0 * (1024 * 1024 + 2 * 64 * 1024 + 1024)
    sigmoid = 4.0 * 2 * 64 * 1024
    whole = product + sigmoid
    assert longer == pytest.approx(
        # When they were timed, too, an operator's own bytes lay between its runs.
        CURVES.code_seconds("matmul", whole, product)
        + CURVES.code_seconds("elementwise", whole, sigmoid)
        + CURVES.code_seconds(VIEW, whole)
    )
    assert longer > 10e-6


class Wordy(nn.Module):
    """Calls 50 functions around a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(50):
            self.nothing()
        result: torch.Tensor = self.layer(x)
        return result

    def nothing(self) -> None:
        """Do nothing."""


def test_python_is_the_time_of_the_module_that_runs_it() -> None:
    trace = traced(nn.Sequential(Wordy(), nn.ReLU()), 8)
    prediction = predict_on_cpu(trace, stand_in.calibration(("relu",)))
    forward, _, outside = prediction.call_seconds(len(trace.calls))
    own = {call.path: forward[call.index] for call in trace.calls}
    o = stand_in.OVERHEADS
    # Entering a module is the time of the one around it; its own forward is a call too.
    assert own[""] == pytest.approx(2e-6 * o.module_us)
    assert own["0"] == pytest.approx(1e-6 * (o.module_us + 51 * o.python_us))
    assert own["0.layer"] == pytest.approx(own["1"])
    assert outside == pytest.approx(1e-6 * o.module_us)
    assert sum(own.values()) + outside == pytest.approx(prediction.total_seconds)


@pytest.mark.timed
def test_on_this_machine_far_code_and_data_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "DISTANCES", (2.0**18, 2.0**24, 2.0**28))  # fewer, as far
    monkeypatch.setattr(distances, "_RUNS", 6)
    for _ in range(3):  # a neighbour on the same host can make what is near as slow as what is far
        found, python_us = distances.caches()
        if found.read[0] < found.read[-1] and found.written[0] < found.written[-1]:
            break
    assert python_us > 0
    assert found.code[0] == 0.0 and found.code[-1] == pytest.approx(1.0)
    for curve in (found.code, found.read, found.written):
        assert list(curve) == sorted(curve)
    assert 0 < found.read[0] < found.read[-1] and 0 < found.written[0] < found.written[-1]
    assert all(microseconds >= 0 for microseconds in found.code_us.values())
    assert found.code_us[MODULE] > 0 and found.code_us["convolution"] > 0
