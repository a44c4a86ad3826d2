"""The live-bytes timeline: closed forms, conservation, and the peak of real CPU steps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import torchgauge as tg
from real_step import memory_profile
from torchgauge.facts.memory import MemoryEstimate
from torchgauge.facts.trace import Role
from torchgauge.trace.torch_internals.profiler import memory_changes

B, IN, HIDDEN, OUT = 32, 100, 200, 10


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(IN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, OUT))


def memory(model: nn.Module, size: tuple[int, ...], **scenario: object) -> MemoryEstimate:
    estimate = tg.analyze(model, size, scenario=tg.Scenario(**scenario)).memory  # type: ignore[arg-type]
    assert estimate is not None
    return estimate


def test_inference_of_an_mlp_in_closed_form() -> None:
    estimate = memory(mlp(), (B, IN))
    params = 4 * (IN * HIDDEN + HIDDEN + HIDDEN * OUT + OUT)
    hidden, out = 4 * B * HIDDEN, 4 * B * OUT
    assert estimate.parameter_bytes == params
    assert estimate.input_bytes == 4 * B * IN
    assert estimate.output_bytes == out
    # The ReLU holds its input and its output; nothing is kept for a backward.
    assert estimate.peak_allocated_bytes == params + 4 * B * IN + 2 * hidden
    assert estimate.saved_activation_bytes == estimate.gradient_bytes == 0


def test_training_of_an_mlp_in_closed_form() -> None:
    params = 4 * (IN * HIDDEN + HIDDEN + HIDDEN * OUT + OUT)
    for optimizer, states, steps in (("sgd", 0, 0), ("sgd-momentum", 1, 0), ("adam", 2, 4)):
        estimate = memory(mlp(), (B, IN), mode="training", optimizer=optimizer)
        assert estimate.gradient_bytes == params
        # Four parameter tensors; Adam keeps a step counter of 4 bytes for each.
        assert estimate.optimizer_bytes == states * params + 4 * steps
        # Saved: the ReLU's output (input of the second layer), the output, the loss.
        assert estimate.saved_activation_bytes == 4 * B * HIDDEN + 4 * B * OUT + 4


def test_micro_batches_do_not_save_at_the_same_time() -> None:
    one = memory(mlp(), (B, IN), mode="training")
    four = tg.analyze(mlp(), (B, IN), scenario=tg.Scenario(mode="training", accumulation=4))
    assert four.memory is not None
    assert four.memory.saved_activation_bytes == one.saved_activation_bytes
    calls = [call for module in four.modules.values() for call in module.calls]
    root = [call.saved_activation_bytes for call in four.modules[""].calls]
    assert len(root) == 4 and sum(root) == one.saved_activation_bytes - 4  # less the loss
    assert len(calls) == 4 * 4


@pytest.mark.parametrize("scenario", [
    {}, {"mode": "training"}, {"mode": "training", "optimizer": "adamw"},
    {"mode": "training", "optimizer": "adamw", "accumulation": 3},
    {"mode": "training", "checkpointing": True}, {"precision": "bf16"},
])  # fmt: skip
def test_bytes_are_conserved(scenario: dict[str, object]) -> None:
    model = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2, enable_nested_tensor=False
    )
    estimate = memory(model, (4, 16, 32), **scenario)
    assert sum(estimate.at_peak.values()) == estimate.peak_allocated_bytes
    assert estimate.peak_allocated_bytes == max(p.live_bytes for p in estimate.timeline)
    fixed = estimate.parameter_bytes + estimate.buffer_bytes + estimate.input_bytes
    states = estimate.optimizer_bytes
    assert estimate.timeline[0].live_bytes == fixed + states
    end = estimate.timeline[-1].live_bytes - fixed - states
    if scenario.get("mode") == "training":
        loss_and_output = end - estimate.gradient_bytes
        assert 0 <= loss_and_output <= estimate.saved_activation_bytes
    else:
        assert end == estimate.output_bytes
    assert set(estimate.at_peak) <= set(Role)


def real_peak(model: nn.Module, inputs: torch.Tensor, training: bool) -> int:
    """Most bytes that a real CPU step has allocated beyond what was there before it."""
    model.train(training)
    with memory_profile() as profiler:
        if training:
            output = model(inputs)
            loss = output.mean()
            loss.backward()
        else:
            with torch.no_grad():
                output = model(inputs)
    total = peak = 0
    for _, size in memory_changes(profiler.profiler):
        total += size
        peak = max(peak, total)
    del output
    return peak


def cnn() -> tuple[nn.Module, torch.Tensor]:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 10),
    )  # fmt: skip
    # Large enough that the 45 KB which convolution kernels hold inside themselves do not count.
    return model, torch.randn(128, 3, 32, 32)


def perceptron() -> tuple[nn.Module, torch.Tensor]:
    return mlp(), torch.randn(B, IN)


def transformer() -> tuple[nn.Module, torch.Tensor]:
    layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), torch.randn(8, 32, 64)


@pytest.mark.parametrize("build", [perceptron, cnn, transformer], ids=lambda b: b.__name__)
def test_the_peak_of_a_real_training_step(
    build: Callable[[], tuple[nn.Module, torch.Tensor]],
) -> None:
    """Ground truth: what the CPU allocator was asked for, to the kilobyte."""
    model, inputs = build()
    estimate = memory(model, tuple(inputs.shape), mode="training", optimizer="none")
    before = estimate.parameter_bytes + estimate.buffer_bytes + estimate.input_bytes
    predicted = estimate.peak_allocated_bytes - before
    measured = real_peak(model, inputs, training=True)
    assert abs(predicted - measured) <= max(2048, 0.002 * measured), (predicted, measured)


def test_parameters_made_in_the_forward_are_parameters() -> None:
    """Lazy layers, and layers made in the first forward, hold parameters as others do."""

    class Late(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not hasattr(self, "layer"):
                self.layer = nn.Linear(x.shape[1], 8)
            return self.layer(x)

    training = tg.Scenario(mode="training", optimizer="none")
    eager = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8))
    lazy = nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d())
    expected = tg.analyze(eager, (4, 6), scenario=training).memory
    found = tg.analyze(lazy, (4, 6), scenario=training).memory
    assert expected is not None and found is not None
    for role in ("parameter_bytes", "buffer_bytes", "gradient_bytes", "saved_activation_bytes"):
        assert getattr(found, role) == getattr(expected, role), role
    made = tg.analyze(nn.Sequential(nn.Linear(6, 6), Late()), (4, 6), scenario=training)
    assert made.memory is not None
    assert made.memory.parameter_bytes == made.totals.param_bytes == 4 * (6 * 7 + 8 * 7)
    assert not made.not_counted  # the late layer was called
