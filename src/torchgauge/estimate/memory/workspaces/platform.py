"""What a rule may depend on besides the operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from torchgauge.facts.trace import OpRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Caches:
    """Bytes of the caches of one core, by which kernels choose their blocks.

    By default those of most servers with AVX-512, so that a report is the same on every machine.
    """

    first: int = 32 * 1024
    second: int = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """The device and the software that kernels run on."""

    type: str
    """``"cpu"`` or ``"cuda"``."""
    compute_capability: tuple[int, int] = (8, 0)
    torch_release: str = "2.13"
    cudnn_benchmark: bool = False
    """``torch.backends.cudnn.benchmark``: convolutions run the plan that was fastest."""
    channels_last: bool = False
    """Whether images lie with their channels last, as tensor cores want them."""
    has_early_cudnn: bool = field(default=False, repr=False)  # no trace depends on it
    """Whether PyTorch asks cuDNN for algorithms by name, as before version 2."""
    has_early_onednn: bool = False
    """Whether oneDNN's LSTM asks for scratch memory as up to version 3.7."""
    threads: int = 1
    """Threads of the CPU's kernels (``torch.get_num_threads()``). One by default, so that a report
    is the same on every machine: each further thread adds its own partial sums."""
    caches: Caches = Caches()


Rule: TypeAlias = Callable[[OpRecord, Platform], tuple[int, ...]]
"""Bytes of the blocks that the kernel of an op has alive at its worst moment."""
Rules: TypeAlias = dict[str, Rule]
"""By operator, overload included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspaces:
    """What kernels allocate for themselves on a platform and free before they return."""

    rules: Mapping[str, Rule]
    """By operator, overload included; all others take nothing."""
    platform: Platform

    def __call__(self, op: OpRecord) -> tuple[int, ...]:
        """Return the bytes of the blocks of one operator."""
        rule = self.rules.get(op.name)
        return () if rule is None else tuple(size for size in rule(op, self.platform) if size > 0)
