"""The settings and keys that decide which kernel an operator reaches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from torchgauge.trace.torch_internals.autocast import _AUTOCAST_KEY

_FLAGS: tuple[Callable[[], Any], ...] = tuple(
    getattr(torch._C, name)
    for name in (
        "_get_deterministic_algorithms", "_get_mkldnn_enabled", "_get_cudnn_enabled",
        "_get_cudnn_deterministic",
    )
    if hasattr(torch._C, name)
)  # fmt: skip
"""Settings that choose kernels (2.6–2.13)."""
_autocast_is_on: Callable[[Any], bool] = torch._C._dispatch_tls_is_dispatch_key_included
_autocast_dtypes = tuple(partial(torch.get_autocast_dtype, kind) for kind in ("cpu", "cuda"))
_added_keys: Callable[[], Any] = torch._C._dispatch_tls_local_include_set
_left_out_keys: Callable[[], Any] = torch._C._dispatch_tls_local_exclude_set


def dispatch_state() -> tuple[Any, ...]:
    """Return all settings that may change what an operator without data answers.

    The dispatch keys that this thread adds and leaves out hold inference mode, autocast and
    function transforms (``_dispatch_tls_local_include_set`` and ``…_exclude_set``: 2.6–2.13). A
    default device is a function mode.
    """
    return (
        _default_dtype(), _is_grad_enabled(), *[flag() for flag in _FLAGS], *dispatch_keys_now()
    )  # fmt: skip


def dispatch_keys_now() -> tuple[Any, ...]:
    """Return what of this thread decides where an operator goes: keys, and what autocast casts to.

    Kernels chosen by settings are not told apart: views and matrix products without data have one.
    """
    keys = _added_keys().raw_repr(), _left_out_keys().raw_repr()
    if _autocast_is_on(_AUTOCAST_KEY):
        return *keys, *[dtype() for dtype in _autocast_dtypes]
    return keys


_default_dtype, _is_grad_enabled = torch.get_default_dtype, torch.is_grad_enabled
_keys_of: Callable[[torch.Tensor], Any] = torch._C._dispatch_keys


def dispatch_keys(tensor: torch.Tensor) -> int:
    """Return where a tensor's operators go: its device, class, conjugation, negation, inference.

    ``torch._C._dispatch_keys`` and ``DispatchKeySet.raw_repr``: 2.6–2.13.
    """
    keys: int = _keys_of(tensor).raw_repr()
    return keys
