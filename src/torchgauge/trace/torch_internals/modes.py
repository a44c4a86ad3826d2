"""Dispatch modes and function modes: which are active, and how to work without them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import clear_frames
from types import FrameType, TracebackType
from typing import Any

import torch
from torch.overrides import _get_current_function_mode_stack  # 2.6–2.13
from torch.overrides import _pop_mode as _pop_function_mode
from torch.overrides import _push_mode as _push_function_mode
from torch.utils._python_dispatch import (  # 2.6–2.13
    TorchDispatchMode,
    _get_current_dispatch_mode_stack,
    _pop_mode,
    _push_mode,
)


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the stack; what an error inside has left there first.

        In 2.6 (no longer in 2.13) ``torch.utils.checkpoint`` leaves its modes when their generator
        ends, which lives on in the frames of the error.
        """
        while error is not None and dispatch_modes()[-1:] != [self]:
            clear_frames(error.__traceback__)
            error = error.__cause__ or error.__context__
        super().__exit__(kind, error, traceback)  # type: ignore[no-untyped-call]


@contextmanager
def without_modes() -> Iterator[None]:
    """Take every active mode off the stacks, and put all back at the end.

    Function modes too: a default device is one. ``_disable_current_modes`` in
    ``torch.utils._python_dispatch`` does the same for dispatch modes, but imports half of the
    compiler.
    """
    function_modes = _get_current_function_mode_stack()
    for _ in function_modes:
        _pop_function_mode()
    modes = _get_current_dispatch_mode_stack()
    for _ in modes:
        _pop_mode()
    try:
        yield
    finally:
        for mode in modes:
            _push_mode(mode)
        for mode in function_modes:
            _push_function_mode(mode)


def is_alone() -> bool:
    """Return whether one dispatch mode is active, and nothing that sees operators besides it.

    No function mode, no function transform, no tracing (``torch._C._len_torch_dispatch_stack``,
    ``_len_torch_function_stack``, ``_functorch.peek_interpreter_stack``, ``_get_tracing_state``:
    2.6–2.13).
    """
    return (
        _dispatch_count() == 1
        and _function_count() == 0
        and _transform() is None
        and _tracing_state() is None
    )


_internals: Any = torch._C
_dispatch_count: Callable[[], int] = _internals._len_torch_dispatch_stack
_function_count: Callable[[], int] = _internals._len_torch_function_stack
_transform: Callable[[], Any] = _internals._functorch.peek_interpreter_stack
_tracing_state: Callable[[], Any] = _internals._get_tracing_state


def dispatch_modes() -> list[Any]:
    """Return the dispatch modes that are active in this thread, the innermost last."""
    modes: list[Any] = _get_current_dispatch_mode_stack()
    return modes


def is_default_dispatch(kind: type) -> bool:
    """Return whether operators on tensors of a class run as on any tensor (2.6–2.13)."""
    own = getattr(kind, "__torch_dispatch__", None)
    return own is None or own in (
        torch.Tensor.__torch_dispatch__,
        torch._C._disabled_torch_dispatch_impl,
    )


def function_mode_count() -> int:
    """Return how many function modes are active (``_len_torch_function_stack``: 2.6–2.13)."""
    return _function_count()


def without_dispatch() -> Any:
    """Return a context in which dispatch modes see no operator.

    ``_DisableTorchDispatch``: 2.6–2.13.

    For what is cheap: taking the modes off their stack takes ten times as long.
    """
    return torch._C._DisableTorchDispatch()


def without_torch_function() -> Any:
    """Return a context in which ``__torch_function__`` of subclasses is not called (2.6–2.13)."""
    return torch._C.DisableTorchFunctionSubclass()


def has_transforms() -> bool:
    """Return whether a transform of ``torch.func`` runs (``peek_interpreter_stack``: 2.6–2.13)."""
    return _transform() is not None


def is_in_meta_kernel() -> bool:
    """Return whether a kernel for meta tensors that is written in Python calls an operator.

    Under ``torch.func`` these are called below the mode, which they do not switch off. They are
    the functions of ``torch._refs`` (``torch/_meta_registrations.py``: 2.6–2.14).
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("torch._refs"):
            return True
        frame = frame.f_back
    return False
