"""What can be changed in how a step runs: a table, one entry per idea."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from torchgauge.changes import optimizers
from torchgauge.changes.change import Change
from torchgauge.changes.step import SCENARIO, Step, change_of
from torchgauge.facts.loop.advice import Accuracy
from torchgauge.facts.precision import arithmetic_of, is_all_half
from torchgauge.facts.scenario import (
    Precision,
    Scenario,
    ZeroGrad,
)

LORA: Final = "lora"
RANK: Final = 16
"""Of the adapters."""
_AUTOCAST: Final = "Micikevicius et al., Mixed Precision Training, arXiv 1710.03740"
_CHECKPOINTING: Final = (
    "Chen et al., Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174"
)
_LORA: Final = "Hu et al., LoRA, arXiv 2106.09685"


@dataclass(frozen=True, slots=True, kw_only=True)
class Idea:
    """An idea; two of the same axis cannot be combined."""

    name: str
    axis: str
    make: Callable[[Step], Change | str]
    """Returns the change, or why it makes no sense here; ``""`` for what need not be said."""
    training_only: bool = True
    saves_memory: bool = True

    def suits(self, scenario: Scenario) -> bool:
        """Return whether it has a meaning in the mode of a scenario."""
        return scenario.is_training or not self.training_only


# ---------------------------------------------------------------------------- the batch


def _accumulation(now: Step) -> Change | str:
    batch = now.batch
    if batch is None:
        return "no dimension of the inputs is known to be the batch"
    if batch == 1:
        return "the batch is 1 already"
    limit = batch // 2 if now.largest_batch is None else max(min(batch // 2, now.largest_batch), 1)
    return micro_batch(now, next(size for size in range(limit, 0, -1) if batch % size == 0))


def micro_batch(now: Step, micro: int) -> Change:
    """Return the change to micro-batches of that size, accumulated to the batch of before."""
    assert now.batch is not None
    count = now.batch // micro * now.scenario.accumulation
    norms = now.has_batch_norms
    return change_of(
        "batch",
        f"batch {micro}, gradients accumulated over {count}",
        f"take micro-batches of {micro} and accumulate their gradients over {count}",
        "fewer samples are in memory at once, for the same batch of the optimizer",
        accuracy=Accuracy.SMALL if norms else Accuracy.NONE,
        cost="batch norms see the samples of a micro-batch alone" if norms else "",
        snippet=f"(loss / {count}).backward()  # {count} times, then optimizer.step()",
        batch=micro,
        accumulation=count,
    )


def _smaller_batch(now: Step) -> Change | str:
    batch = now.batch
    if batch is None:
        return "no dimension of the inputs is known to be the batch"
    if batch == 1:
        return "the batch is 1 already"
    size = batch // 2 if not now.largest_batch else min(batch // 2, now.largest_batch)
    return smaller_batch(size)


def smaller_batch(size: int) -> Change:
    """Return the change to a batch of that size."""
    return Change(
        rule=SCENARIO,
        axis="batch",
        label=f"batch {size}",
        text=f"take a batch of {size}",
        why="activations grow with the batch",
        batch=size,
    )


# ---------------------------------------------------------------------------- precision


def _autocast(now: Step) -> Change | str:
    precision = Precision(now.scenario.precision)
    if now.device is None or precision.autocast_dtype is not None:
        return ""
    if arithmetic_of(precision, now.dtypes) not in ("fp32", "tf32"):
        return ""
    native = bool(now.device.supports("bf16"))
    chosen = Precision.BF16_AUTOCAST if native else Precision.FP16_AUTOCAST
    dtype = chosen.autocast_dtype
    if not now.device.supports(str(chosen).removesuffix("-autocast")):
        return f"{now.device.name} has no 16-bit arithmetic"
    scales = not native and now.scenario.is_training
    return change_of(
        "precision",
        f"precision {chosen}",
        f"run the forward under autocast in {dtype}",
        "products take half the memory and use the tensor cores",
        accuracy=Accuracy.SMALL,
        cost="products are rounded to 16 bits"
        + ("; needs loss scaling (GradScaler)" if scales else ""),
        source=_AUTOCAST,
        snippet=f'with torch.autocast("cuda", dtype=torch.{dtype}):',
        precision=chosen,
    )


def _half(now: Step) -> Change | str:
    if now.device is None or is_all_half(now.scenario.precision, now.dtypes):
        return ""
    chosen = Precision.BF16 if now.device.supports("bf16") else Precision.FP16
    if not now.device.supports(chosen):
        return f"{now.device.name} has no 16-bit arithmetic"
    training = now.scenario.is_training
    return change_of(
        "precision",
        f"everything in {chosen}",
        f"keep and compute everything in {chosen}",
        "parameters and activations have 16 bits each",
        accuracy=Accuracy.RETRAIN if training else Accuracy.SMALL,
        cost="updates lose precision, because parameters and states have 16 bits"
        if training
        else "parameters and products are rounded to 16 bits",
        source=_AUTOCAST,
        snippet=f"model = model.to(torch.{chosen.parameter_dtype})",
        precision=chosen,
    )


# ---------------------------------------------------------------------------- activations


def _checkpointing(now: Step) -> Change | str:
    if now.scenario.checkpointing:
        return ""
    return change_of(
        "checkpointing",
        "checkpointing of the repeated blocks",
        "recompute the repeated blocks in the backward",
        "what their layers save for the backward is most of the activations",
        cost="each block's forward runs twice",
        source=_CHECKPOINTING,
        snippet="x = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False)",
        checkpointing=True,
    )


def _offload(now: Step) -> Change | str:
    if now.device is None or now.scenario.offload_activations:
        return ""
    return change_of(
        "offload",
        "saved activations in host memory",
        "keep saved activations in host memory",
        "only the backward reads them again",
        cost="copied from the GPU and back",
        source="PyTorch, torch.autograd.graph.save_on_cpu",
        snippet="with torch.autograd.graph.save_on_cpu():",
        offload_activations=True,
    )


def _no_grad(now: Step) -> Change | str:
    if not now.scenario.grad_enabled:
        return ""
    return change_of(
        "grad",
        "torch.no_grad() around the forward",
        "run the forward without gradients",
        "nothing is trained, and each layer keeps what a backward would read",
        snippet="with torch.inference_mode():",
        grad_enabled=False,
    )


# ---------------------------------------------------------------------------- the optimizer


def _zero_grad(now: Step) -> Change | str:
    if now.scenario.zero_grad is ZeroGrad.BEFORE_FORWARD:
        return ""
    return change_of(
        "zero_grad",
        "zero_grad(set_to_none=True) before the forward",
        "free the gradients before the forward",
        "otherwise those of the last step stay alive through the forward",
        snippet="optimizer.zero_grad(set_to_none=True)",
        zero_grad=ZeroGrad.BEFORE_FORWARD,
    )


def lora(now: Step) -> Change:
    """Return the change to adapters; whether they suit the model is seen in it."""
    return Change(
        rule=LORA,
        axis=LORA,
        label=f"LoRA, rank {RANK} on the linear layers",
        text=f"train adapters of rank {RANK} beside the linear layers (LoRA)",
        why="frozen parameters have no gradients and no optimizer states",
        settings={"rank": RANK},
        accuracy=Accuracy.RETRAIN,
        cost="the rest is frozen",
        source=_LORA,
        snippet=(f'peft.LoraConfig(r={RANK}, target_modules="all-linear")',),
        keeps_state=False,
    )


# ---------------------------------------------------------------------------- memory


def _expandable(now: Step) -> Change | str:
    option = "expandable_segments:True"
    if now.device is None or "expandable_segments" in now.scenario.allocator:
        return ""
    settings = ",".join(filter(None, (now.scenario.allocator, option)))
    return change_of(
        "allocator",
        f"allocator: {option}",
        "use expandable segments in the allocator",
        "less memory is lost to fragmentation",
        snippet=f"export PYTORCH_CUDA_ALLOC_CONF={settings}",
        allocator=settings,
    )


def _channels_last(now: Step) -> Change | str:
    if now.device is None or now.scenario.channels_last or not now.has_maps:
        return ""
    return change_of(
        "channels-last",
        "feature maps in channels-last format",
        "store feature maps in channels-last format",
        "tensor cores read this layout; otherwise each convolution converts it",
        source="PyTorch tutorial, Channels Last Memory Format in PyTorch",
        snippet="model = model.to(memory_format=torch.channels_last)\n"
        "x = x.to(memory_format=torch.channels_last)",
        channels_last=True,
    )


ACCUMULATION: Final = Idea(name="accumulation", axis="batch", make=_accumulation)
IDEAS: Final[tuple[Idea, ...]] = (
    ACCUMULATION,
    Idea(name="autocast", axis="precision", make=_autocast),
    Idea(name="checkpointing", axis="checkpointing", make=_checkpointing),
    Idea(name="fused optimizer", axis="optimizer", make=optimizers.fused),
    Idea(name="8-bit optimizer states", axis="optimizer", make=optimizers.eight_bit),
    Idea(name="adafactor", axis="optimizer", make=optimizers.adafactor),
    Idea(name="sgd-momentum", axis="optimizer", make=optimizers.momentum),
    Idea(name="offload", axis="offload", make=_offload),
    Idea(name="zero_grad", axis="zero_grad", make=_zero_grad),
    Idea(name="half precision", axis="precision", make=_half, training_only=False),
    Idea(name="lora", axis=LORA, make=lora),
    Idea(name="no_grad", axis="grad", make=_no_grad, training_only=False),
    Idea(name="expandable segments", axis="allocator", make=_expandable, training_only=False),
    Idea(name="channels last", axis="channels-last", make=_channels_last, training_only=False,
         saves_memory=False),
)  # fmt: skip

SMALLER_BATCH: Final = Idea(
    name="smaller batch", axis="batch", make=_smaller_batch, training_only=False
)
"""In inference, where nothing is accumulated."""
