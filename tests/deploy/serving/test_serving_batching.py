"""The queue: who goes together, who waits how long, what a failure does to the others."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from torchgauge.deploy.export.signature import Signature, SizeRange, TensorSignature
from torchgauge.deploy.serving.batching import Batcher
from torchgauge.deploy.serving.failures import Busy, Expired, OutOfMemory, RejectedByModel, Stopping

pytestmark = pytest.mark.timed

X = TensorSignature(name="x", shape=("batch", "length"), dtype="float32")
SIGNATURE = Signature(
    inputs=(X,),
    outputs=(
        TensorSignature(name="y", shape=("batch", "length"), dtype="float32"),
        TensorSignature(name="z", shape=(1, "batch"), dtype="float32"),
    ),
    dimensions={"batch": SizeRange(), "length": SizeRange()},
)


class Model:
    """``y = 2x``, ``z`` = row sums; remembers its batches, and waits for ``gate`` in each."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()

    def __call__(self, tensors):
        (x,) = tensors
        self.shapes.append(tuple(x.shape))
        self.started.set()
        assert self.gate.wait(10)
        if bool((x == 13).any()):
            raise IndexError("13 is out of range")
        if bool((x == 99).any()):
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return 2 * x, x.sum(1)[None]


@pytest.fixture
def make():
    batchers = []

    def build(model, *, limit=8, wait=0.0, queue=100, **options):
        batcher = Batcher(
            model, SIGNATURE, limit=lambda _: limit, max_wait_seconds=wait, max_queue=queue,
            **options,
        )  # fmt: skip
        batchers.append((batcher, model))
        return batcher

    yield build
    for batcher, model in batchers:
        model.gate.set()
        batcher.stop()


def ask(batcher, rows, length=2, value=1.0, seconds=10.0):
    x = torch.full((rows, length), value)
    return batcher.submit((x,), {"batch": rows, "length": length}, time.monotonic() + seconds)


def held(make, **options):
    """Return a batcher whose model is busy with a first request until ``gate`` is set."""
    model = Model()
    model.gate.clear()
    batcher = make(model, **options)
    first = ask(batcher, 1)
    assert model.started.wait(5)
    return model, batcher, first


def test_requests_that_wait_are_answered_together_each_with_its_own_rows(make):
    model, batcher, first = held(make)
    futures = [ask(batcher, rows, value=float(rows)) for rows in (1, 2, 3)]
    model.gate.set()
    for rows, future in zip((1, 2, 3), futures, strict=True):
        y, z = future.result(5)
        assert torch.equal(y, torch.full((rows, 2), 2.0 * rows))
        assert torch.equal(z, torch.full((1, rows), 2.0 * rows))
    first.result(5)
    assert model.shapes == [(1, 2), (6, 2)]


def test_an_answer_does_not_hold_the_whole_batch_in_memory(make):
    model, batcher, _ = held(make)
    futures = [ask(batcher, 1), ask(batcher, 1)]
    model.gate.set()
    y, _ = futures[0].result(5)
    assert y.untyped_storage().nbytes() == y.numel() * 4


def test_no_batch_is_larger_than_the_limit(make):
    model, batcher, _ = held(make, limit=4)
    futures = [ask(batcher, 1) for _ in range(9)] + [ask(batcher, 3)]
    model.gate.set()
    for future in futures:
        future.result(5)
    assert [rows for rows, _ in model.shapes] == [1, 4, 4, 4]


def test_other_lengths_do_not_go_together_and_nothing_is_padded(make):
    model, batcher, _ = held(make)
    futures = [ask(batcher, 1, length) for length in (2, 3, 2, 3)]
    model.gate.set()
    for future in futures:
        future.result(5)
    assert model.shapes == [(1, 2), (2, 2), (2, 3)]


def test_a_request_waits_for_others_no_longer_than_allowed(make):
    model = Model()
    batcher = make(model, wait=0.15)
    start = time.monotonic()
    first = ask(batcher, 1)
    time.sleep(0.03)
    second = ask(batcher, 1)
    first.result(5)
    second.result(5)
    assert 0.14 < time.monotonic() - start < 1.0
    assert model.shapes == [(2, 2)]


def test_a_full_batch_does_not_wait(make):
    model = Model()
    batcher = make(model, wait=30.0, limit=2)
    futures = [ask(batcher, 1), ask(batcher, 1)]
    for future in futures:
        future.result(5)
    assert model.shapes == [(2, 2)]


def test_without_batching_each_runs_alone(make):
    model, batcher, _ = held(make, batching=False)
    futures = [ask(batcher, 1) for _ in range(3)]
    model.gate.set()
    for future in futures:
        future.result(5)
    assert model.shapes == [(1, 2)] * 4


def test_a_full_queue_is_busy_and_the_rest_is_answered(make):
    model, batcher, first = held(make, queue=2)
    futures = [ask(batcher, 1), ask(batcher, 1)]
    with pytest.raises(Busy, match=r"the queue is full \(2 waiting\); try again later"):
        ask(batcher, 1)
    model.gate.set()
    for future in (first, *futures):
        future.result(5)


def test_only_the_request_at_fault_is_refused(make):
    model, batcher, _ = held(make)
    good, bad, too = ask(batcher, 1), ask(batcher, 1, value=13.0), ask(batcher, 2)
    model.gate.set()
    assert good.result(5)[0].shape == (1, 2)
    assert too.result(5)[0].shape == (2, 2)
    with pytest.raises(RejectedByModel, match="IndexError: 13 is out of range"):
        bad.result(5)


def test_out_of_memory_is_told_apart_and_the_thread_lives_on(make):
    batcher = make(Model())
    with pytest.raises(OutOfMemory):
        ask(batcher, 1, value=99.0).result(5)
    assert ask(batcher, 1).result(5)[0].shape == (1, 2)
    assert batcher.is_alive


def test_what_is_late_is_not_run_and_what_was_given_up_neither(make):
    model, batcher, _ = held(make)
    late, gone = ask(batcher, 1, seconds=0.01), ask(batcher, 5)
    gone.cancel()
    time.sleep(0.05)
    model.gate.set()
    with pytest.raises(Expired):
        late.result(5)
    ask(batcher, 1).result(5)
    assert model.shapes == [(1, 2), (1, 2)]


def test_stopping_answers_what_is_queued_and_takes_nothing_more(make):
    model, batcher, first = held(make, limit=2)
    futures = [ask(batcher, 1) for _ in range(3)]
    stopper = threading.Thread(target=batcher.stop)
    stopper.start()
    while batcher.is_alive:
        time.sleep(0.01)
    with pytest.raises(Stopping):
        ask(batcher, 1)
    model.gate.set()
    stopper.join(5)
    for future in (first, *futures):
        assert future.result(0)[0].shape == (1, 2)


def test_batches_are_told_of(make):
    runs = []
    batcher = make(Model(), on_batch=runs.append)
    ask(batcher, 3).result(5)
    batcher.stop()
    assert [(run.requests, run.samples) for run in runs] == [(1, 3)]
