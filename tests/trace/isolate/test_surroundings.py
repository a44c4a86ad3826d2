"""The answer is the same whatever the caller is in the middle of, and the caller is left there."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import torchgauge as tg
from untouched import fingerprint, same

TRAINING = tg.Scenario(mode="training", optimizer="adamw")


class Watching(TorchDispatchMode):
    """A dispatch mode of the user's own."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "dispatch mode": Watching,
    "fake tensors": FakeTensorMode,
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
    "default device": lambda: torch.device("meta"),
    "meta construction": tg.meta_construction,
    "deterministic algorithms": deterministic,
}


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
    )


@pytest.mark.parametrize("scenario", [tg.Scenario(), TRAINING], ids=["inference", "training"])
@pytest.mark.parametrize("surroundings", SURROUNDINGS.values(), ids=SURROUNDINGS.keys())
def test_same_answer(
    surroundings: Callable[[], AbstractContextManager[Any]], scenario: tg.Scenario
) -> None:
    model = network()
    alone = tg.analyze(model, (2, 3, 8, 8), scenario=scenario)
    before = fingerprint(model)
    with surroundings():
        within = tg.analyze(model, (2, 3, 8, 8), scenario=scenario)
    assert within.execution == "simulated"
    assert (within.totals, within.memory) == (alone.totals, alone.memory)
    assert same(before, fingerprint(model))


def test_in_a_real_run_too() -> None:
    class Branching(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = super().forward(x)
            return y * 2 if y.sum() > 0 else y

    model = Branching(8, 8)
    alone = tg.analyze(model, (2, 8))
    with torch.autocast("cpu", torch.bfloat16):
        within = tg.analyze(model, (2, 8))
    assert alone.outputs[0].tensor.dtype == within.outputs[0].tensor.dtype == "float32"


def test_an_analysis_inside_a_forward_is_not_part_of_the_outer_one() -> None:
    class Curious(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.inner = tg.analyze(nn.Linear(3, 3), (2, 3)).totals.forward_macs
            return super().forward(x) * self.inner

    assert tg.analyze(Curious(4, 4), (2, 4)).totals.forward_macs == 2 * 4 * 4


def test_many_threads() -> None:
    model = network()
    alone = tg.analyze(model, (2, 3, 8, 8), scenario=TRAINING)
    compile_, fast_path = torch.compile, torch.backends.mha.get_fastpath_enabled()
    found: list[Any] = []

    def work() -> None:
        for _ in range(4):
            report = tg.analyze(network(), (2, 3, 8, 8), scenario=TRAINING)
            found.append((report.totals, report.memory))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(alone.totals, alone.memory)] * 24
    assert torch.compile is compile_
    assert torch.backends.mha.get_fastpath_enabled() == fast_path
    assert gc.isenabled()


def test_the_default_dtype_is_put_back() -> None:
    class Double(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.set_default_dtype(torch.float64)
            return super().forward(x)

    tg.analyze(Double(4, 4), (2, 4))
    assert torch.get_default_dtype() is torch.float32
