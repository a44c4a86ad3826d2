"""Dtypes in all the ways in which the other tools take them."""

from __future__ import annotations

from typing import Any

import torch

from torchgauge.errors import InputError


def dtype_of(value: Any) -> torch.dtype:
    """Return the dtype of ``torch.long``, ``torch.LongTensor`` or ``"torch.LongTensor"``.

    These are what ``Tensor.type`` takes; the bare name ``"int64"`` works too.

    Raises:
        InputError: the value is none of them.
    """
    found: Any = value
    if isinstance(value, str):
        found = torch
        for part in value.removeprefix("torch.").split("."):
            found = getattr(found, part, None)
    found = getattr(found, "dtype", found)
    if not isinstance(found, torch.dtype):
        raise InputError(
            f"unknown dtype {value!r}", hint="write torch.float or torch.long, for example"
        )
    return found
