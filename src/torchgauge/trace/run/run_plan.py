"""What to run, and what came of it: the plan of one run and its outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn

from torchgauge.facts.scenario import Scenario
from torchgauge.facts.trace import Trace
from torchgauge.trace.inputs.plan import InputPlan
from torchgauge.trace.kernels import cpu
from torchgauge.trace.kernels.base import VirtualDevice
from torchgauge.trace.record.recording import CompositeCall

CallObserver: TypeAlias = Callable[[str, nn.Module, tuple[Any, ...], Any], Any]
"""Gets a module's first path, its copy, the positional arguments and the output of a call. What it
computes is not recorded; what it returns is kept in ``Outcome.observed``, unless it is ``None``."""


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
    """Run an inference with gradients on, because its forward computes some."""
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
    on_call: CallObserver | None = None
    """Called after each forward of a module."""
    note_composites: bool = False
    """Run an inference in inference mode and note the composite operators that it shows whole."""
    forward_only: bool = False
    """End a training step after its first forward."""
    calls_only: bool = False
    """Keep module calls without operators and storages, where a simulated run is all it takes."""
    modules_only_of_failures: bool = False
    """Leave the modules, and what is said of their tensors, out of the trace of a whole run."""


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
    """Index of the call and what ``RunPlan.on_call`` returned for it."""
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
