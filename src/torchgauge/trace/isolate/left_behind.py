"""What a model's code keeps outside of the model: noted before a run, put back after it.

The usual feature hook writes into a dictionary of its script: ``features["fc"] = output``. The
modules of a run are copies, but such a dictionary is the user's own, and after the run it would
hold tensors without data. So whatever the code can reach by name is noted before the run: global
names, containers, attributes of objects, classes and functions, closures, caches. Where the run
has left tensors or modules of its own, the note is put back, and the report says so.
"""

from __future__ import annotations

import contextvars
import functools
import queue
import sys
import threading
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from torchgauge.trace.inspect.modules import modules_of
from torchgauge.trace.isolate.places import (
    CACHE,
    CachePlace,
    ListPlace,
    MappingPlace,
    Ours,
    Place,
    attributes_of,
    content,
    functions_of,
    is_object_array,
    items_of,
    named_items_of,
    names_in,
)
from torchgauge.trace.torch_internals.structures import global_module_hooks

_PLACES = 20_000
"""Places to note at most; the code of a large language model reaches about a thousand."""
_DEPTH = 6
_LIBRARY_DEPTH = 3
_NOT_THEIRS = frozenset({"torch", "numpy", "torchgauge", *sys.stdlib_module_names}) - {"__main__"}
"""Packages whose functions store no tensors outside of what they are given."""
_NAMESPACES = (types.SimpleNamespace, threading.local, queue.Queue)
"""Classes of Python's library that hold what others put there."""
_INSTALLED = ("site-packages", "dist-packages")
_NO_CODE = frozenset(
    ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "training")
)
_PLAIN = frozenset(
    (type(None), bool, int, float, str, bytes, torch.dtype, torch.device, torch.Size)
)
_DICTIONARIES = (dict, OrderedDict)


class Outside:
    """The places outside of a model that its code and ``functions`` can reach by name.

    ``shared`` are objects of the model that its copy shares with it. Code of the user's is
    followed to the functions and classes that it names, that of installed libraries is not: of
    theirs the places count that the model's own classes and hooks name themselves.
    """

    def __init__(
        self, model: nn.Module | None, functions: Iterable[Any] = (), shared: Iterable[Any] = ()
    ) -> None:
        self._places: list[Place] = []
        self.namespaces: list[MappingPlace] = []
        """Those of global names and of the attributes of classes."""
        self._seen: set[int] = set()
        self._names: dict[int, set[str]] = {}
        self._kept: list[Any] = []
        kinds: set[type] = set()
        for module in () if model is None else modules_of(model):
            if type(module) not in kinds:
                kinds.add(type(module))
                self._class(type(module))
            for name, value in module.__dict__.items():
                kind = type(value)
                if kind in _PLAIN or name in _NO_CODE or (kind in _DICTIONARIES and not value):
                    continue
                if kind is tuple and _PLAIN.issuperset(map(type, value)):
                    continue
                self._copied(value, 0)
        for function in (*functions, *(() if model is None else global_module_hooks())):
            self._value(function, getattr(function, "__name__", "a function"), 0)
        for value in shared:
            self._value(value, type(value).__name__, 0)

    def put_back(self, copy: nn.Module | None, *, simulated: bool) -> list[str]:
        """Take out what a run of the model's copy has left; return a sentence where it has."""
        ours = Ours(copy, simulated=simulated)
        changed = [place.label for place in self._places if place.put_back(ours)]
        self._places.clear()
        if not changed:
            return []
        named = list(dict.fromkeys(changed))
        more = f" and {len(named) - 5} more" if len(named) > 5 else ""
        return [
            "the model's code stored tensors of the analysed copy outside of the model "
            f"({', '.join(named[:5])}{more}); they were removed again"
        ]

    def _namespace(self, place: MappingPlace) -> None:
        self._places.append(place)
        self.namespaces.append(place)

    def _is_new(self, value: Any, *, copied: bool = False) -> bool:
        if type(value) in _PLAIN or len(self._places) >= _PLACES:
            return False
        key = ~id(value) if copied else id(value)
        if key in self._seen:
            return False
        self._seen.add(key)
        self._kept.append(value)
        return True

    # ------------------------------------------------------------------ what the model holds

    def _copied(self, value: Any, depth: int) -> None:
        """Look for code in what is copied with the model; only what it refers to is outside."""
        kind = type(value)
        if depth > _DEPTH or not self._is_new(value, copied=True):
            return
        for function in functions_of(value):
            self._function(function, is_copied=True)
        if issubclass(kind, (nn.Module, torch.Tensor)):
            return
        for item in items_of(value):
            self._copied(item, depth + 1)
        if _is_followed(kind.__module__):
            self._class(kind)
            for item in list(attributes_of(value).values()):
                self._copied(item, depth + 1)

    # ------------------------------------------------------------------ code

    def _class(self, kind: type) -> None:
        for base in kind.__mro__:
            if not self._is_new(base):
                continue
            place = _attributes_place(base)
            if _package(base.__module__) in _NOT_THEIRS:
                self._places.append(place)
                continue
            self._namespace(place)
            for name, value in list(vars(base).items()):
                self._value(value, f"{base.__name__}.{name}", 1)

    def _function(self, function: Any, *, is_copied: bool = False) -> None:
        if isinstance(function, CACHE):
            self._cache(function)
            return
        if type(function) is not types.FunctionType or not self._is_new(function):
            return
        namespace = function.__globals__
        if _package(namespace.get("__name__")) in _NOT_THEIRS:
            return
        follows = _is_followed(namespace.get("__name__"))
        self._globals(namespace, set(names_in(function.__code__)), follows=follows)
        if follows:
            self._mapping(attributes_of(function), function.__name__, ".")
        cells = function.__closure__ or ()
        if is_copied:
            for cell in cells:
                self._copied(content(cell), 1)
            return
        for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
            self._places.append(_closure_place(name, cell))
            self._value(content(cell), name, 1)
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._value(value, f"a default of {function.__name__}", 1)

    def _cache(self, function: Any) -> None:
        if self._is_new(function):
            self._places.append(CachePlace(function.__name__, function))
            self._function(function.__wrapped__)

    def _globals(self, namespace: dict[str, Any], names: set[str], *, follows: bool) -> None:
        known = self._names.setdefault(id(namespace), set())
        new = names - known
        if not new:
            return
        known |= new

        def read() -> dict[str, Any]:
            return {name: namespace[name] for name in new if name in namespace}

        self._namespace(MappingPlace("", read, namespace.__setitem__, namespace.__delitem__))
        for name, value in read().items():
            kind = type(value)
            if follows and kind is types.ModuleType:
                if _is_followed(value.__name__):
                    self._globals(vars(value), names, follows=True)
                else:
                    self._library(value, names, 0)
            elif follows and issubclass(kind, type) and not _is_followed(value.__module__):
                self._library(value, names, 0)
            elif follows or issubclass(kind, (dict, list, set, deque)):
                self._value(value, name, 0)
            elif isinstance(value, CACHE):
                self._cache(value)

    def _library(self, value: Any, names: set[str], depth: int) -> None:
        """Note the attributes of a library's module or class, and of those in it that are named."""
        if depth > _LIBRARY_DEPTH or value is object:
            return
        if self._is_new(value):
            self._places.append(_attributes_place(value))
        for name in names & vars(value).keys():
            inner = vars(value)[name]
            if isinstance(inner, (types.ModuleType, type)):
                self._library(inner, names, depth + 1)

    # ------------------------------------------------------------------ values

    def _value(self, value: Any, label: str, depth: int) -> None:
        """Note a value outside of the model, and what can be reached from it."""
        kind = type(value)
        if kind in _PLAIN or depth > _DEPTH or issubclass(kind, (torch.Tensor, types.ModuleType)):
            return
        for function in functions_of(value):
            self._function(function)
        if issubclass(kind, type):
            if depth <= 1 and _is_followed(value.__module__):
                self._class(value)
            return
        if kind is contextvars.ContextVar:  # which one it names is undone with the run's context
            self._value(value.get(None), value.name, depth)
            return
        if self._is_new(value):
            if is_object_array(value):
                self._places.append(_array_place(label, value))
            if issubclass(kind, dict):
                self._mapping(value, label, "[")
            elif issubclass(kind, (list, set, deque)):
                self._places.append(ListPlace(label, value))
            for key, item in named_items_of(value):
                self._value(item, f"{label}[{key!r}]", depth + 1)
            self._attributes(value, label, depth)

    def _attributes(self, value: Any, label: str, depth: int) -> None:
        kind = type(value)
        attributes = value.__dict__ if kind in _NAMESPACES else attributes_of(value)
        if not issubclass(kind, (types.FunctionType, nn.Module, *_NAMESPACES)):
            if not _is_followed(kind.__module__):
                return
            self._class(kind)
        self._mapping(attributes, label, ".")
        for name, item in list(attributes.items()):
            self._value(item, f"{label}.{name}", depth + 1)

    def _mapping(self, value: dict[Any, Any], label: str, separator: str) -> None:
        self._kept.append(value)
        base = OrderedDict if issubclass(type(value), OrderedDict) else dict
        put = functools.partial(base.__setitem__, value)
        remove = functools.partial(base.__delitem__, value)
        read: Callable[[], dict[Any, Any]] = functools.partial(dict, dict.items(value))
        self._places.append(MappingPlace(label, read, put, remove, separator=separator))


def _attributes_place(value: Any) -> MappingPlace:
    return MappingPlace(
        value.__name__,
        functools.partial(vars, value),
        functools.partial(setattr, value),
        functools.partial(delattr, value),
        separator=".",
    )


def _closure_place(name: str, cell: types.CellType) -> MappingPlace:
    return MappingPlace(
        "", lambda: {name: content(cell)}, lambda _, value: setattr(cell, "cell_contents", value)
    )


def _array_place(label: str, array: Any) -> MappingPlace:
    return MappingPlace(
        label, lambda: dict(enumerate(array.flat)), array.flat.__setitem__, separator="["
    )


def _is_followed(name: Any) -> bool:
    """Return whether code of a module is the user's: neither installed nor Python's own."""
    if _package(name) in _NOT_THEIRS:
        return False
    file = getattr(sys.modules.get(str(name)), "__file__", None) or ""
    return not any(folder in file for folder in _INSTALLED)


def _package(name: Any) -> str:
    return str(name).partition(".")[0]
