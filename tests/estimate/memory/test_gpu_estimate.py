"""What a step takes on a GPU: parts that sum up, bounds that hold, a reference that is met."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from torch import nn

import torchgauge as tg
from small_models import MODELS, dtypes_of, trace
from torchgauge.estimate.memory.device import loop_of
from torchgauge.estimate.memory.lifetimes import live_bytes
from torchgauge.estimate.memory.loop import repeat
from torchgauge.estimate.memory.pipeline import estimate_memory
from torchgauge.facts.memory import MemoryEstimate
from torchgauge.facts.trace import Phase, Role
from torchgauge.target import target_of

A100 = "A100-SXM-40GB"
SCENARIOS: dict[str, dict[str, Any]] = {
    "inference": {},
    "sgd": {"mode": "training"},
    "adamw": {"mode": "training", "optimizer": "adamw"},
    "autocast": {"mode": "training", "optimizer": "adamw", "precision": "fp16-autocast"},
    "lean": {
        "mode": "training", "optimizer": "adam", "optimizer_implementation": "fused",
        "zero_grad": "before-backward", "gradient_clipping": True, "ema": True, "accumulation": 2,
        "checkpointing": True,
    },
    "first": {"mode": "training", "optimizer": "adamw", "first_step": True},
    "expandable": {"mode": "training", "allocator": "expandable_segments:True"},
}  # fmt: skip


def memory_of(model: nn.Module, size: Any, name: str | None = None, **scenario: Any) -> Any:
    report = tg.analyze(
        model, size, dtypes=dtypes_of(name or ""), scenario=tg.Scenario(device=A100, **scenario)
    )
    assert report.memory is not None
    return report.memory


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("name", ["cnn", "language", "lstm"])
def test_the_parts_sum_and_the_bounds_hold(name: str, scenario: str) -> None:
    build, size = MODELS[name]
    memory: MemoryEstimate = memory_of(build(), size, name, **SCENARIOS[scenario])
    assert sum(memory.at_peak.values()) == memory.peak_allocated_bytes
    assert all(nbytes > 0 for nbytes in memory.at_peak.values())
    assert memory.peak_reserved_bytes is not None and memory.minimum_bytes is not None
    assert memory.peak_allocated_bytes <= memory.peak_reserved_bytes
    assert memory.peak_allocated_bytes <= memory.minimum_bytes <= memory.peak_reserved_bytes
    assert memory.device_bytes == memory.peak_reserved_bytes + (memory.context_bytes or 0)
    assert memory.fits is True
    assert max(point.live_bytes for point in memory.timeline) == memory.peak_allocated_bytes


def wide(layers: int = 3) -> nn.Module:
    """Return layers whose parameters (4 MiB each) are all that counts."""
    return nn.Sequential(*[nn.Linear(1024, 1024, bias=False) for _ in range(layers)])


MIB = 2**20


def test_the_states_are_missing_in_the_first_backward() -> None:
    """3 layers of 4 MiB: the backward of Adam's first step finds no states, later ones do."""
    first = memory_of(wide(), (1, 1024), mode="training", optimizer="adam", first_step=True)
    later = memory_of(wide(), (1, 1024), mode="training", optimizer="adam")
    # At the end of the first step both have parameters, gradients and two states, and the list
    # optimizer's temporaries; nothing is larger.
    assert first.at_peak[Role.OPTIMIZER_STATE] == later.at_peak[Role.OPTIMIZER_STATE] == 24 * MIB
    assert first.peak_phase is later.peak_phase is Phase.OPTIMIZER
    inner = {
        kind: max(p.live_bytes for p in memory.timeline if p.phase is Phase.BACKWARD)
        for kind, memory in (("first", first), ("later", later))
    }
    assert inner["later"] - inner["first"] == 24 * MIB


@pytest.mark.parametrize("implementation", ["for-loop", "foreach"])
def test_what_an_optimizer_takes_for_itself(implementation: str) -> None:
    """AdamW of 3 equal layers of 4 MiB.

    Lists: the roots of all layers. One by one: a root, its quotient, and the quotient of the
    layer before, which the loop's variable still holds.
    """

    def during_the_step(kind: str) -> int:
        memory = memory_of(
            wide(), (1, 1024), mode="training", optimizer="adamw", optimizer_implementation=kind
        )
        return max(p.live_bytes for p in memory.timeline if p.phase is Phase.OPTIMIZER)

    # The fused kernel takes nothing and keeps its steps, 512 bytes each, on the device.
    difference = during_the_step(implementation) - during_the_step("fused")
    assert difference == 12 * MIB - 3 * 512


def test_gradients_in_the_way_of_the_forward() -> None:
    early = memory_of(wide(), (1, 1024), mode="training", zero_grad="before-forward")
    late = memory_of(wide(), (1, 1024), mode="training", zero_grad="before-backward")
    forward = [
        max(p.live_bytes for p in memory.timeline if p.phase is Phase.FORWARD and p.op >= 0)
        for memory in (early, late)
    ]
    assert forward[1] - forward[0] == 12 * MIB


def test_ema_is_a_copy_of_the_parameters() -> None:
    plain = memory_of(wide(), (1, 1024), mode="training")
    averaged = memory_of(wide(), (1, 1024), mode="training", ema=True)
    assert averaged.peak_allocated_bytes - plain.peak_allocated_bytes == 12 * MIB


def test_cublas_workspaces_are_taken_once_per_thread() -> None:
    scenario = tg.Scenario(mode="training", device=A100)
    gpu = target_of(scenario).gpu
    assert gpu is not None
    loop = loop_of(trace(wide(), (1, 1024), scenario), gpu)
    freed = {key for is_free, key, _ in loop.events if is_free}
    lasting = [
        size for (is_free, key, size), storage in zip(loop.events, loop.storages, strict=True)
        if storage < 0 and not is_free and key not in freed
    ]  # fmt: skip
    assert len(lasting) == 2 and len(set(lasting)) == 1 and lasting[0] > 8 * MIB


def test_a_step_that_does_not_fit_says_so() -> None:
    memory = tg.analyze(
        wide(), (800_000, 1024), scenario=tg.Scenario(mode="training", device="RTX 3060 12GB")
    ).memory
    assert memory is not None and memory.fits is False
    assert memory.minimum_bytes > memory.capacity_bytes


def test_resnet50_is_what_a_lifetime_tracker_sees() -> None:
    """Batch 32, Adam, float32: 2,947 MiB of tensors (``torch.distributed._tools.MemTracker``)."""
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    from torchgauge.models.torchvision_operators import define_missing_operators

    define_missing_operators()
    from torchvision.models import resnet50

    model = resnet50()
    for device in ("cpu", A100):
        scenario = tg.Scenario(mode="training", optimizer="adam", device=device)
        found = trace(model, (32, 3, 224, 224), scenario)
        step = estimate_memory(found, live_bytes(found))
        assert step.peak_allocated_bytes / MIB == pytest.approx(2946.8, abs=0.1)
        assert peak_of_last_step(found) / MIB == pytest.approx(2946.8, abs=0.1)
    memory = memory_of(model, (32, 3, 224, 224), mode="training", optimizer="adam")
    tensors = memory.peak_allocated_bytes - memory.at_peak[Role.WORKSPACE]
    assert tensors / MIB == pytest.approx(2947, rel=0.01)


def peak_of_last_step(found: Any) -> int:
    loop = repeat(found, 3)
    alive: dict[int, int] = {}
    peak = 0
    for index, (is_free, key, nbytes) in enumerate(loop.events):
        if is_free:
            del alive[key]
        else:
            alive[key] = nbytes
        if index >= loop.starts[-1]:
            peak = max(peak, sum(alive.values())) if not is_free else peak
    return peak
