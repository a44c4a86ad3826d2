"""Products of matrices in two dtypes, which PyTorch refuses on every device but meta."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch


def _alike(*positions: int) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
    """Return a rule that leaves the product to PyTorch unless its operands are floats of several.

    Source: ``TORCH_META_FUNC`` of ``mm``, ``addmm`` and ``addmv`` in PyTorch's
    ``aten/src/ATen/native/{LinearAlgebra,Blas}.cpp`` (2.6–2.13); meta kernels in Python promote.
    """

    def rule(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        check_alike([args[position].dtype for position in positions])
        return NotImplemented

    return rule


def check_alike(dtypes: Sequence[torch.dtype]) -> None:
    """Refuse floats of several dtypes.

    Raises:
        RuntimeError: names the dtypes.
    """
    first = dtypes[0]
    for dtype in dtypes:
        if dtype != first and first.is_floating_point and dtype.is_floating_point:
            given = ", ".join(str(one).removeprefix("torch.") for one in dtypes)
            raise RuntimeError(f"the operands of a product must have the same dtype, got {given}")


RULES = {
    "aten.mm.default": _alike(0, 1),
    "aten.mv.default": _alike(0, 1),
    "aten.addmm.default": _alike(0, 1, 2),
    "aten.addmv.default": _alike(0, 1, 2),
}
"""Rules by operator: part of ``shape_rules.SHAPE_RULES``."""
