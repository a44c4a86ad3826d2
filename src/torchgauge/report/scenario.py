"""What is run: the frozen description of one execution, validated without torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from torchgauge.errors import ScenarioError


class Mode(StrEnum):
    """What the model is run for."""

    INFERENCE = "inference"
    """One forward without gradients, modules in evaluation mode."""
    TRAINING = "training"
    """Forward, loss, backward and one optimizer step, modules in training mode."""


class Precision(StrEnum):
    """The arithmetic of the run."""

    FP32 = "fp32"
    TF32 = "tf32"
    """float32 storage, TF32 matmuls on GPUs that have them; same bytes and FLOPs as fp32."""
    BF16 = "bf16"
    """Parameters, inputs and arithmetic in bfloat16."""
    FP16 = "fp16"
    """Parameters, inputs and arithmetic in float16."""

    @property
    def parameter_dtype(self) -> str | None:
        """Return the dtype that floating parameters are stored in, ``None`` for as they are."""
        return {"bf16": "bfloat16", "fp16": "float16"}.get(self.value)


OPTIMIZERS = (
    "sgd", "sgd-momentum", "adam", "adamw", "adagrad", "rmsprop", "adadelta", "adamax",
    "nadam", "radam", "asgd", "rprop", "adafactor", "none",
)  # fmt: skip
"""Names that a scenario accepts; ``none`` trains without an optimizer step."""

LOSSES = ("auto", "mean", "sum", "cross_entropy", "mse")
"""Names that a scenario accepts. ``auto`` takes the model's own loss if it returns one, else the
mean of all floating-point outputs; which of them was used is listed under ``assumptions``."""

CUSTOM_LOSS = "custom:"
"""What the name of a loss begins with that was given as a function."""

_DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Describe what is run.

    Raises:
        ScenarioError: for an unknown value, or an optimizer or loss in inference.

    >>> Scenario(mode="training", optimizer="adamw").optimizer
    'adamw'
    """

    mode: Mode | str = Mode.INFERENCE
    device: str = "cpu"
    precision: Precision | str = Precision.FP32
    optimizer: str | None = None
    loss: str | None = None
    checkpointing: bool = False
    accumulation: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "mode", _member(Mode, self.mode, "mode"))
        object.__setattr__(self, "precision", _member(Precision, self.precision, "precision"))
        if self.device not in _DEVICES:
            raise ScenarioError(
                f"unknown device {self.device!r}", hint="one of " + ", ".join(_DEVICES)
            )
        training = self.mode is Mode.TRAINING
        for name, allowed in (("optimizer", OPTIMIZERS), ("loss", LOSSES)):
            value = getattr(self, name)
            if value is None:
                if training:
                    object.__setattr__(self, name, "sgd" if name == "optimizer" else "auto")
                continue
            if not training:
                raise ScenarioError(
                    f"{name}={value!r} has no meaning in inference",
                    hint="use mode='training' (--mode training), or leave it out",
                )
            if value not in allowed and not (name == "loss" and value.startswith(CUSTOM_LOSS)):
                raise ScenarioError(
                    f"unknown {name} {value!r}", hint="one of " + ", ".join(allowed)
                )
        for name, neutral in (("checkpointing", False), ("accumulation", 1)):
            if not training and getattr(self, name) != neutral:
                raise ScenarioError(
                    f"{name}={getattr(self, name)!r} has no meaning in inference",
                    hint="use mode='training' (--mode training), or leave it out",
                )
        if self.accumulation < 1:
            raise ScenarioError(
                f"accumulation={self.accumulation} is not a number of micro-batches",
                hint="use 1 or more",
            )

    @property
    def is_training(self) -> bool:
        """Return whether gradients are computed."""
        return self.mode is Mode.TRAINING

    def to_dict(self) -> dict[str, Any]:
        """Return the scenario as plain data, in the order of the JSON report."""
        return {
            "mode": str(self.mode),
            "device": self.device,
            "precision": str(self.precision),
            "optimizer": self.optimizer,
            "loss": self.loss,
            "checkpointing": self.checkpointing,
            "accumulation": self.accumulation,
        }


def _member(kind: type[StrEnum], value: object, name: str) -> StrEnum:
    try:
        return kind(str(value))
    except ValueError:
        raise ScenarioError(
            f"unknown {name} {str(value)!r}", hint="one of " + ", ".join(kind)
        ) from None
