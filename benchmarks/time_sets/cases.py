"""What one published measurement of time is: data alone, the same for every set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.memory_sets.cases import DATA, NotPredicted, TensorSpec, image, rows
from torchgauge.facts.scenario import Scenario

__all__ = ["DATA", "NotPredicted", "TensorSpec", "TimeCase", "image", "rows"]

Loss = Callable[[Any], torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeCase:
    """One measurement, and what has to be run to predict it."""

    id: str
    set: str
    family: str
    """Models that share an architecture: cross-validation leaves all of them out together."""
    build: partial[nn.Module]
    """Makes the model; called where tensors are made on the meta device."""
    inputs: tuple[TensorSpec, ...]
    scenario: Scenario
    gpu: str
    """The GPU's name, as the device table has it."""
    measured_ms: float
    """A whole step: the forward, or forward, loss, backward and optimizer."""
    forward_ms: float | None = None
    """Of it, the forward and the loss; ``None`` where the source does not say."""
    loss: partial[Loss] | None = None
    """Makes the loss function; ``None`` for the scenario's."""
    compiled: bool = False
    """``torch.compile``."""
    empties_cache: bool = False
    """The loop gives the allocator's memory back before each step, so that each step asks the
    driver for all of it anew."""
    math_attention_in_half: bool = False
    """Attention without a fused kernel multiplies in half precision, as before PyTorch 2.5."""

    @property
    def batch(self) -> int:
        """Return the size of the first dimension of the first input."""
        return self.inputs[0].shape[0]

    @property
    def key(self) -> str:
        """Return everything that a trace of this case depends on, apart from the libraries."""
        made = f"{self.build.func.__module__}.{self.build.func.__qualname__}"
        return repr((
            made, self.build.args, sorted(self.build.keywords.items()), self.inputs,
            self.scenario, self.math_attention_in_half, self.loss and self.loss.func.__qualname__,
            *(("images with channels last",) if self.scenario.channels_last else ()),
        ))  # fmt: skip
