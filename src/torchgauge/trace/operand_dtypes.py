"""The check of operands' dtypes that real kernels make and meta kernels leave out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

_OPERANDS = {
    "aten.mm.default": 2, "aten.addmm.default": 3, "aten.mv.default": 2, "aten.addmv.default": 3,
    "aten.convolution.default": 3,
}  # fmt: skip
"""How many of the first arguments must be of one dtype. Source: ``addmm_impl_cpu_``, ``addmv``,
``check_input_same_type_as_parameters`` in ``aten/src/ATen/native`` and the CUDA kernels alike; on
meta tensors ``bmm``, ``dot`` and attention do make the check (2.6–2.13)."""


def check_operand_dtypes(name: str, args: Sequence[Any]) -> None:
    """Refuse a product of different dtypes, as the device would.

    Raises:
        RuntimeError: names both dtypes.
    """
    count = _OPERANDS.get(name)
    if count is None:
        return
    dtypes = [item.dtype for item in args[:count] if isinstance(item, torch.Tensor)]
    for dtype in dtypes:
        if dtype is not dtypes[0]:
            given = ", ".join(str(one).removeprefix("torch.") for one in dtypes)
            raise RuntimeError(
                f"the operands of {name.split('.')[1]} must have the same dtype, got {given}"
            )
