"""Values that are too many to keep, but follow from known ones: worked out when they are asked for.

A mask over all weights of a layer decides a shape when it is used as an index. To write out every
large mask of a model would take as long as a real run, and nearly none is read. So what would give
the values is kept: the operator, and where its arguments come from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import gcd
from typing import Any, Protocol, TypeAlias

import torch

from torchgauge.trace.data_dependent import DataDependentError
from torchgauge.trace.shapes.rule import Kwargs


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies in its storage."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Place:
        """Return the place of a tensor that is neither conjugate nor negative."""
        return cls(tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()), tensor.dtype)

    def over(self, storage: torch.UntypedStorage) -> torch.Tensor:
        """Return the view of a real storage."""
        view = torch.empty(0, dtype=self.dtype, device="cpu")
        return view.set_(storage, self.offset, self.shape, self.stride)


class Recipe(Protocol):
    """What the values of a storage come from."""

    def part(self, place: Place) -> torch.Tensor:
        """Return the real tensor at a place.

        Raises:
            DataDependentError: what it comes from was overwritten.
        """


Part: TypeAlias = "tuple[Recipe, Place]"


@dataclass(frozen=True, slots=True)
class Kept:
    """A storage whose values are in memory, as long as nothing is written to it."""

    storage: torch.UntypedStorage
    writes: Callable[[], int]
    """Returns how often it was written to."""
    seen: int

    def part(self, place: Place) -> torch.Tensor:
        """Return a view of it."""
        if self.writes() != self.seen:
            raise DataDependentError("what a value comes from was overwritten")
        return place.over(self.storage)


def kept(tensor: torch.Tensor) -> Kept:
    """Return the storage of a real tensor, which is not copied."""
    own = tensor.detach()
    return Kept(own.untyped_storage(), lambda: own._version, own._version)


@dataclass(frozen=True, slots=True)
class Filled:
    """A storage that one number fills."""

    number: torch.Tensor

    def part(self, place: Place) -> torch.Tensor:
        """Return that number in a shape."""
        return self.number.expand(place.shape)


@dataclass(frozen=True, slots=True)
class Mixed:
    """Whole numbers of a range in a mixed order, which is the same on every machine.

    As many as there are in the range are a permutation.
    """

    low: int
    count: int
    """How many numbers there are in the range."""
    seed: int

    def part(self, place: Place) -> torch.Tensor:
        """Compute the numbers at a place alone: ``step * i + seed`` modulo the count."""
        count = max(1, self.count)
        step = max(1, round(count * 0.618))
        while gcd(step, count) != 1:
            step += 1
        positions = torch.full((), place.offset, dtype=torch.int64, device="cpu")
        for size, stride in zip(place.shape, place.stride, strict=True):
            steps = torch.arange(size, dtype=torch.int64, device="cpu") * stride
            positions = positions.unsqueeze(-1) + steps
        numbers = positions.mul_(step).add_(self.seed).remainder_(count).add_(self.low)
        return numbers.to(place.dtype)


@dataclass(slots=True)
class Result:
    """The storage of what an operator returns, or writes to its first argument."""

    func: Any
    args: Any
    """With a ``Part`` in the place of each tensor."""
    kwargs: Kwargs
    place: Place
    nbytes: int
    is_written: bool = False
    """Whether the operator writes to its first argument."""
    _storage: torch.UntypedStorage | None = field(default=None, init=False)

    def part(self, place: Place) -> torch.Tensor:
        """Run the operator, once."""
        if self._storage is None:
            args = real(self.args)
            if self.is_written:
                args = (args[0].clone(), *args[1:])
            with torch.no_grad():
                output = self.func(*args, **self.kwargs)
            self._storage = torch.UntypedStorage(self.nbytes)
            self.place.over(self._storage).copy_(output)
            self.args = ()  # and what they come from
        return place.over(self._storage)


def real(value: Any) -> Any:
    """Return arguments with the real tensor in the place of each part."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Place):
        return value[0].part(value[1])
    if isinstance(value, (list, tuple)):
        return type(value)(real(item) for item in value)
    return value
