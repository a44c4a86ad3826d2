"""Kernels of operators: which exist, how to call one, and how to add one for meta tensors."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch._C import DispatchKey  # 2.6–2.13
from torch._ops import OpOverload as OpOverload  # 2.6–2.13: what a dispatch mode receives

from torchgauge.trace.torch_internals.replaced import replaced


@contextmanager
def list_kernels_on_meta() -> Iterator[None]:
    """Let optimizers and gradient clipping take lists of meta tensors while the context is open.

    They ask ``_get_foreach_kernels_supported_devices``, ``_get_fused_kernels_supported_devices``
    (``torch.utils._foreach_utils``) and ``_get_capturable_supported_devices``
    (``torch.optim.optimizer``; all 2.6–2.13) for the types of device, by names that modules of
    ``torch.optim`` have imported.
    """
    asked = (
        "_get_foreach_kernels_supported_devices", "_get_fused_kernels_supported_devices",
        "_get_capturable_supported_devices",
    )  # fmt: skip
    places = ("torch.optim.", "torch.utils._foreach_utils")
    modules = [module for key, module in sys.modules.items() if key.startswith(places)]
    before = [
        (module, name, vars(module)[name])
        for module in modules
        for name in asked
        if name in vars(module)
    ]
    for module, name, function in before:
        setattr(module, name, lambda *a, function=function, **k: [*function(*a, **k), "meta"])
    try:
        yield
    finally:
        for module, name, function in before:
            setattr(module, name, function)


@contextmanager
def meta_kernels(
    kernels: Mapping[str, Callable[..., Any]], fused: Iterable[str] = ()
) -> Iterator[None]:
    """Replace composite operators for meta tensors while the context is open.

    Those in ``fused`` stay whole: a kernel for the meta device makes autograd differentiate them
    as they are, and the dispatch mode, which comes before it, says what they return.
    ``torch.library.Library.m`` (2.6–2.13), because ``impl`` refuses composite operators.

    Does nothing inside another such context. Registered at ``AutogradMeta``, above the dispatch
    mode and only for meta tensors, so that what real tensors do is not touched.
    ``torch.library.Library._destroy``: 2.6–2.13.
    """
    global _kernels_are_set
    if _kernels_are_set:
        yield
        return
    library = torch.library.Library("aten", "IMPL")
    _kernels_are_set = True
    try:
        for name, kernel in kernels.items():
            library.impl(name, kernel, "AutogradMeta")
        registry: Any = library.m
        for name in fused:
            registry.impl(name, "Meta", _left_to_the_mode, False)
        yield
    finally:
        _kernels_are_set = False
        library._destroy()


_kernels_are_set = False


def attention_fused_on_meta() -> AbstractContextManager[None]:
    """Let attention take its fused fast path for meta tensors as it does on a device.

    ``MultiheadAttention`` and ``TransformerEncoderLayer`` take it on ``cpu``, ``cuda`` and the
    device of this name: ``torch.utils.backend_registration._privateuse1_backend_name`` (2.6–2.13).
    """
    return replaced(torch.utils.backend_registration, _privateuse1_backend_name="meta")


def _left_to_the_mode(*args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError("no kernel for meta tensors outside of an analysis")


def is_composite(overload: OpOverload) -> bool:
    """Return whether an operator only calls others (``CompositeImplicitAutograd`` in C++).

    Not ``silu_backward`` and the few like it, for which devices have a kernel of their own too.
    ``torch._C._dispatch_has_kernel_for_dispatch_key``: 2.6–2.13. The method of the overload
    itself also answers yes for Python decompositions, which do not run on real devices.
    """
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return has_kernel(overload.name(), "CompositeImplicitAutograd") and not has_kernel(
        overload.name(), "CPU"
    )


def call_kernel(overload: Any, *args: Any, **kwargs: Any) -> Any:
    """Call the kernel that an operator has for the CPU, or for all devices, on any tensors.

    Only for kernels that call other operators. ``OpOverload._op_dk``: 2.6–2.13.
    """
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    keys = ("CPU", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional")
    key = next(key for key in keys if has_kernel(overload.name(), key))
    return overload._op_dk(getattr(DispatchKey, key), *args, **kwargs)


def differentiated(overload: Any, *args: Any, **kwargs: Any) -> Any:
    """Call an operator by autograd's own kernel, the one for the CPU, on meta tensors.

    For a kernel in its place, under a dispatch mode. ``OpOverload.redispatch``: 2.6–2.13.
    """
    keys = torch._C.DispatchKeySet(DispatchKey.AutogradCPU)
    return overload.redispatch(keys | torch._C.DispatchKeySet(DispatchKey.Python), *args, **kwargs)


def below_autograd() -> AbstractContextManager[Any]:
    """Return a context in which no operator is differentiated (2.6–2.13)."""
    context: AbstractContextManager[Any] = torch._C._AutoDispatchBelowAutograd()
    return context


_ALIASING = ("aten::detach", "aten::alias")
"""Their kernels call them again, and nothing is computed in them."""


def irregular_kernel(
    func: OpOverload, args: Sequence[Any], tensor: torch.Tensor
) -> Callable[..., Any] | None:
    """Return the kernel of an operator for that kind of tensor, ``None`` without one.

    Called with it, what the kernel calls passes the active modes; it takes no number for a tensor.
    ``OpOverload.redispatch`` and ``torch._C._dispatch_has_computed_kernel_for_dispatch_key``:
    2.6–2.13.
    """
    kind = "NestedTensor"
    if not tensor.is_nested:
        kind = {torch.strided: "", torch.sparse_coo: "Sparse"}.get(tensor.layout, "SparseCsr")
    name = kind + tensor.device.type.upper()
    key = getattr(DispatchKey, name, None)
    if key is None or not isinstance(func, OpOverload) or func._schema.name in _ALIASING:
        return None
    if not torch._C._dispatch_has_computed_kernel_for_dispatch_key(func.name(), name):
        return None
    taken = zip(func._schema.arguments, args, strict=False)
    if any(str(a.type) == "Tensor" and isinstance(v, (int, float, complex)) for a, v in taken):
        return None
    return functools.partial(func.redispatch, torch._C.DispatchKeySet(key))


def sent_already(func: Any, args: tuple[Any, ...]) -> Any:
    """Return what a collective does, as if it were over: its first tensors, work that is done.

    Nothing is sent, and no other process is waited for. ``_create_work_from_future``: 2.6–2.13.
    """
    future: torch.futures.Future[list[Any]] = torch.futures.Future()
    future.set_result([])
    c10d: Any = torch._C._distributed_c10d
    work = c10d._create_work_from_future(future).boxed()
    returns = len(func._schema.returns)
    return (args[0], work) if returns > 1 else work if returns else None
