"""Layers and operators that a forward runs in other threads: counted, under the right layer."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import torchgauge as tg
from torchgauge.errors import ModelError

MACS = 3 * 4 * 8 * 8
BACKWARD = 2 * MACS  # of the weights: the model's input needs no gradient


class Branches(nn.Module):
    """Three layers side by side; ``run`` says in which threads."""

    def __init__(self, run: Callable[[list[nn.Module], torch.Tensor], list[torch.Tensor]]) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.run = run

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum(self.run([self.a, self.b, self.c], x))  # type: ignore[return-value]


def one_after_the_other(layers: list[nn.Module], x: torch.Tensor) -> list[torch.Tensor]:
    return [layer(x) for layer in layers]


def threads(layers: list[nn.Module], x: torch.Tensor) -> list[torch.Tensor]:
    found: dict[int, torch.Tensor] = {}

    def run(index: int, layer: nn.Module) -> None:
        found[index] = layer(x)

    started = [threading.Thread(target=run, args=item) for item in enumerate(layers)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return [found[index] for index in range(3)]


def subclass(layers: list[nn.Module], x: torch.Tensor) -> list[torch.Tensor]:
    class Work(threading.Thread):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layer = layer

        def run(self) -> None:
            self.output = self.layer(x)

    started = [Work(layer) for layer in layers]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return [thread.output for thread in started]


def nested(layers: list[nn.Module], x: torch.Tensor) -> list[torch.Tensor]:
    if not layers:
        return []
    found: list[torch.Tensor] = []

    def run() -> None:
        found.extend([layers[0](x), *nested(layers[1:], x)])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found


def executor(layers: list[nn.Module], x: torch.Tensor) -> list[torch.Tensor]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda layer: layer(x), layers))


def pool(layers: list[nn.Module], x: torch.Tensor) -> list[torch.Tensor]:
    with ThreadPool(2) as threads_:
        first = threads_.apply_async(layers[0], (x,))
        return [first.get(), *threads_.map(lambda layer: layer(x), layers[1:])]


def coroutines(layers: list[nn.Module], x: torch.Tensor) -> list[torch.Tensor]:
    async def gather() -> list[torch.Tensor]:
        return await asyncio.gather(*(asyncio.to_thread(layer, x) for layer in layers))

    return asyncio.run(gather())


def forked(layers: list[nn.Module], x: torch.Tensor) -> list[torch.Tensor]:
    futures = [torch.jit.fork(layer, x) for layer in layers]
    return [torch.jit.wait(future) for future in futures]


def checkpointed(layers: list[nn.Module], x: torch.Tensor) -> list[torch.Tensor]:
    return [checkpoint(lambda x: sum(threads(layers, x)), x, use_reentrant=False)]


RUNS = [threads, subclass, nested, executor, pool, coroutines, forked, checkpointed]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.__name__)
def test_layers_in_threads_count(run: Callable[..., Any]) -> None:
    start = threading.Thread.start
    report = tg.analyze(Branches(run), (4, 8))
    assert report.totals.forward_macs == MACS
    assert [report.modules[name].calls[0].forward_macs for name in "abc"] == [MACS // 3] * 3
    training = tg.analyze(
        Branches(run), (4, 8), scenario=tg.Scenario(mode="training", optimizer="adamw")
    )
    assert training.totals.backward_flops == BACKWARD
    assert report.execution == training.execution == "simulated"
    assert threading.Thread.start is start


@pytest.mark.parametrize("run", [threads, executor, pool], ids=lambda run: run.__name__)
def test_memory_is_that_of_one_thread(run: Callable[..., Any]) -> None:
    scenario = tg.Scenario(mode="training", optimizer="adamw")
    alone, other = (
        tg.analyze(Branches(one), (4, 8), scenario=scenario) for one in (one_after_the_other, run)
    )
    assert alone.memory is not None and other.memory is not None
    assert other.memory.peak_allocated_bytes == alone.memory.peak_allocated_bytes


def test_operators_outside_of_layers_count_where_the_thread_was_started() -> None:
    def run(layers: list[Any], x: torch.Tensor) -> list[torch.Tensor]:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda layer: x @ layer.weight, layers))

    report = tg.analyze(nn.Sequential(Branches(run)), (4, 8))
    assert report.modules["0"].calls[0].forward_macs == MACS


def test_pools_that_were_there_before() -> None:
    with ThreadPoolExecutor(2) as kept, ThreadPool(2) as other, _worker() as ask:
        list(kept.map(abs, [1, 2, 3]))

        def run(layers: list[nn.Module], x: torch.Tensor) -> list[torch.Tensor]:
            first = kept.submit(layers[0], x).result()
            return [first, other.apply(layers[1], (x,)), ask(layers[2], x)]

        model = Branches(run)
        model.pool = kept  # type: ignore[assignment]
        report = tg.analyze(model, (4, 8))
        assert (report.totals.forward_macs, report.warnings) == (MACS, ())
        assert kept.submit(abs, -1).result() == 1


@contextmanager
def _worker() -> Iterator[Callable[..., Any]]:
    """A thread that runs what it is given, as a server's does."""
    asked: queue.Queue[Any] = queue.Queue()
    answers: queue.Queue[Any] = queue.Queue()

    def serve() -> None:
        while (task := asked.get()) is not None:
            answers.put(task[0](*task[1:]))

    def ask(*task: Any) -> Any:
        asked.put(task)
        return answers.get()

    thread = threading.Thread(target=serve)
    thread.start()
    yield ask
    asked.put(None)
    thread.join()


def test_threads_that_wait_for_each_other() -> None:
    def run(layers: list[nn.Module], x: torch.Tensor) -> list[torch.Tensor]:
        given: queue.Queue[nn.Module] = queue.Queue()
        found: list[torch.Tensor] = []
        thread = threading.Thread(target=lambda: found.append(given.get()(x)))
        thread.start()
        given.put(layers[0])
        thread.join()
        return [*found, layers[1](x), layers[2](x)]

    report = tg.analyze(Branches(run), (4, 8))
    assert report.totals.forward_macs == MACS
    assert any("threads of the forward wait for each other" in t for t in report.assumptions)


def test_a_thread_that_needs_values_runs_for_real() -> None:
    def run(layers: list[nn.Module], x: torch.Tensor) -> list[torch.Tensor]:
        found: list[torch.Tensor] = []

        def branch() -> None:
            y = layers[0](x)
            found.append(layers[1](x) if y.sum() > -1e9 else y)

        thread = threading.Thread(target=branch)
        thread.start()
        thread.join()
        return [*found, layers[2](x)]

    report = tg.analyze(Branches(run), (4, 8))
    assert (report.totals.forward_macs, report.execution) == (MACS, "real")


def test_what_fails_in_a_thread_is_told() -> None:
    def run(layers: list[nn.Module], x: torch.Tensor) -> list[torch.Tensor]:
        thread = threading.Thread(target=lambda: layers[0](x[..., :3]))
        thread.start()
        thread.join()
        return [layers[1](x)]

    with pytest.raises(ModelError, match=r"a \(Linear\) failed in forward"):
        tg.analyze(Branches(run), (4, 8))
