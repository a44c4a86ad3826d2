"""Products of matrices in two dtypes, which PyTorch refuses on every device but meta."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _alike(*positions: int) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
    """Return a rule that leaves the product to PyTorch where operands have one dtype.

    Source: ``TORCH_META_FUNC`` of ``mm``, ``addmm`` and ``addmv`` in PyTorch's
    ``aten/src/ATen/native/{LinearAlgebra,Blas}.cpp`` (2.6–2.13); meta kernels in Python promote.
    """

    def rule(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        dtype = args[positions[0]].dtype
        for position in positions[1:]:
            if args[position].dtype != dtype:
                given = ", ".join(str(args[at].dtype)[6:] for at in positions)
                raise RuntimeError(
                    f"the operands of a product must have the same dtype, got {given}"
                )
        return NotImplemented

    return rule


RULES = {
    "aten.mm.default": _alike(0, 1),
    "aten.mv.default": _alike(0, 1),
    "aten.addmm.default": _alike(0, 1, 2),
    "aten.addmv.default": _alike(0, 1, 2),
}
"""Rules by operator, as in ``shape_rules.SHAPE_RULES``."""
