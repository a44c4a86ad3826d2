"""How many Python functions a model's forwards call."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from threading import Thread
from time import sleep
from types import FrameType
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import torchgauge as tg
from asked import run_model
from torchgauge.errors import ModelError
from torchgauge.facts.trace import Phase


def helper() -> int:
    return 1


class Talks(nn.Module):
    """Calls three functions of its own, its forward aside, and PyTorch's."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        helper()
        x = nn.functional.gelu(self.inner(self.twice(x)))
        return x

    def twice(self, x: torch.Tensor) -> torch.Tensor:
        return helper() * 2 * x


def calls_of(model: nn.Module, mode: str = "inference") -> dict[str, int]:
    made = run_model(model, (2, 4), as_given=True, scenario=tg.Scenario(mode=mode))
    return {call.path: call.python_calls for call in made.outcome.trace.calls}


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_the_models_own_functions_count_and_those_of_pytorch_do_not(mode: str) -> None:
    assert calls_of(Talks(), mode) == {"": 4, "inner": 0}


def test_each_module_has_its_own() -> None:
    assert calls_of(nn.Sequential(Talks(), nn.Identity(), Talks())) == {
        "": 0, "0": 4, "0.inner": 0, "1": 0, "2": 4, "2.inner": 0,
    }  # fmt: skip


def test_what_is_imported_on_the_way_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "late_module.py").write_text("def f():\n    pass\nfor _ in range(100):\n    f()\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    class Late(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            import late_module  # type: ignore[import-not-found]

            late_module.f()
            return x + 1

    assert calls_of(Late())[""] == 2
    assert "late_module" in sys.modules
    assert calls_of(Late())[""] == 2


def test_nothing_is_left_behind_when_a_model_fails() -> None:
    class Fails(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no")

    with pytest.raises(ModelError):
        tg.analyze(nn.Sequential(Fails()), (2, 4))
    assert sys.getprofile() is None


def test_another_profiler_is_left_alone() -> None:
    def profile(frame: FrameType, event: str, given: object) -> None:
        pass

    sys.setprofile(profile)
    try:
        assert calls_of(Talks()) == {"": 0, "inner": 0}
        assert sys.getprofile() is profile
    finally:
        sys.setprofile(None)


def test_a_thread_of_the_model_keeps_no_profile_and_ends_none() -> None:
    found = []

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Talks()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            def run() -> None:
                self.inner(x)
                found.append(sys.getprofile())

            thread = Thread(target=run)
            thread.start()
            thread.join()
            helper()
            return x + 1

    assert calls_of(Pooled())[""] >= 2  # the main thread counts to its end
    assert found == [None]
    assert sys.getprofile() is None


def test_a_block_that_is_computed_again_counts_again() -> None:
    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Talks()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = checkpoint(self.block, x, use_reentrant=False)
            return result

    made = run_model(Again(), (2, 4), as_given=True, scenario=tg.Scenario(mode="training"))
    blocks = [c for c in made.outcome.trace.calls if c.path == "block"]
    assert [call.phase for call in blocks] == [Phase.FORWARD, Phase.BACKWARD]
    assert blocks[0].python_calls == 4
    assert blocks[1].python_calls >= 4  # what the checkpoint itself calls of Python's library, too


class Starts(nn.Module):
    """Computes in a thread."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: list[torch.Tensor] = []
        thread = Thread(target=lambda: found.append(x * 2))
        thread.start()
        thread.join()
        return found[0]


def test_what_waits_for_a_thread_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start calls more functions of Python's where the thread is not there at once."""
    name = "_start_new_thread" if sys.version_info < (3, 13) else "_start_joinable_thread"
    original = getattr(threading, name)

    def at_once(*args: Any, **kwargs: Any) -> Any:
        started = original(*args, **kwargs)
        sleep(0.1)
        return started

    def late(function: Any, *args: Any, **kwargs: Any) -> Any:
        def run(*given: Any) -> None:
            sleep(0.1)
            function(*given)

        return original(run, *args, **kwargs)

    counts = []
    for start in (at_once, late):
        monkeypatch.setattr(threading, name, start)
        counts.append(calls_of(Starts()))
    assert counts[0] == counts[1]
