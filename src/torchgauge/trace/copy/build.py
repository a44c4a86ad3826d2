"""Build a model on the meta device, with the values that its constructor computes.

Position indices, tables of offsets and kernel sizes kept as buffers are computed when a model is
made. A run reads them: without their values it would have to be a real run.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from torchgauge.trace.inspect.irregular import is_irregular
from torchgauge.trace.inspect.subclasses import any_wrapper
from torchgauge.trace.isolate.isolation import untouched
from torchgauge.trace.operators.op_facts import facts_of
from torchgauge.trace.shapes.rule import Args, Kwargs
from torchgauge.trace.torch_internals.modes import DispatchMode
from torchgauge.trace.torch_internals.tensors import meta_answers_as, storage_key
from torchgauge.trace.values.simulation import Simulation, flat
from torchgauge.trace.values.values import ValueStore

CONSTRUCTED = ValueStore()
"""One for the process: a model outlives the context that it was made in."""


def constructed_value(tensor: torch.Tensor) -> torch.Tensor | None:
    """Return the value that a constructor gave to a meta tensor, ``None`` where it is not known."""
    if not tensor.is_meta or tensor.layout is not torch.strided:
        return None
    return CONSTRUCTED.get(tensor)


_OF_EXPORT = ("FakeTensor", "FunctionalTensor")
"""Tensors by which ``torch.export`` follows a model: PyTorch ends the process if they fail here."""


class _Construction(DispatchMode):
    """Send every factory to the meta device and keep small values."""

    def __init__(self, *, guessing: bool = False) -> None:
        super().__init__()
        self._simulation = Simulation(values=None if guessing else CONSTRUCTED)
        self._made: dict[int, weakref.ref[torch.UntypedStorage]] | None = None
        self.is_inside = False
        """Whether an operator runs now, not the constructor's code."""
        if guessing:
            self._simulation.values.default = 1.0
            self._made = {}

    @property
    def alive_bytes(self) -> int:
        """Return the bytes of what was made here and is still held."""
        alive = (made() for made in (self._made or {}).values())
        return sum(storage.nbytes() for storage in alive if storage is not None)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        if types and any_wrapper(types):
            return NotImplemented
        if any(kind.__name__ in _OF_EXPORT for kind in types):
            return func(*args, **(kwargs or {}))
        was_inside, self.is_inside = self.is_inside, True
        try:
            return self._run(func, args, kwargs)
        finally:
            self.is_inside = was_inside

    def _run(self, func: Any, args: Args, kwargs: Kwargs | None) -> Any:
        simulation, facts = self._simulation, facts_of(func)
        if facts.is_plain and facts.may_be_view and _is_on_meta(args[0]):
            return func(*args, **(kwargs or {}))  # shares its values
        args = simulation.on_meta(args)
        kwargs = {name: simulation.on_meta(value) for name, value in (kwargs or {}).items()}
        leaves = flat((args, *kwargs.values()))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        output = simulation.run(func, facts, args, kwargs, tensors)
        if self._made is not None:
            for made in flat(output):
                if isinstance(made, torch.Tensor) and made.layout is torch.strided:
                    storage = made.untyped_storage()
                    self._made[storage_key(storage)] = weakref.ref(storage)
        return output


def _is_on_meta(tensor: Any) -> bool:
    return type(tensor) is torch.Tensor and tensor.is_meta and not is_irregular(tensor)


def construction_bytes(factory: Callable[[], Any]) -> tuple[int, Exception | None]:
    """Return what the tensors that ``factory`` makes would hold, at least, and why it failed.

    Unknown values are read as 1, and tensors say that they lie on the CPU. Where the factory
    fails, what it had made by then counts.
    """
    mode = _Construction(guessing=True)
    held: Any = None
    failed: Exception | None = None
    cpu = torch.device("cpu")
    with untouched(), mode, meta_answers_as(cpu, lambda: mode.is_inside, hides_meta=True):
        try:
            held = factory()
        except Exception as error:
            failed = error  # its frames hold what they had made
    found = mode.alive_bytes
    del held
    return found, failed


@contextmanager
def meta_construction() -> Iterator[None]:
    """Build a model without memory: every tensor that is created inside is a meta tensor.

    Constants that its constructor computes keep their values, so ``.item()`` on them works. The
    state of the random number generators is restored after.

    >>> from torch import nn
    >>> with meta_construction():
    ...     layer = nn.Linear(100_000, 100_000)
    >>> layer.weight.is_meta
    True
    """
    with untouched(), _Construction():
        yield
