"""Places that a model's code can write to: what was there, and how to put it back."""

from __future__ import annotations

import functools
import gc
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Protocol

import torch
from torch import nn

from torchgauge.trace.inspect.modules import modules_of

_DEPTH = 8
_ITEMS = 4096
_MISSING = object()
CACHE: type = functools.lru_cache(maxsize=1)(lambda: None).__class__
"""The class of functions that ``functools.lru_cache`` and ``functools.cache`` make."""


class Ours:
    """Tells whether a value holds something that a run has made: a tensor, or a copied module.

    Tensors of a simulation have no data. A real run's look like any other, so every new one is.
    """

    def __init__(self, copy: nn.Module | None, *, simulated: bool) -> None:
        self._simulated = simulated
        self._copies = set() if copy is None else set(map(id, modules_of(copy)))

    def __call__(self, value: Any, depth: int = 0) -> bool:
        """Return whether it does."""
        if isinstance(value, torch.Tensor):
            return value.is_meta or not self._simulated
        if isinstance(value, nn.Module):
            return id(value) in self._copies
        if depth > _DEPTH or isinstance(value, (type, types.ModuleType, str, bytes)):
            return False
        if isinstance(value, weakref.ReferenceType):
            value = value()
        keys = dict.keys(value) if isinstance(value, dict) else ()
        held = (*keys, *items_of(value), *attributes_of(value).values())
        return any(self(item, depth + 1) for item in held)


# Nothing below runs code of the values: a container's own methods may compute, load or count.


def items_of(value: Any) -> list[Any]:
    """Return what a container, a method, a closure or a partial holds."""
    kind = type(value)
    if issubclass(kind, types.MethodType):
        return [value.__self__]
    if issubclass(kind, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if issubclass(kind, types.FunctionType):
        cells = [content(cell) for cell in value.__closure__ or ()]
        return [*cells, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    return [item for _, item in named_items_of(value)]


def named_items_of(value: Any) -> list[tuple[Any, Any]]:
    """Return the items of a container with their keys or positions; of a large one the first."""
    kind = type(value)
    if issubclass(kind, dict):
        return list(islice(dict.items(value), _ITEMS))
    if is_object_array(value):
        return list(enumerate(value.flat))
    for base in (list, tuple, set, frozenset, deque):
        if issubclass(kind, base):
            return list(enumerate(islice(base.__iter__(value), _ITEMS)))
    return []


def attributes_of(value: Any) -> dict[str, Any]:
    """Return an object's attributes, none for one without."""
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return found if isinstance(found, dict) else {}


def functions_of(value: Any) -> Iterator[Any]:
    """Yield the functions that a method, a decorated attribute or a hook consists of."""
    kind = type(value)
    if issubclass(kind, (types.FunctionType, CACHE)):
        yield value
    elif issubclass(kind, (types.MethodType, staticmethod, classmethod)):
        yield value.__func__
    elif issubclass(kind, property):
        yield from (part for part in (value.fget, value.fset) if part is not None)
    elif issubclass(kind, (functools.partial, functools.partialmethod)):
        yield from functions_of(value.func)
    elif issubclass(kind, functools.cached_property):
        yield value.func


def names_in(code: types.CodeType) -> Iterator[str]:
    """Yield the global names of a function and of the functions inside it, attributes as well."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names_in(constant)


def content(cell: types.CellType) -> Any:
    """Return what a closure holds in a cell, ``None`` for an empty one."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


class Place(Protocol):
    """Somewhere that code can write to."""

    label: str

    def put_back(self, ours: Ours) -> bool:
        """Undo what a run has left there; return whether it has left something."""


class MappingPlace:
    """Named values: of a dictionary, an object or a class, a closure, an array, global names.

    ``remove`` may be missing where no name comes up in a run.
    """

    def __init__(
        self,
        label: str,
        read: Callable[[], Mapping[Any, Any]],
        put: Callable[[Any, Any], Any],
        remove: Callable[[Any], Any] = lambda _: None,
        *,
        separator: str = "",
    ) -> None:
        self.label = label
        self.read = read
        self.put = put
        self.remove = remove
        self._separator = separator
        self.before = dict(read())

    def put_back(self, ours: Ours) -> bool:
        """Give each name its value again where the run has put something of its own."""
        before, changed = self.before, []
        for name, value in list(self.read().items()):
            if before.get(name, _MISSING) is not value and (ours(value) or ours(name)):
                changed.append(name)
        for name in changed:
            if name in before:
                self.put(name, before[name])
            else:
                self.remove(name)
        if changed and self._separator != "[":
            self.label = f"{self.label}{self._separator}{changed[0]}"
        return bool(changed)


class ListPlace:
    """A list, a set or a queue."""

    def __init__(self, label: str, items: Any) -> None:
        self.label = label
        self._items = items
        self._before = list(items)

    def put_back(self, ours: Ours) -> bool:
        """Give it its items again where the run has put something of its own among them."""
        known = set(map(id, self._before))
        if not any(id(item) not in known and ours(item) for item in list(self._items)):
            return False
        self._items.clear()
        if isinstance(self._items, set):
            self._items.update(self._before)
        else:
            self._items.extend(self._before)
        return True


def is_object_array(value: Any) -> bool:
    """Return whether a value is an array of NumPy's that holds Python objects, not too many."""
    kind = type(value)
    if kind.__module__ != "numpy" or kind.__name__ != "ndarray":
        return False
    return bool(value.dtype.kind == "O" and value.size <= _ITEMS)


class CachePlace:
    """A function under ``functools.lru_cache``; what it has kept cannot be taken out singly."""

    def __init__(self, label: str, function: Any) -> None:
        self.label = label
        self._function = function
        self._before = function.cache_info().misses

    def put_back(self, ours: Ours) -> bool:
        """Empty it where it has kept something of the run's."""
        if self._function.cache_info().misses == self._before:
            return False
        if not any(ours(result) for result in _kept_by(self._function)):
            return False
        self._function.cache_clear()
        return True


def _kept_by(cache: Any) -> list[Any]:
    """Return the keys and results in a cache, which only the collector can see."""
    found: list[Any] = []
    for held in gc.get_referents(cache):
        if isinstance(held, dict):
            found += held.values()
        elif not callable(held):
            found.append(held)
    return found
