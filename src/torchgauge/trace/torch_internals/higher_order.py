"""Higher-order operators, FlexAttention among them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch._C import DispatchKey  # 2.6–2.13
from torch._ops import HigherOrderOperator  # 2.6–2.13
from torch.torch_version import TorchVersion
from torch.utils._python_dispatch import (  # 2.6–2.13
    TorchDispatchMode,
    _get_current_dispatch_mode,
    _pop_mode_temporarily,
)

from torchgauge.trace.torch_internals.autocast import outside_autocast_key
from torchgauge.trace.torch_internals.modes import DispatchMode
from torchgauge.trace.torch_internals.replaced import replaced


@contextmanager
def higher_order_operators() -> Iterator[None]:
    """Let our dispatch modes see higher-order operators while the context is open.

    ``TorchDispatchMode.supports_higher_order_operators`` (2.13) asks for that. Without it (2.6),
    an operator refuses every mode whose class has not been registered with it.
    """
    if hasattr(TorchDispatchMode, "supports_higher_order_operators"):
        yield
        return
    dispatch: Callable[..., Any] = HigherOrderOperator.dispatch

    def to_mode(self: Any, dispatch_key: DispatchKey, /, *args: Any, **kwargs: Any) -> Any:
        if dispatch_key == DispatchKey.Python and isinstance(
            _get_current_dispatch_mode(), DispatchMode
        ):
            with _pop_mode_temporarily() as mode:
                return mode.__torch_dispatch__(self, (), args, kwargs)
        return dispatch(self, dispatch_key, *args, **kwargs)

    with replaced(HigherOrderOperator, dispatch=to_mode):
        yield


def higher_order_kernels(kernels: Mapping[str, Callable[..., Any]]) -> AbstractContextManager[None]:
    """Run ``kernels`` in place of the higher-order operators of these names, above autograd.

    A kernel may return ``NotImplemented``, and ``vmap`` and the like keep PyTorch's way. The other
    operators fall through autocast, as on every device. ``HigherOrderOperator.__call__``: 2.6–2.13.
    """
    call: Callable[..., Any] = HigherOrderOperator.__call__

    def to_kernel(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        kernel = kernels.get(self.name())
        result: Any = NotImplemented
        if kernel is not None and torch._C._functorch.peek_interpreter_stack() is None:
            result = kernel(*args, **kwargs)
        if result is NotImplemented:
            with outside_autocast_key():
                result = call(self, *args, **kwargs)
        return result

    return replaced(HigherOrderOperator, __call__=to_kernel)


def scan_by_halves(
    function: Callable[..., Any], scanned: Sequence[Any], additional: Sequence[Any]
) -> list[Any]:
    """Return ``torch._higher_order_ops.associative_scan.generic_associative_scan`` (2.6–2.13)."""
    from torch._higher_order_ops.associative_scan import generic_associative_scan

    extra = {"additional_inputs": additional} if additional else {}
    return list(generic_associative_scan(function, list(scanned), **extra))


FLEX_STATISTICS = 1 if torch.__version__ < TorchVersion("2.9.0.dev0") else 2
"""How many statistics FlexAttention returns: log-sum-exp, and from 2.9 on the row maximum."""


@contextmanager
def flex_attention_kernel(kernel: Callable[..., Any], *, any_device: bool) -> Iterator[None]:
    """Let FlexAttention run through ``kernel`` while the context is open, on every device if asked.

    In ``torch.nn.attention.flex_attention`` (2.6–2.13), ``_validate_device`` refuses devices by
    name, and the operator ``flex_attention_hop`` differentiates its score function by tracing it,
    which cannot be done under a dispatch mode (the process ends).
    """
    module: Any = sys.modules.get("torch.nn.attention.flex_attention")
    if module is None or not hasattr(module, "flex_attention_hop"):
        yield
        return
    values: dict[str, Any] = {"flex_attention_hop": kernel}
    if any_device and hasattr(module, "_validate_device"):
        values["_validate_device"] = lambda *tensors: None
    with replaced(module, **values):
        yield
