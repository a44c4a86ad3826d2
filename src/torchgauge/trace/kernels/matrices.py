"""Linear algebra as devices run it, where PyTorch takes another way while a mode watches.

Composite operators ask ``isTensorSubclassLike`` whether a tensor may be what it seems, which it
never is without data or under a dispatch mode, and then compute vectors that nobody asked for.
Source: ``_requires_fw_or_bw_grad`` in PyTorch's ``aten/src/ATen/native/BatchLinearAlgebra.cpp``
(2.6–2.13).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def _has_gradient(source: torch.Tensor) -> bool:
    if torch.is_grad_enabled() and source.requires_grad:
        return True
    return torch.autograd.forward_ad.unpack_dual(source).tangent is not None


def singular_values(source: torch.Tensor, *, driver: str | None = None) -> torch.Tensor:
    """``[…, m, n] → […, min(m, n)]``; vectors are computed where the backward needs them."""
    result: torch.Tensor = torch.ops.aten._linalg_svd(
        source, False, _has_gradient(source), driver=driver
    )[1]
    return result


def symmetric_eigenvalues(source: torch.Tensor, UPLO: str = "L") -> torch.Tensor:
    """``[…, n, n] → […, n]``; vectors are computed where the backward needs them."""
    result: torch.Tensor = torch.ops.aten._linalg_eigh(source, UPLO, _has_gradient(source))[0]
    return result


def eigenvalues(source: torch.Tensor) -> torch.Tensor:
    """``[…, n, n] → […, n]`` complex; vectors are computed where the backward needs them."""
    if not _has_gradient(source):
        values: torch.Tensor = torch.ops.aten._linalg_eigvals(source)
        return values
    result: torch.Tensor = torch.ops.aten.linalg_eig(source)[0]
    return result


KERNELS: dict[str, Callable[..., Any]] = {
    "linalg_svdvals": singular_values,
    "linalg_eigvalsh": symmetric_eigenvalues,
    "linalg_eigvals": eigenvalues,
}
"""For every device."""
