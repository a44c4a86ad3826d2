"""The only file that imports private torch names. Each with the versions it was seen in.

If one of them disappears, this is the file to change; everything else uses the names below.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._ops import OpOverload as OpOverload  # 2.6–2.13: what a dispatch mode receives
from torch.utils._python_dispatch import (  # 2.6–2.13
    TorchDispatchMode,
    _get_current_dispatch_mode_stack,
    _pop_mode,
    _push_mode,
)

NO_SEQUENCE_NR = 2**64 - 1
"""What autograd gives to nodes that no forward op made (AccumulateGrad)."""


class DispatchMode(TorchDispatchMode):
    """A dispatch mode whose handler is called as it is.

    From 2.8 on, the base class wraps handlers so that torch.compile leaves them alone, which
    imports all of ``torch._dynamo`` and costs time on every operator; nothing is compiled here.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


@contextmanager
def without_dispatch_modes() -> Iterator[None]:
    """Take every active dispatch mode off the stack, and put all back at the end.

    ``torch.utils._python_dispatch._disable_current_modes`` does this too, but imports half of
    the compiler.
    """
    modes = _get_current_dispatch_mode_stack()
    for _ in modes:
        _pop_mode()
    try:
        yield
    finally:
        for mode in modes:
            _push_mode(mode)


def current_autograd_node() -> Any:
    """Return the backward node that the engine is executing, ``None`` outside of backward.

    ``torch._C._current_autograd_node``: 2.6–2.13.
    """
    return torch._C._current_autograd_node()


def next_sequence_nr() -> int:
    """Return the number that the next differentiable forward op will give to its node.

    ``torch.autograd._get_sequence_nr``: 2.6–2.13.
    """
    number: int = torch.autograd._get_sequence_nr()  # type: ignore[attr-defined]
    return number


def node_sequence_nr(node: Any) -> int:
    """Return the sequence number of a backward node (``Node._sequence_nr``: 2.6–2.13)."""
    number: int = node._sequence_nr()
    return number


def node_variable(node: Any) -> torch.Tensor | None:
    """Return the leaf that an AccumulateGrad node writes to, ``None`` for other nodes."""
    return getattr(node, "variable", None)


def storage_key(storage: torch.UntypedStorage) -> int:
    """Return the address of the storage's C++ object: unique while it lives (2.6–2.13)."""
    key: int = storage._cdata
    return key


def profiler_range(name: str) -> Any:
    """Return a context manager that the profiler shows as one event of that name.

    ``torch._C._profiler._RecordFunctionFast`` (2.6–2.13) costs a microsecond; the public
    ``record_function`` calls two operators, which would show up among those of the model.
    """
    fast = getattr(torch._C._profiler, "_RecordFunctionFast", None)
    return torch.profiler.record_function(name) if fast is None else fast(name)


@contextmanager
def meta_kernels(kernels: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """Replace composite operators for meta tensors while the context is open.

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
        yield
    finally:
        _kernels_are_set = False
        library._destroy()


_kernels_are_set = False


def is_composite(overload: OpOverload) -> bool:
    """Return whether an operator only calls others (``CompositeImplicitAutograd`` in C++).

    ``torch._C._dispatch_has_kernel_for_dispatch_key``: 2.6–2.13. The method of the overload
    itself also answers yes for Python decompositions, which do not run on real devices.
    """
    return torch._C._dispatch_has_kernel_for_dispatch_key(
        overload.name(), "CompositeImplicitAutograd"
    )


@contextmanager
def flex_attention_kernel(kernel: Callable[..., Any]) -> Iterator[None]:
    """Let FlexAttention run on any device, through ``kernel``, while the context is open.

    In ``torch.nn.attention.flex_attention`` (2.6–2.13), ``_validate_device`` refuses devices by
    name, and the operator ``flex_attention_hop`` differentiates its score function by tracing it,
    which cannot be done under a dispatch mode (the process ends).
    """
    module: Any = sys.modules.get("torch.nn.attention.flex_attention")
    if module is None or not hasattr(module, "flex_attention_hop"):
        yield
        return
    before = module.flex_attention_hop, getattr(module, "_validate_device", _accept)
    module.flex_attention_hop, module._validate_device = kernel, _accept
    try:
        yield
    finally:
        module.flex_attention_hop, module._validate_device = before


def _accept(*tensors: torch.Tensor) -> None:
    """Accept every device."""


def without_transforms(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor that ``vmap``, ``grad`` and the like of ``torch.func`` have wrapped.

    What they wrap has a shape and no storage. ``torch._C._functorch``: 2.6–2.13.
    """
    functorch: Any = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return tensor


def unwrap_compiled(module: torch.nn.Module) -> torch.nn.Module:
    """Return the module that ``torch.compile`` wrapped (``_orig_mod``: 2.6–2.13)."""
    if isinstance(module, torch.jit.ScriptModule):
        return module
    original = module._modules.get("_orig_mod")
    return module if original is None else original


def flatten_subclass(tensor: torch.Tensor) -> list[torch.Tensor] | None:
    """Return the plain tensors inside a wrapper subclass, ``None`` for other tensors.

    ``__tensor_flatten__`` is the protocol of traceable subclasses (2.6–2.13).
    """
    if type(tensor) in (torch.Tensor, torch.nn.Parameter):
        return None
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        return None
    names, _ = flatten()
    return [getattr(tensor, name) for name in names]
