"""What can be changed in how a step runs: a table, one entry per idea."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from torchgauge.changes.change import Change
from torchgauge.devices import Device
from torchgauge.facts.loop.advice import Accuracy
from torchgauge.facts.precision import arithmetic_of, dtypes_of, is_all_half
from torchgauge.facts.report import Report
from torchgauge.facts.scenario import (
    FUSED_OPTIMIZERS,
    OptimizerImplementation,
    Precision,
    Scenario,
    ZeroGrad,
)
from torchgauge.facts.trace import Trace

SCENARIO: Final = "scenario"
"""The rule of a change that touches no model."""
LORA: Final = "lora"
RANK: Final = 16
"""Of the adapters."""
_AUTOCAST: Final = "Micikevicius et al., Mixed Precision Training, arXiv 1710.03740"
_CHECKPOINTING: Final = (
    "Chen et al., Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174"
)
_EIGHT_BIT: Final = "Dettmers et al., 8-bit Optimizers, arXiv 2110.02861"
_ADAFACTOR: Final = "Shazeer et al., Adafactor, arXiv 1804.04235"
_LORA: Final = "Hu et al., LoRA, arXiv 2106.09685"
_STATE_FREE: Final = ("sgd", "none")
_ADAMS: Final = ("adam", "adamw", "nadam", "radam", "adamax")
_CLASSES: Final = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "sgd-momentum": "SGD",
                   "adagrad": "Adagrad"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is known of the step that is to be changed."""

    scenario: Scenario
    device: Device | None
    """``None`` for the CPU."""
    batch: int | None = None
    """``None`` where the inputs do not say which of their dimensions is the batch."""
    largest_batch: int | None = None
    """That runs for sure, where it is known; 0 when not even one sample does."""
    dtypes: tuple[str, ...] = ()
    """Of the parameters, the one of most elements first."""
    kinds: frozenset[str] = frozenset()
    """Types of the modules."""

    @property
    def has_batch_norms(self) -> bool:
        """Return whether a sample's result depends on the others of its batch."""
        return any("BatchNorm" in kind for kind in self.kinds)

    @property
    def has_maps(self) -> bool:
        """Return whether the model has images inside."""
        return any("Conv2d" in kind for kind in self.kinds)


def step_of(ran: Report | Trace, device: Device | None) -> Step:
    """Return what a report or a trace says of a step on a GPU, or ``None`` for the CPU."""
    modules = ran.modules.values() if isinstance(ran, Report) else ran.modules
    return Step(
        scenario=ran.scenario,
        device=device,
        batch=ran.batch_size,
        dtypes=dtypes_of(ran),
        kinds=frozenset(module.type for module in modules),
    )


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


def _change(
    axis: str,
    label: str,
    text: str,
    why: str,
    *,
    accuracy: Accuracy = Accuracy.NONE,
    cost: str = "",
    source: str = "",
    snippet: str = "",
    batch: int | None = None,
    **fields: Any,
) -> Change:
    return Change(
        rule=SCENARIO,
        axis=axis,
        label=label,
        text=text,
        why=why,
        accuracy=accuracy,
        cost=cost,
        source=source,
        snippet=tuple(snippet.splitlines()),
        batch=batch,
        scenario=fields,
    )


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
    return _change(
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
    return _change(
        "precision",
        f"precision {chosen}",
        f"run the forward under autocast in {dtype}",
        "products take half the memory and the tensor cores",
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
    return _change(
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
    return _change(
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
    return _change(
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
    return _change(
        "grad",
        "torch.no_grad() around the forward",
        "run the forward without gradients",
        "nothing is trained, and each layer keeps what a backward would read",
        snippet="with torch.inference_mode():",
        grad_enabled=False,
    )


# ---------------------------------------------------------------------------- the optimizer


def _fused(now: Step) -> Change | str:
    scenario = now.scenario
    if scenario.optimizer not in FUSED_OPTIMIZERS:
        return f"{scenario.optimizer} has no fused implementation"
    if scenario.optimizer_implementation is OptimizerImplementation.FUSED:
        return ""
    return _change(
        "optimizer",
        f"{scenario.optimizer} with fused=True, no temporaries",
        f"use the fused {scenario.optimizer}",
        "the default makes temporaries as large as the parameters",
        snippet=f"torch.optim.{_CLASSES[scenario.optimizer]}(model.parameters(), fused=True)",
        optimizer_implementation=OptimizerImplementation.FUSED,
    )


def _eight_bit(now: Step) -> Change | str:
    if now.scenario.optimizer not in _ADAMS:
        return ""
    return _optimizer(
        now,
        "adamw-8bit",
        "optimizer AdamW8bit of bitsandbytes",
        accuracy=Accuracy.SMALL,
        cost="",
        source=_EIGHT_BIT,
        snippet="bitsandbytes.optim.AdamW8bit(model.parameters())",
    )


def _adafactor(now: Step) -> Change | str:
    return _optimizer(
        now,
        "adafactor",
        "optimizer adafactor",
        source=_ADAFACTOR,
        snippet="torch.optim.Adafactor(model.parameters())",
    )


def _momentum(now: Step) -> Change | str:
    return _optimizer(
        now,
        "sgd-momentum",
        "optimizer sgd-momentum",
        snippet="torch.optim.SGD(model.parameters(), lr=…, momentum=0.9)",
    )


def _optimizer(
    now: Step,
    name: str,
    label: str,
    *,
    accuracy: Accuracy = Accuracy.RETRAIN,
    cost: str = "needs another learning rate",
    source: str = "",
    snippet: str,
) -> Change | str:
    current = now.scenario.optimizer or "sgd"
    if current == name:
        return ""
    if current in _STATE_FREE:
        return f"{current} has no states"
    return _change(
        "optimizer",
        label,
        f"train with the {label}",
        f"it keeps other states than {current}",
        accuracy=accuracy,
        cost=cost,
        source=source,
        snippet=snippet,
        **optimizer_fields(name),
    )


def optimizer_fields(name: str) -> dict[str, Any]:
    """Return the fields of a scenario with another optimizer: options are those of one alone."""
    return {"optimizer": name, "optimizer_options": (), "optimizer_implementation": None}


def _zero_grad(now: Step) -> Change | str:
    if now.scenario.zero_grad is ZeroGrad.BEFORE_FORWARD:
        return ""
    return _change(
        "zero_grad",
        "zero_grad(set_to_none=True) before the forward",
        "let the gradients go before the forward",
        "those of the step before stay alive through it",
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
    return _change(
        "allocator",
        f"allocator: {option}",
        "let the allocator's segments grow",
        "less memory lies between tensors",
        snippet=f"export PYTORCH_CUDA_ALLOC_CONF={settings}",
        allocator=settings,
    )


def _channels_last(now: Step) -> Change | str:
    if now.device is None or now.scenario.channels_last or not now.has_maps:
        return ""
    return _change(
        "channels-last",
        "maps with their channels last",
        "keep maps with their channels last",
        "tensor cores read them so; in the other order each convolution turns them",
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
    Idea(name="fused optimizer", axis="optimizer", make=_fused),
    Idea(name="8-bit optimizer states", axis="optimizer", make=_eight_bit),
    Idea(name="adafactor", axis="optimizer", make=_adafactor),
    Idea(name="sgd-momentum", axis="optimizer", make=_momentum),
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
