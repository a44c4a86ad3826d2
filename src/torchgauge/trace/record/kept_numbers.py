"""Python numbers that autograd keeps as tensors: the factor of ``x * 0.5`` for its gradient.

The number becomes a tensor on the CPU before the operator, and the backward node saves it. Source:
``mul.Tensor`` and ``div.Tensor`` in PyTorch's ``tools/autograd/derivatives.yaml`` (2.6–2.13).
"""

from __future__ import annotations

from typing import Any

import torch

from torchgauge.trace.shapes.rule import Args

_PRODUCTS = frozenset(
    f"aten.{base}.{overload}"
    for base in ("mul", "mul_", "div", "div_")
    for overload in ("Tensor", "Tensor_mode")
)


def keeps_number(name: str, args: Args) -> bool:
    """Return whether autograd saves an operator's Python number for the backward.

    Hooks on what is saved, such as a checkpoint's, do not see numbers (``saved_variable.cpp``).
    """
    if name not in _PRODUCTS or isinstance(args[1], torch.Tensor):
        return False
    return torch.is_grad_enabled() and bool(args[0].requires_grad)


KEPT = "kept_number"
"""The keyword under which it is noted that an operator took the number that a node had saved."""
_NODES = frozenset(("MulBackward0", "DivBackward0", "DivBackward1"))


def takes_kept_number(name: str, args: Args, node: Any) -> bool:
    """Return whether an operator under a backward node is its formula's, with the saved number."""
    if name not in _PRODUCTS or isinstance(args[1], torch.Tensor):
        return False
    return not torch.is_grad_enabled() and node.name() in _NODES


def saved_factor(output: torch.Tensor | None) -> torch.Tensor | None:
    """Return the number that the node of a result has saved."""
    if output is None:
        return None
    saved = getattr(output.grad_fn, "_saved_other", None)
    return saved if isinstance(saved, torch.Tensor) and saved.dim() == 0 else None
