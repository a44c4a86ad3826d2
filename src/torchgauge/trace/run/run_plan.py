"""What to run, and what came of it: the plan of one run and its outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from torchgauge.facts.scenario import Scenario
from torchgauge.facts.trace import Trace
from torchgauge.request import Recording
from torchgauge.trace.inputs.plan import InputPlan
from torchgauge.trace.kernels import cpu
from torchgauge.trace.kernels.base import VirtualDevice
from torchgauge.trace.record.recording import CompositeCall


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What to run: a model, its inputs and a scenario."""

    model: nn.Module
    plan: InputPlan
    scenario: Scenario
    loss: Callable[[Any], torch.Tensor] | None = None
    model_name: str
    on_progress: Callable[[str], None] | None = None
    ignore_devices: bool = False
    """Read accelerators that the model names as the device of the run."""
    gradients: bool = False
    """Run an inference with gradients on, because its forward computes some or the user asks."""
    list_indices: bool = False
    """Follow indices that are written as lists."""
    simulated_only: bool = False
    """Fail where a simulated run is not enough, instead of a real one."""
    memory_limit: int | None = None
    """Bytes at which a real run is stopped."""
    target: VirtualDevice = cpu.DEVICE
    """Whose kernels a simulated run takes."""
    real_device: str = "cpu"
    """Where a real run takes place."""
    recording: Recording = field(default_factory=Recording)

    def __post_init__(self) -> None:
        if self.scenario.grad_enabled:
            object.__setattr__(self, "gradients", True)

    def recorded(self, **changes: Any) -> RunPlan:
        """Return the plan with other fields of its ``Recording``."""
        return replace(self, recording=replace(self.recording, **changes))


@dataclass(slots=True)
class Outcome:
    """A trace, and the exception that ended it early if there was one."""

    trace: Trace
    error: Exception | None = None
    plan: InputPlan | None = None
    """The reading of the inputs that was run."""
    gradients: bool = False
    """Whether an inference ran with gradients on."""
    observed: tuple[tuple[int, Any], ...] = ()
    """Index of the call and what ``Recording.on_call`` returned for it."""
    composites: tuple[CompositeCall, ...] = ()
    """Calls of composite operators in the order in which they ended; only where asked for."""
    is_guess: bool = False
    """Whether something was decided on a guess of what the model chooses."""
    branches_on_choice: bool = False
    """Whether a branch was taken on an even split over choices, which says nothing of it."""
    lost_index: bool = False
    """Whether the values of an index that is written as a list were lost."""
    float_index_inputs: tuple[str, ...] = ()
    """Inputs made as floats from a size that an embedding wanted as integers."""
