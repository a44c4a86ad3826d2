"""What can be changed so that a step takes less: a table, one entry per idea."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torchgauge.devices import Device
from torchgauge.facts.precision import arithmetic_of, is_all_half
from torchgauge.facts.scenario import (
    FUSED_OPTIMIZERS,
    OptimizerImplementation,
    Precision,
    Scenario,
    ZeroGrad,
)
from torchgauge.fit.variants import Variant


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateContext:
    """What is known when the candidates are chosen."""

    variant: Variant
    device: Device
    largest_batch: int | None
    """That runs for sure, where it is known; 0 when not even one sample does."""
    dtypes: tuple[str, ...] = ()
    """Of the parameters, the one of most elements first."""

    @property
    def scenario(self) -> Scenario:
        """Return the scenario that was asked about."""
        return self.variant.scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A candidate that makes sense in a context."""

    text: str
    apply: Callable[[Variant], Variant]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An idea; two of the same axis cannot be combined."""

    name: str
    axis: str
    make: Callable[[CandidateContext], Change | str]
    """Returns the change, or why it makes no sense here; ``""`` for what need not be said."""
    keeps_training: bool = True
    """Whether the same parameters are trained, in the precision of before."""
    training_only: bool = True


_STATE_FREE = ("sgd", "none")
_ADAMS = ("adam", "adamw", "nadam", "radam", "adamax")


def _scenario(text: str, note: str = "", **fields: Any) -> Change:
    def apply(variant: Variant) -> Variant:
        return replace(variant, scenario=replace(variant.scenario, **fields))

    return Change(text=text, apply=apply, note=note)


def _accumulation(now: CandidateContext) -> Change | str:
    batch = now.variant.batch
    if batch is None:
        return "no dimension of the inputs is known to be the batch"
    if batch == 1:
        return "the batch is 1 already"
    limit = batch // 2 if now.largest_batch is None else max(min(batch // 2, now.largest_batch), 1)
    micro = next(size for size in range(limit, 0, -1) if batch % size == 0)
    return micro_batch(now, micro)


def micro_batch(now: CandidateContext, micro: int) -> Change:
    """Return the change to micro-batches of that size, accumulated to the batch of before."""
    assert now.variant.batch is not None
    count = now.variant.batch // micro * now.scenario.accumulation

    def apply(variant: Variant) -> Variant:
        # Every micro-batch after the first finds gradients there: two show what many take.
        scenario = replace(variant.scenario, accumulation=min(count, 2))
        return replace(variant, batch=micro, scenario=scenario)

    return Change(text=f"batch {micro}, gradients accumulated over {count}", apply=apply)


def _autocast(now: CandidateContext) -> Change | str:
    precision = now.scenario.precision
    is_autocast = Precision(precision).autocast_dtype is not None
    if is_autocast or arithmetic_of(precision, now.dtypes) not in ("fp32", "tf32"):
        return ""
    native = bool(now.device.supports("bf16"))
    chosen = Precision.BF16_AUTOCAST if native else Precision.FP16_AUTOCAST
    if not now.device.supports(str(chosen).removesuffix("-autocast")):
        return f"{now.device.name} has no 16-bit arithmetic"
    note = "" if native else "needs loss scaling (GradScaler)"
    return _scenario(f"precision {chosen}", note=note, precision=chosen)


def _half(now: CandidateContext) -> Change | str:
    if is_all_half(now.scenario.precision, now.dtypes):
        return ""
    chosen = Precision.BF16 if now.device.supports("bf16") else Precision.FP16
    if not now.device.supports(chosen):
        return f"{now.device.name} has no 16-bit arithmetic"
    note = "updates lose precision, because parameters and states have 16 bits"
    return _scenario(
        f"everything in {chosen}", precision=chosen,
        note=note if now.scenario.is_training else "",
    )  # fmt: skip


def _checkpointing(now: CandidateContext) -> Change | str:
    if now.scenario.checkpointing:
        return ""
    return _scenario("checkpointing of the repeated blocks", checkpointing=True)


def _offload(now: CandidateContext) -> Change | str:
    if now.scenario.offload_activations:
        return ""
    return _scenario(
        "saved activations in host memory", offload_activations=True,
        note="copied from the GPU and back",
    )  # fmt: skip


def _fused(now: CandidateContext) -> Change | str:
    scenario = now.scenario
    fused = OptimizerImplementation.FUSED
    if scenario.optimizer not in FUSED_OPTIMIZERS:
        return f"{scenario.optimizer} has no fused implementation"
    if scenario.optimizer_implementation is fused:
        return ""
    return _scenario(
        f"{scenario.optimizer} with fused=True, no temporaries", optimizer_implementation=fused
    )


def _optimizer(name: str, text: str, note: str = "") -> Callable[[CandidateContext], Change | str]:
    def make(now: CandidateContext) -> Change | str:
        current = now.scenario.optimizer or "sgd"
        if current == name or current in _STATE_FREE:
            return "" if current == name else f"{current} has no states"
        return _scenario(
            text, note=note, optimizer=name, optimizer_options=(), optimizer_implementation=None
        )

    return make


def _eight_bit(now: CandidateContext) -> Change | str:
    if now.scenario.optimizer not in _ADAMS:
        return ""
    return _optimizer("adamw-8bit", "optimizer AdamW8bit of bitsandbytes")(now)


def _lora(now: CandidateContext) -> Change | str:
    return Change(
        text="LoRA, rank 16 on the linear layers",
        apply=lambda variant: replace(variant, lora=True),
        note="the rest is frozen",
    )


def _zero_grad(now: CandidateContext) -> Change | str:
    if now.scenario.zero_grad is ZeroGrad.BEFORE_FORWARD:
        return ""
    return _scenario(
        "zero_grad(set_to_none=True) before the forward", zero_grad=ZeroGrad.BEFORE_FORWARD
    )


def _expandable(now: CandidateContext) -> Change | str:
    option = "expandable_segments:True"
    if "expandable_segments" in now.scenario.allocator:
        return ""
    settings = ",".join(filter(None, (now.scenario.allocator, option)))
    return _scenario(f"allocator: {option}", allocator=settings)


def _no_grad(now: CandidateContext) -> Change | str:
    if not now.scenario.grad_enabled:
        return ""
    return _scenario("torch.no_grad() around the forward", grad_enabled=False)


def _smaller_batch(now: CandidateContext) -> Change | str:
    batch = now.variant.batch
    if batch is None:
        return "no dimension of the inputs is known to be the batch"
    if batch == 1:
        return "the batch is 1 already"
    size = batch // 2 if not now.largest_batch else min(batch // 2, now.largest_batch)
    return Change(text=f"batch {size}", apply=lambda variant: replace(variant, batch=size))


CANDIDATES: tuple[Candidate, ...] = (
    Candidate(name="accumulation", axis="batch", make=_accumulation),
    Candidate(name="autocast", axis="precision", make=_autocast),
    Candidate(name="checkpointing", axis="checkpointing", make=_checkpointing),
    Candidate(name="fused optimizer", axis="optimizer", make=_fused),
    Candidate(
        name="8-bit optimizer states", axis="optimizer",
        make=_eight_bit,
    ),
    Candidate(
        name="adafactor", axis="optimizer",
        make=_optimizer("adafactor", "optimizer adafactor", "needs another learning rate"),
        keeps_training=False,
    ),
    Candidate(
        name="sgd-momentum", axis="optimizer",
        make=_optimizer("sgd-momentum", "optimizer sgd-momentum", "needs another learning rate"),
        keeps_training=False,
    ),
    Candidate(name="offload", axis="offload", make=_offload),
    Candidate(name="zero_grad", axis="zero_grad", make=_zero_grad),
    Candidate(
        name="half precision", axis="precision", make=_half, keeps_training=False,
        training_only=False,
    ),
    Candidate(name="lora", axis="lora", make=_lora, keeps_training=False),
    Candidate(name="no_grad", axis="grad", make=_no_grad, training_only=False),
    Candidate(name="expandable segments", axis="allocator", make=_expandable, training_only=False),
)  # fmt: skip

SMALLER_BATCH = Candidate(
    name="smaller batch", axis="batch", make=_smaller_batch, training_only=False
)
"""In inference, where nothing is accumulated."""
