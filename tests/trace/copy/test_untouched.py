"""The model is left exactly as it was: after success, after a failure, after Ctrl-C."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import sys
import threading
from typing import Any

import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.errors import ModelError
from torchgauge.trace.isolate.isolation import unheard
from untouched import Moody, Talks, fingerprint, same

SCENARIOS = [
    tg.Scenario(),
    tg.Scenario(mode="training", optimizer="adamw"),
    tg.Scenario(mode="training", optimizer="sgd-momentum", checkpointing=True, accumulation=2),
    tg.Scenario(precision="bf16"),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
@pytest.mark.parametrize("with_grad", [False, True])
def test_after_success(scenario: tg.Scenario, with_grad: bool) -> None:
    model = Moody()
    if with_grad:
        model(torch.randn(2, 3, 8, 8)).sum().backward()
        model.count, model.seen = 0, []
        del model.last
    before = fingerprint(model)
    tg.analyze(model, (2, 3, 8, 8), scenario=scenario, name_batch=True)
    assert same(before, fingerprint(model))


@pytest.mark.parametrize("scenario", SCENARIOS[:2], ids=str)
def test_after_a_failing_forward(scenario: tg.Scenario) -> None:
    model = Moody(raises=ValueError)
    before = fingerprint(model)
    with pytest.raises(ModelError, match="on demand"):
        tg.analyze(model, (2, 3, 8, 8), scenario=scenario)
    assert same(before, fingerprint(model))


@pytest.mark.parametrize("scenario", SCENARIOS[:2], ids=str)
def test_after_ctrl_c(scenario: tg.Scenario) -> None:
    model = Moody(raises=KeyboardInterrupt)
    before = fingerprint(model)
    with pytest.raises(KeyboardInterrupt):
        tg.analyze(model, (2, 3, 8, 8), scenario=scenario)
    assert same(before, fingerprint(model))


def test_after_a_real_run() -> None:
    """A branch on values cannot be simulated; the copy that runs instead shares nothing."""

    class Branching(Moody):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = super().forward(x)
            return y * 2 if y.sum() > 0 else y

    model = Branching()
    before = fingerprint(model)
    report = tg.analyze(model, (2, 3, 8, 8), scenario=tg.Scenario(mode="training"))
    assert report.execution == "real"
    assert same(before, fingerprint(model))


def test_inputs_are_not_written_to() -> None:
    class InPlace(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.add_(1)

    data = torch.zeros(3, 4, dtype=torch.int64)
    tg.analyze(InPlace(), input_data=data)
    assert data.sum() == 0 and data._version == 0


def make_recording() -> tuple[nn.Module, dict[str, Any]]:
    """A layer whose hook, as feature extractors do, writes into a dict that the caller holds."""
    features: dict[str, Any] = {}
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].register_forward_hook(lambda module, args, output: features.update(seen=output))
    return model, features


def test_what_a_hook_collects_stays_the_users() -> None:
    model, features = make_recording()
    tg.analyze(model, (2, 4))
    assert features == {}


class Part:
    """A plain object with a layer in it."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer


class Indirect(nn.Module):
    """Reaches its own layer through a lambda, a partial, a default, an object and a slot."""

    __slots__ = ("in_slot",)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.calls = 0
        self.by_lambda = lambda x: self.count(self.layer(x))
        self.by_partial = functools.partial(nn.functional.linear, weight=self.layer.weight)
        self.by_default = lambda x, layer=self.layer: layer(x)
        self.by_object = Part(self.layer)
        self.in_slot = Part(self.layer)
        self.random = torch.Generator()

    def count(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x + torch.rand(4, generator=self.random)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.by_default(self.by_partial(self.by_lambda(x)))
        return self.in_slot.layer(self.by_object.layer(x))


@pytest.mark.parametrize("scenario", SCENARIOS[:3], ids=str)
def test_what_a_model_reaches_indirectly(scenario: tg.Scenario) -> None:
    """The copy that runs refers to itself where the model refers to itself."""
    model = Indirect()
    before, drawn = fingerprint(model), model.random.get_state()
    report = tg.analyze(model, (2, 4), scenario=scenario)
    assert report.totals.forward_macs == 5 * 2 * 4 * 4 * scenario.accumulation
    assert report.totals.params == 20
    assert len(report.modules["layer"].calls) == 4 * scenario.accumulation
    assert same(before, fingerprint(model)) and model.calls == 0
    assert torch.equal(drawn, model.random.get_state())


def test_the_check_sees_a_change() -> None:
    model = Moody()
    before = fingerprint(model)
    model(torch.randn(2, 3, 8, 8))
    assert not same(before, fingerprint(model))


def test_the_model_is_free_afterwards() -> None:
    """Nothing keeps a reference to the model once its report exists."""
    import weakref

    model = nn.Linear(4, 4)
    ref = weakref.ref(model)
    report = tg.analyze(model, (2, 4))
    del model
    gc.collect()
    assert ref() is None
    assert report.totals.params == 20


def test_a_model_that_prints_is_heard_once(capsys: pytest.CaptureFixture[str]) -> None:
    tg.analyze(Talks(), (2, 4), name_batch=True)
    assert capsys.readouterr().out == "seen (2, 4)\n"
    print("heard again")
    assert capsys.readouterr().out == "heard again\n"


def test_other_threads_are_heard_while_a_run_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    with pytest.raises(RuntimeError, match="on demand"), unheard():
        print("dropped", flush=True)
        thread = threading.Thread(target=print, args=("from a thread",))
        thread.start()
        thread.join()
        raise RuntimeError("on demand")
    assert sys.stdout is before
    assert capsys.readouterr().out == "from a thread\n"


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_the_working_directory_is_restored(tmp_path, monkeypatch, mode):
    class Moves(nn.Linear):
        def forward(self, x):
            os.chdir("/")
            return super().forward(x)

    monkeypatch.chdir(tmp_path)
    tg.analyze(Moves(4, 4), (2, 4), scenario=tg.Scenario(mode=mode))
    assert os.getcwd() == str(tmp_path)


class Reads(nn.Module):
    """Asks for much of what a run puts something else in the place of."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Embedding(8, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        with torch.autocast(ids.device.type, dtype=torch.bfloat16):
            if bool((ids[:, [-1, 0]] == 0).any()):
                ids = ids + len(ids.tolist())
            return self.layer(ids) + torch.tensor([ids[0, 0], ids[0, 1]]).sum()


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_torch_itself_is_as_before(mode: str) -> None:
    """What a run puts into torch's namespaces is gone, also what Python derives from it."""

    def state() -> list[object]:
        is_sequence = ctypes.pythonapi.PySequence_Check
        owners = (torch, torch.Tensor, torch.UntypedStorage, torch.nn.functional, torch.amp,
                  torch._tensor, nn.Module, threading.Thread, torch.optim.Optimizer)  # fmt: skip
        return [
            *({name: id(value) for name, value in vars(owner).items()} for owner in owners),
            is_sequence(ctypes.py_object(torch.ones(()))),
            is_sequence(ctypes.py_object(torch.ones(()).untyped_storage())),
        ]

    tg.analyze(Reads(), {"ids": (2, 5)}, dtypes=["int64"])  # imports what it imports
    before = state()
    tg.analyze(Reads(), {"ids": (2, 5)}, dtypes=["int64"], scenario=tg.Scenario(mode=mode))
    assert state() == before
    assert torch.tensor([torch.tensor(1.0), torch.tensor(2.0)]).tolist() == [1.0, 2.0]
