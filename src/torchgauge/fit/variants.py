"""Where steps are traced and weighed: one model, many ways to run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Protocol

import torch
from torch import nn

from torchgauge.analyze import virtual_device_of
from torchgauge.changes.change import Change
from torchgauge.changes.ideas import LORA
from torchgauge.estimate.compute.modules import estimate_compute
from torchgauge.estimate.memory.device import Gpu, Weight, weigh
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.trace import NotCounted, Trace
from torchgauge.target import target_of
from torchgauge.trace.inputs.plan import InputPlan, InputTensor
from torchgauge.trace.kernels.base import VirtualDevice
from torchgauge.trace.run.run_plan import Outcome, RunPlan
from torchgauge.trace.run.runs import run

_MICRO_BATCHES = 2
"""Every micro-batch after the first finds gradients there: two show what many take."""
_VALUES_LIMIT = 1 << 20
"""Elements up to which whole numbers in the inputs keep their values when a batch is enlarged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to run the model."""

    scenario: Scenario
    batch: int | None = None
    """``None`` where the inputs do not say which of their dimensions is the batch."""
    context: int | None = None
    """Tokens in the cache, for a language model that generates."""
    lora: bool = False

    def changed(self, change: Change) -> Variant:
        """Return the variant with a change of the catalogue."""
        if change.changes_model:
            assert change.rule == LORA, f"a variant cannot hold {change.rule}"
            return replace(self, lora=True)
        fields = dict(change.scenario)
        if "accumulation" in fields:
            fields["accumulation"] = min(fields["accumulation"], _MICRO_BATCHES)
        return replace(
            self,
            scenario=replace(self.scenario, **fields),
            batch=self.batch if change.batch is None else change.batch,
        )


class Workload(Protocol):
    """What is run in a variant."""

    steps: int | None
    """How many steps are repeated for the allocator; ``None`` for what the scenario says."""

    def arguments(self, variant: Variant) -> tuple[nn.Module, InputPlan]:
        """Return the model and its inputs."""


@dataclass(slots=True, kw_only=True)
class VariantTracer:
    """Trace a workload in one variant after another."""

    workload: Workload
    model_name: str
    loss: Callable[[Any], torch.Tensor] | None = None
    real_run: bool = True
    """Whether the step that was asked about may be run for real, if need be."""
    on_progress: Callable[[str], None] | None = None
    traces: int = 0
    _weights: dict[Variant, Weighed] = field(default_factory=dict)

    def outcome(self, variant: Variant, device: VirtualDevice | None = None) -> Outcome:
        """Trace a variant; a failure is part of the outcome."""
        self.traces += 1
        device = device or virtual_device_of(target_of(variant.scenario))
        model, plan = self.workload.arguments(variant)
        return run(
            RunPlan(
                model=model,
                plan=plan,
                scenario=variant.scenario,
                loss=self.loss,
                model_name=self.model_name,
                target=device,
                # One real run, of the step that was asked about, is enough.
                simulated_only=self.traces > 1 or not self.real_run,
                on_progress=self.on_progress if self.traces == 1 else None,
            )
        )

    def weigh(self, variant: Variant) -> Weighed:
        """Return what a variant takes; the same variant is traced once.

        Raises:
            VariantError: when the run fails.
        """
        known = self._weights.get(variant)
        if known is None:
            self.say(variant)
            target = target_of(variant.scenario)
            outcome = self.outcome(variant, virtual_device_of(target))
            if outcome.error is not None:
                raise VariantError(outcome.error)
            assert target.gpu is not None
            known = self.weighed(outcome.trace, target.gpu)
            self._weights[variant] = known
        return known

    def weighed(self, trace: Trace, gpu: Gpu) -> Weighed:
        """Return what a traced variant takes on a GPU."""
        compute = estimate_compute(trace)
        flops = compute.totals
        return Weighed(
            weight=weigh(trace, gpu, self.workload.steps),
            total_flops=flops["forward"] + flops["backward"] + flops["optimizer"],
            not_counted=compute.not_counted,
            warnings=trace.warnings,
        )

    def remember(self, variant: Variant, weighed: Weighed) -> None:
        """Keep what a variant takes that was traced elsewhere."""
        self._weights[variant] = weighed

    def say(self, variant: Variant) -> None:
        """Tell of what is traced next."""
        if self.on_progress is None:
            return
        sizes = {"batch": variant.batch, "context": variant.context}
        said = ", ".join(f"{name} {size}" for name, size in sizes.items() if size is not None)
        self.on_progress(f"trace {self.traces + 1}: {said or 'an alternative'}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What a traced variant takes and does."""

    weight: Weight
    total_flops: int
    not_counted: tuple[NotCounted, ...] = ()
    warnings: tuple[str, ...] = ()


class VariantError(Exception):
    """A variant that does not run; ``error`` says why. Never leaves this package."""

    def __init__(self, error: Exception) -> None:
        lines = str(error).strip().splitlines()
        super().__init__(lines[0] if lines else type(error).__name__)
        self.error = error


# ---------------------------------------------------------------------------- inputs


def resized(plan: InputPlan, batch: int) -> InputPlan | None:
    """Return the plan with another batch size in every input, ``None`` where none has one."""
    before = plan.batch_size
    if before is None:
        return None
    if before == batch:
        return replace(plan, alternatives=())
    changed = 0

    def resize(value: Any) -> Any:
        nonlocal changed
        if isinstance(value, InputTensor):
            if value.has_batch(before, plan.batch_dim):
                changed += 1
                return value.with_batch(batch, plan.batch_dim)
        elif isinstance(value, torch.Tensor):
            if value.dim() > 0 and value.shape[0] == before:
                changed += 1
                return _repeated(value, batch)
        elif isinstance(value, Mapping):
            return {key: resize(item) for key, item in value.items()}
        return value

    args = tuple(resize(value) for value in plan.args)
    kwargs = {name: resize(value) for name, value in plan.kwargs.items()}
    if not changed:
        return None
    return replace(plan, args=args, kwargs=kwargs, batch_size=batch, alternatives=())


def _repeated(tensor: torch.Tensor, batch: int) -> torch.Tensor:
    """Return a tensor of another batch size; small ones keep values, which a model may look at."""
    shape = (batch, *tensor.shape[1:])
    whole = not tensor.is_floating_point() and not tensor.is_complex()
    if tensor.is_meta or not whole or prod(shape) > _VALUES_LIMIT:
        return torch.empty(shape, dtype=tensor.dtype, device="meta")
    return tensor[torch.arange(batch, device=tensor.device) % tensor.shape[0]]
