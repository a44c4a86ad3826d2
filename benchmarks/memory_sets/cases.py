"""What one published measurement of GPU memory is: data alone, the same for every set."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

import torch
from torch import nn

from torchgauge.facts.scenario import Scenario

MIB = 2**20
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
"""Where the data files are looked for: beside the repository."""


class Measured(StrEnum):
    """Which bytes a published figure counts."""

    DEVICE = "device"
    """All that the device shows as in use: context, kernels' code, segments of the allocator."""
    DEVICE_GROWTH = "device-growth"
    """What the device shows, minus what it showed when the program began to watch it."""
    RESERVED = "reserved"
    """Segments that the caching allocator holds; no context."""
    ACTIVE = "active"
    """Blocks in use by tensors, or waiting for a stream; no context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input of the forward; an empty name is positional."""

    name: str = ""
    shape: tuple[int, ...]
    dtype: str = "float32"
    fill: int | None = None
    """The value of all elements, where values matter."""
    padded: bool = False
    """All rows but the first end in a zero: in an attention mask, that they are shorter."""

    def make(self) -> torch.Tensor:
        """Return a tensor, without storage where its values do not matter."""
        dtype = getattr(torch, self.dtype)
        if self.fill is None:
            return torch.empty(self.shape, dtype=dtype, device="meta")
        tensor = torch.full(self.shape, self.fill, dtype=dtype, device="cpu")
        if self.padded:
            tensor[1:, -1] = 0
        return tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryCase:
    """One measurement, and what has to be run to predict it."""

    id: str
    set: str
    family: str
    build: partial[nn.Module]
    """Makes the model; called where tensors are made on the meta device."""
    inputs: tuple[TensorSpec, ...]
    scenario: Scenario
    gpu: str
    """The GPU's name, as the device table has it."""
    measured: Measured
    measured_bytes: int
    published: Mapping[str, int] = field(default_factory=dict)
    """What other tools predicted, in bytes, where the source says so."""
    gpu_bytes: int | None = None
    """All memory of the GPU, as its driver reported it in that run."""
    out_of_memory: bool = False
    """The run died; ``measured_bytes`` is then what was in use before."""
    implausible: bool = False
    """It is less than tensors that are alive together take: the run died of something else."""
    cudnn_benchmark: bool = False
    """``torch.backends.cudnn.benchmark``: convolutions try kernels with large workspaces."""
    has_early_cudnn: bool = False
    """PyTorch before version 2, which asks cuDNN for algorithms by name."""
    prefetched_inputs: int = 0
    """Batches on the GPU besides the one that is being computed with."""
    context_bytes: int | None = None
    """What the device shows outside of the allocator under that software; ``None`` where it is
    not part of the figure."""
    holds_last_step: bool = False
    """The loop's variables keep inputs, outputs and loss until the next step assigns them."""

    def model(self) -> nn.Module:
        """Make the model; of no size where ``torchgauge.meta_construction`` is active."""
        return self.build()

    @property
    def batch(self) -> int:
        """Return the size of the first dimension of the first input."""
        return self.inputs[0].shape[0]

    @property
    def input_bytes(self) -> int:
        """Return the bytes of one batch of inputs."""
        return sum(
            math.prod(spec.shape) * getattr(torch, spec.dtype).itemsize for spec in self.inputs
        )

    @property
    def key(self) -> str:
        """Return everything that a trace of this case depends on, apart from the libraries."""
        made = f"{self.build.func.__module__}.{self.build.func.__qualname__}"
        return repr((made, self.build.args, self.build.keywords, self.inputs, self.scenario))


@dataclass(frozen=True, slots=True, kw_only=True)
class NotPredicted:
    """A published figure that no case stands for, and why."""

    id: str
    set: str
    why: str


def rows(path: Path) -> list[dict[str, str]]:
    """Read a data file.

    Raises:
        FileNotFoundError: when it is not there.
    """
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def image(batch: int, side: int) -> tuple[TensorSpec, ...]:
    """Return the one input of an image classifier, ``side`` pixels square."""
    return (TensorSpec(shape=(batch, 3, side, side)),)


def tokens(batch: int, length: int) -> tuple[TensorSpec, ...]:
    """Return what a causal language model is trained on: ids, mask and labels.

    One sequence has the full length and the others are shorter, as in a batch of real text: where
    nothing is padded, transformers leaves the mask away.
    """
    return tuple(
        TensorSpec(name=name, shape=(batch, length), dtype="int64", fill=fill, padded=padded)
        for name, fill, padded in (
            ("input_ids", 1, False), ("attention_mask", 1, True), ("labels", 1, False),
        )
    )  # fmt: skip
