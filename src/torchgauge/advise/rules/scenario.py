"""Other ways to run the same step: precision, optimizer, checkpointing, memory format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from torchgauge.advise.change import Change
from torchgauge.advise.subject import Subject
from torchgauge.devices import Device, find_device
from torchgauge.facts.loop.advice import Accuracy
from torchgauge.facts.precision import arithmetic_of, dtypes_of
from torchgauge.facts.scenario import FUSED_OPTIMIZERS, OptimizerImplementation, Precision

_AUTOCAST = "Micikevicius et al., Mixed Precision Training, arXiv 1710.03740"
_CHECKPOINTING = "Chen et al., Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174"


class HowItRuns:
    """Propose what the scenario leaves out."""

    name = "scenario"
    about = "precision, optimizer, checkpointing and memory format that the step does without"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield changes of the scenario that its device can do."""
        scenario = subject.report.scenario
        device = None if scenario.device == "cpu" else find_device(scenario.device)
        yield from self._precision(subject, device)
        if device is not None and not scenario.channels_last and _has_maps(subject):
            yield self._change(
                "channels-last",
                "keep maps with their channels last",
                "tensor cores read them so; in the other order each convolution turns them",
                source="PyTorch tutorial, Channels Last Memory Format in PyTorch",
                snippet=(
                    "model = model.to(memory_format=torch.channels_last)",
                    "x = x.to(memory_format=torch.channels_last)",
                ),
                channels_last=True,
            )
        if not scenario.is_training:
            if scenario.grad_enabled:
                yield self._change(
                    "no-grad",
                    "run the forward without gradients",
                    "nothing is trained, and each layer keeps what a backward would read",
                    snippet=("with torch.inference_mode():",),
                    grad_enabled=False,
                )
            return
        if scenario.optimizer in FUSED_OPTIMIZERS and not scenario.optimizer_implementation:
            yield self._change(
                "fused-optimizer",
                f"use the fused {scenario.optimizer}",
                "the default makes temporaries as large as the parameters",
                snippet=(f"torch.optim.{_class_of(scenario.optimizer)}(…, fused=True)",),
                optimizer_implementation=OptimizerImplementation.FUSED,
            )
        if not scenario.checkpointing:
            yield self._change(
                "checkpointing",
                "recompute the repeated blocks in the backward",
                "what their layers save for the backward is most of the activations",
                cost="each block's forward runs twice",
                source=_CHECKPOINTING,
                snippet=("x = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False)",),
                checkpointing=True,
            )

    def rewrite(self, model: nn.Module, change: Change) -> None:
        """Nothing in the model changes."""

    def _precision(self, subject: Subject, device: Device | None) -> Iterator[Change]:
        scenario = subject.report.scenario
        precision = Precision(scenario.precision)
        plain = arithmetic_of(precision, dtypes_of(subject.report)) in ("fp32", "tf32")
        if device is None or precision.autocast_dtype is not None or not plain:
            return
        chosen = Precision.BF16_AUTOCAST if device.supports("bf16") else Precision.FP16_AUTOCAST
        if not device.supports(str(chosen).removesuffix("-autocast")):
            return
        scaling = "" if chosen is Precision.BF16_AUTOCAST else "; needs a GradScaler"
        dtype = "bfloat16" if chosen is Precision.BF16_AUTOCAST else "float16"
        yield self._change(
            "autocast",
            f"run the forward under autocast in {dtype}",
            "products take half the memory and the tensor cores",
            accuracy=Accuracy.SMALL,
            cost=f"products are rounded to 16 bits{scaling if scenario.is_training else ''}",
            source=_AUTOCAST,
            snippet=(f'with torch.autocast("cuda", dtype=torch.{dtype}):',),
            precision=chosen,
        )

    def _change(
        self,
        axis: str,
        text: str,
        why: str,
        *,
        accuracy: Accuracy = Accuracy.NONE,
        cost: str = "",
        source: str = "",
        snippet: tuple[str, ...] = (),
        **fields: Any,
    ) -> Change:
        return Change(
            rule=self.name,
            axis=axis,
            text=text,
            why=why,
            accuracy=accuracy,
            cost=cost,
            source=source,
            snippet=snippet,
            scenario=fields,
        )


def _has_maps(subject: Subject) -> bool:
    return any(isinstance(module, nn.Conv2d) for module in subject.modules.values())


def _class_of(optimizer: str) -> str:
    return {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}.get(optimizer, optimizer)
