"""An inference without ``torch.no_grad()``: in a loop, the graphs of two forwards live at once."""

from __future__ import annotations

import os
from collections.abc import Callable

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler writes a line per run to stderr

import pytest
import torch
from torch import nn

import torchgauge as tg
from real_step import memory_profile
from torchgauge.errors import ScenarioError
from torchgauge.estimate.memory.loop import repeat
from torchgauge.estimate.memory.workspaces import workspaces_for
from torchgauge.facts.trace import Role
from torchgauge.target import CPU
from torchgauge.trace.record.kernel_memory import one_thread
from torchgauge.trace.torch_internals.profiler import memory_changes


class Frozen(nn.Module):
    """Only the second half is differentiated."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, 64), nn.Linear(64, 64)
        self.body.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.head(torch.tanh(self.body(x))))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 8)), (32, 64)),
    "cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 1)
        ),
        (4, 3, 32, 32),
    ),
    "transformer": (
        lambda: nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True),
        (4, 16, 32),
    ),
    "frozen": (Frozen, (128, 64)),
    "no parameters": (lambda: nn.Sequential(nn.Tanh(), nn.Sigmoid()), (16, 128)),
}


@one_thread()
def loop_peak(model: nn.Module, x: torch.Tensor, steps: int = 4) -> int:
    """Return the most bytes that a loop has allocated which keeps the name of its output."""
    model.eval()
    model(x)
    with memory_profile() as profiler:
        for _ in range(steps):
            output = model(x)
    del output
    total = peak = 0
    for _, size in memory_changes(profiler.profiler):
        total += size
        peak = max(peak, total)
    return peak


def predicted_loop_peak(report: tg.Report, steps: int = 4) -> int:
    """Return the same of the recorded step, repeated."""
    assert report.trace is not None and report.memory is not None
    loop = repeat(report.trace, steps, workspaces_for(CPU.platform))
    alive: dict[int, int] = {}
    most = live = 0
    for is_free, key, nbytes in loop.events:
        if is_free:
            live -= alive.pop(key)
        else:
            alive[key] = nbytes
            live += nbytes
        most = max(most, live)
    standing = ("parameter_bytes", "buffer_bytes", "input_bytes")
    return most - sum(getattr(report.memory, name) for name in standing)


@pytest.mark.parametrize("name", MODELS)
def test_a_real_loop_takes_what_is_predicted(name: str) -> None:
    build, size = MODELS[name]
    model = build()
    report = tg.analyze(model, size, scenario=tg.Scenario(grad_enabled=True))
    assert predicted_loop_peak(report) == loop_peak(model, torch.zeros(size))


@pytest.mark.parametrize("name", MODELS)
def test_the_graph_is_kept_only_where_something_is_differentiated(name: str) -> None:
    build, size = MODELS[name]
    model = build()
    without = tg.analyze(model, size).memory
    kept = tg.analyze(model, size, scenario=tg.Scenario(grad_enabled=True)).memory
    assert without is not None and kept is not None
    assert without.saved_activation_bytes == 0
    has_graph = any(parameter.requires_grad for parameter in model.parameters())
    assert (kept.saved_activation_bytes > 0) is has_graph
    assert kept.at_peak.get(Role.GRADIENT, 0) == kept.gradient_bytes == 0
    if not has_graph:
        assert kept.peak_allocated_bytes == without.peak_allocated_bytes


def test_on_a_gpu_two_graphs_live_at_once() -> None:
    model = nn.Sequential(*(nn.Sequential(nn.Linear(1024, 1024), nn.GELU()) for _ in range(8)))
    size = (1024, 1024)
    scenario = tg.Scenario(device="RTX 3090", grad_enabled=True)
    report = tg.analyze(model, size, scenario=scenario)
    assert report.memory is not None
    assert report.memory.saved_activation_bytes == 15 * (4 << 20)
    assert report.memory.peak_allocated_bytes > 2 * report.memory.saved_activation_bytes


def test_a_training_step_has_gradients_anyway() -> None:
    with pytest.raises(ScenarioError, match="grad_enabled=True has no meaning in training"):
        tg.Scenario(mode="training", grad_enabled=True)
