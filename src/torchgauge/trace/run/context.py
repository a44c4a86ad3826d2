"""What the parts of one run share: its plan, its recorder, what it notes for the report."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from torchgauge.facts.scenario import Precision
from torchgauge.facts.trace import Execution
from torchgauge.trace.copy.accelerators import StayOnDevice
from torchgauge.trace.copy.casting import Casting
from torchgauge.trace.inspect.describe import dtype_named
from torchgauge.trace.record.inside_kernels import AutocastInside
from torchgauge.trace.record.recorder import Recorder
from torchgauge.trace.run.run_plan import RunPlan
from torchgauge.trace.values.simulation import Simulation


class RunContext:
    """One run: its plan, its recorder, its simulation if it has one, and what it notes."""

    def __init__(
        self, run_plan: RunPlan, execution: Execution, *, keep_ops: bool, may_stand_in: bool
    ) -> None:
        self.run_plan = run_plan
        self.scenario = run_plan.scenario
        self.target = target = run_plan.target
        self.execution = execution
        self.keep_ops = keep_ops and not run_plan.recording.calls_only
        self.is_simulated = simulated = execution is Execution.SIMULATED
        self.simulation = Simulation(target.shape_rules) if simulated else None
        self.device = torch.device(run_plan.real_device)
        self.casting = Casting(run_plan.scenario, run_plan.model, run_plan.plan)
        self.stay = StayOnDevice(torch.device("meta" if simulated else run_plan.real_device))
        self.assumptions: list[str] = list(run_plan.plan.assumptions)
        self.warnings: list[str] = []
        if run_plan.gradients and not run_plan.scenario.grad_enabled:
            self.assume(
                "the forward computes gradients, so the inference ran with gradients on, as a "
                "call outside of torch.no_grad() does; what is saved for them counts as memory"
            )
        device = target.type if simulated else run_plan.real_device
        self.recorder = Recorder(
            device=device,
            simulation=self.simulation,
            kernels=target.kernels if device == target.type else None,
            fused=target.fused if simulated else (),
            keep_ops=self.keep_ops,
        )
        self.recorder.may_stand_in = may_stand_in
        self.recorder.stands_for_gpu = not simulated and device != target.type
        self.recorder.autocast = AutocastInside(target.autocast)
        self.running: Recorder | None = None
        """The recorder that is active, ``None`` until the copy is made."""
        if self.simulation is not None:
            self.simulation.values.place = self.recorder.place
        else:
            self.recorder.storages.limit_bytes = run_plan.memory_limit
        if run_plan.recording.note_composites and not run_plan.scenario.is_training:
            self.recorder.composites = []

    def assume(self, assumption: str) -> None:
        """Add an assumption to the report."""
        self.assumptions.append(assumption)

    @property
    def foreach(self) -> bool:
        """Return whether optimizers go over lists of tensors where the user leaves it open."""
        return self.target.foreach if self.is_simulated else self.device.type != "cpu"

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of the scenario's autocast."""
        dtype = dtype_named(Precision(self.scenario.precision).autocast_dtype)
        return nullcontext() if dtype is None else torch.autocast(self.autocast_device, dtype=dtype)

    @property
    def autocast_device(self) -> str:
        """Return the type of device whose autocast acts: a run on the CPU may stand for a GPU."""
        on_cpu = self.is_simulated or self.device.type == "cpu"
        return self.target.type if on_cpu else self.device.type

    def progress(self, text: str) -> None:
        """Tell the caller what the run does now."""
        if self.run_plan.on_progress is not None:
            self.run_plan.on_progress(text)
