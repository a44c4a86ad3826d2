"""Autocast on devices that are simulated: a dispatch key of its own, and the casts around it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch._C import DispatchKey  # 2.6–2.13

from torchgauge.trace.torch_internals.modes import without_modes
from torchgauge.trace.torch_internals.replaced import replaced

_AUTOCAST_KEY: Any = getattr(DispatchKey, "AutocastIPU")  # noqa: B009  # not in the stubs
"""A key above autograd that no device of today uses (2.6–2.13). Excluded where nothing asks."""


@contextmanager
def autocast_key(
    kernels: Callable[[], dict[str, Callable[..., Any]]],
) -> Iterator[Callable[[bool], None]]:
    """Yield a switch that sends the operators of ``aten`` through ``kernels``, above autograd.

    The switch acts on tensors of all kinds, in the thread that calls it; other operators fall
    through the key. ``kernels`` is called, and its kernels are registered, when the switch is
    first turned on. ``torch._C._dispatch_tls_set_dispatch_key_included`` and ``…_excluded``:
    2.6–2.13.
    """
    libraries: list[Any] = []

    def switch(on: bool) -> None:
        if on and not libraries:
            others, library = (torch.library.Library(name, "IMPL") for name in ("_", "aten"))
            libraries.extend((library, others))
            others.fallback(torch.library.fallthrough_kernel, _AUTOCAST_KEY.name)
            for name, kernel in kernels().items():
                library.impl(name.removesuffix(".default"), kernel, _AUTOCAST_KEY.name)
        torch._C._dispatch_tls_set_dispatch_key_included(_AUTOCAST_KEY, on)
        torch._C._dispatch_tls_set_dispatch_key_excluded(_AUTOCAST_KEY, not on)

    try:
        yield switch
    finally:
        switch(False)
        for library in libraries:
            library._destroy()


def outside_autocast_key() -> Any:
    """Return a context in which operators do not go through the key of ``autocast_key``."""
    return torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(_AUTOCAST_KEY))


@contextmanager
def autocast_of_the_caller() -> Iterator[None]:
    """Let operators that a dispatch mode calls go through the key of ``autocast_key``, if it is on.

    ``torch._C._dispatch_tls_is_dispatch_key_included``, ``…_excluded``: 2.6–2.13.
    """
    excluded = torch._C._dispatch_tls_is_dispatch_key_excluded(_AUTOCAST_KEY)
    if torch._C._dispatch_tls_is_dispatch_key_included(_AUTOCAST_KEY):
        torch._C._dispatch_tls_set_dispatch_key_excluded(_AUTOCAST_KEY, False)
    try:
        yield
    finally:
        torch._C._dispatch_tls_set_dispatch_key_excluded(_AUTOCAST_KEY, excluded)


def casts_of_autograd_functions(
    device_of: Callable[[torch.Tensor, str], str],
) -> AbstractContextManager[None]:
    """Let ``torch.amp.custom_fwd`` cast tensors that are elsewhere than on the device it names.

    ``device_of`` gives the type of device to look for, by a tensor and the type named.
    ``torch.amp.autocast_mode._cast``: 2.6–2.13.
    """
    module: Any = torch.amp.autocast_mode
    cast = module._cast

    def cast_for_device(value: Any, device_type: str, dtype: torch.dtype) -> Any:
        if isinstance(value, torch.Tensor):
            device_type = device_of(value, device_type)
        return cast(value, device_type, dtype)

    return replaced(module, _cast=cast_for_device)


def has_no_cuda() -> bool:
    """Return whether ``torch.autocast("cuda")`` switches itself off when it is made.

    ``torch.cuda.amp.common.amp_definitely_not_available``: 2.6–2.13.
    """
    return bool(torch.cuda.amp.common.amp_definitely_not_available())


@functools.cache
def cached_casts_require_grad() -> bool:
    """Return whether autocast differentiates the casts that it caches under ``no_grad`` too.

    It decides whether a linear layer of an inference folds its batch. Yes in 2.13, no in 2.6.
    """
    with without_modes(), torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        weight = torch.ones((1, 1), requires_grad=True, device="cpu")
        torch.mm(torch.ones((1, 1), device="cpu"), weight)
        with torch.enable_grad():
            return torch.mm(torch.ones((1, 1), device="cpu"), weight).requires_grad
