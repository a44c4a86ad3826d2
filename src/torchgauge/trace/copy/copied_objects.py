"""Copies of functions, optimizers, handles of hooks and other objects, with what they hold."""

from __future__ import annotations

import copy
import copyreg
import dis
import functools
import operator
import types
import weakref
from collections import OrderedDict
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from torchgauge.trace.inspect.packed_objects import is_packed
from torchgauge.trace.inspect.wrappers import is_of_distributed
from torchgauge.trace.python.threads import is_of_threads
from torchgauge.trace.shapes.rule import Args


class ObjectCopies:
    """Copies objects together with what they hold; ``value`` says what the copy of a value is."""

    def __init__(self) -> None:
        self._memo: dict[int, Any] = {}
        self._kept: list[Any] = []  # keeps originals alive, so that no identity is used twice
        self.optimizers: list[torch.optim.Optimizer] = []
        """Copies of optimizers that the model, or a hook, refers to."""
        self.notes: list[str] = []
        """Attributes that could not be copied and are shared."""
        self.shared: list[Any] = []
        """Objects that could not be copied: the copy's are the model's own."""
        self.may_hold_packed = False
        """Whether packed weights were met, or a module whose attributes were not looked at."""
        self._path = ""

    def value(self, original: Any) -> Any:
        """Return the copy of any value."""
        raise NotImplementedError

    def stand_for(self, original: Any, copied: Any) -> None:
        """Give out ``copied`` wherever ``original`` is referred to."""
        self._memo[id(original)] = copied
        self._kept.append(original)

    def _object(self, original: Any, kind: type) -> Any:
        if issubclass(kind, torch.optim.Optimizer):
            return self._optimizer(original)
        if kind is types.MethodType:
            return types.MethodType(original.__func__, self.value(original.__self__))
        if kind is weakref.ReferenceType:
            target = original()
            copied = None if target is None else self._memo.get(id(target))
            return original if copied is None else weakref.ref(copied)
        if kind is RemovableHandle:
            return self._handle(original)
        if kind is types.FunctionType:
            return self._function(original)
        if callable(original) and isinstance(original, type):
            return original
        if is_packed(original):
            self.may_hold_packed = True
            return original  # nothing changes what is packed
        if is_of_distributed(kind) or kind is ContextVar:  # a run has a context of its own
            return original
        if is_of_threads(kind):
            self.shared.append(original)
            return original
        try:
            with _CopiedTensors(self):
                copied = self._copied(original, kind)
        except Exception:
            self.notes.append(
                f"{self._path or 'model'}: a {kind.__name__} in its attributes cannot be copied "
                "and is shared with the analysed copy"
            )
            self.shared.append(original)
            copied = original
        self.stand_for(original, copied)
        return copied

    def _copied(self, original: Any, kind: type) -> Any:
        """Copy an object as ``copy.deepcopy`` does, but with copies of what it holds."""
        if hasattr(kind, "__deepcopy__"):
            return original.__deepcopy__(self._memo)
        reduce = copyreg.dispatch_table.get(kind)
        reduced: Any = original.__reduce_ex__(4) if reduce is None else reduce(original)
        if isinstance(reduced, str):  # a name: something global
            return original
        return copy._reconstruct(  # type: ignore[attr-defined]
            original, self._memo, *reduced, deepcopy=lambda value, memo: self.value(value)
        )

    def _function(self, original: types.FunctionType) -> types.FunctionType:
        """Copy a function that refers to what is copied: hooks and lambdas made in ``__init__``."""
        cells = tuple(self._cell(cell) for cell in original.__closure__ or ())
        defaults = self.value(original.__defaults__)
        keywords = self.value(original.__kwdefaults__)
        before = (*(original.__defaults__ or ()), *(original.__kwdefaults__ or {}).values())
        if (
            all(map(_same_contents, cells, original.__closure__ or ()))
            and all(map(operator.is_, (*(defaults or ()), *(keywords or {}).values()), before))
            and not _writes_cells(original.__code__)
        ):
            return original
        copied = types.FunctionType(
            original.__code__, original.__globals__, original.__name__, defaults, cells
        )
        copied.__kwdefaults__ = keywords
        self.stand_for(original, copied)
        for name in functools.WRAPPER_ASSIGNMENTS:
            setattr(copied, name, getattr(original, name))
        copied.__dict__.update(self.value(original.__dict__))
        return copied

    def _cell(self, original: types.CellType) -> types.CellType:
        known = self._memo.get(id(original))
        if known is not None:
            return known  # type: ignore[no-any-return]
        copied = types.CellType()
        self.stand_for(original, copied)
        with suppress(ValueError):  # nothing is in it yet
            copied.cell_contents = self.value(original.cell_contents)
        return copied

    def _handle(self, original: RemovableHandle) -> RemovableHandle:
        """Copy the handle of a hook so that it removes the copy's hook, not the original's."""
        hooks = original.hooks_dict_ref()
        handle = RemovableHandle.__new__(RemovableHandle)
        handle.id = original.id
        own_hooks = OrderedDict() if hooks is None else self.value(hooks)
        handle.hooks_dict_ref = weakref.ref(own_hooks)
        handle.extra_dict_ref = ()
        self._kept.append(own_hooks)
        return handle

    def _optimizer(self, original: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Copy all attributes: a subclass may keep more than what it pickles."""
        copied: torch.optim.Optimizer = object.__new__(type(original))
        self.stand_for(original, copied)
        self.optimizers.append(copied)
        for name, value in list(original.__dict__.items()):
            copied.__dict__[name] = self.value(value)
        return copied


class _CopiedTensors(TorchFunctionMode):
    """While an unknown object is copied, the tensors inside it are replaced by their copies."""

    def __init__(self, copies: ObjectCopies) -> None:
        super().__init__()
        self._copies = copies

    def __torch_function__(self, func: Any, types: Any, args: Args = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.__deepcopy__:
            return self._copies.value(args[0])
        return func(*args, **(kwargs or {}))


def _writes_cells(code: types.CodeType) -> bool:
    """Return whether a function may give a variable of its closure another value."""
    return bool(code.co_freevars) and dis.opmap["STORE_DEREF"] in code.co_code[::2]


def _same_contents(left: types.CellType, right: types.CellType) -> bool:
    try:
        return left.cell_contents is right.cell_contents
    except ValueError:  # both are empty
        return True
