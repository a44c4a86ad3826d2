"""What a virtual device is: the rules that make a run on meta tensors that of a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torchgauge.trace.kernels.autocast_lists import Policy
from torchgauge.trace.shapes.rule import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualDevice:
    """The rules of one target device."""

    type: str
    """As in ``torch.device(…).type``; every recorded tensor carries it."""
    kernels: Mapping[str, Callable[..., Any]]
    """Replacements of composite operators that the device resolves in its own way."""
    shape_rules: Mapping[str, Rule]
    """Output shapes of operators that answer otherwise than on the CPU; see ``shapes/table.py``."""
    autocast: Mapping[str, Policy]
    """What ``torch.autocast`` does to the arguments of operators; see ``autocast_lists.py``."""
    foreach: bool
    """Whether optimizers work on lists of tensors by default."""
    fused: frozenset[str] = frozenset()
    """Operators with a kernel of the device's own that are composite elsewhere, as ``name``."""
    takes_attention_kernel: Callable[..., bool] | None = None
    """Whether the fused fast path of an inference takes an attention kernel for query, key and
    value; it multiplies matrices otherwise."""
    host_states: bool
    """Whether what an optimizer makes without naming a device lies in host memory."""
