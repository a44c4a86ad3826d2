"""Real values of meta tensors, so that code which looks at values runs unchanged.

Masks, position indices, sequence lengths and step counters decide shapes and branches. Such
tensors are small, so each of their storages gets a real copy on the CPU, and every operator whose
inputs all have one also runs on the copies. ``.item()`` and ``nonzero`` then give the true answer.
A storage of any size that is filled with one number needs no copy: the number is kept.
A value that was guessed (an input made from a shape, an even split over choices) stays marked
with where the guess came from, and a decision taken on it is written into the report's assumptions.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

from torchgauge.trace.data_dependent import DataDependentError
from torchgauge.trace.inspect.code_lines import code_line
from torchgauge.trace.inspect.geometry import (
    Spans,
    copy_bytes,
    covers_storage,
    has_same_place,
    may_overlap,
    span_of,
    view_over,
)
from torchgauge.trace.shapes.rule import Args, Kwargs
from torchgauge.trace.torch_internals.tensors import storage_key
from torchgauge.trace.values.constants import as_number, number_that_fills, reinterpreted
from torchgauge.trace.values.limits import (
    GIVEN_LIMIT,
    SPAN_LIMIT,
    WORKED_OUT_LIMIT,
    has_small_value,
)
from torchgauge.trace.values.origins import FROM_SIZE, KNOWN, TAKEN, Origins
from torchgauge.trace.values.recipes import Filled, Kept, Part, Place, Recipe, kept

STAND_INS = 500
"""Unknown values that are answered by stand-ins in one run; a loop on one may never end."""
_ON_THE_CPU = "what is done with a copy on the CPU"


class ValueStore:
    """Real storages, and numbers, by the key of the meta storage that they belong to."""

    def __init__(self) -> None:
        self._storages: dict[int, torch.UntypedStorage] = {}
        self._numbers: dict[int, torch.Tensor] = {}
        """The number (0-dimensional) that fills a storage which is too large for a copy."""
        self._recipes: dict[int, Recipe] = {}
        """What gives the values of a storage that are worked out when they are asked for."""
        self._writes: dict[int, int] = {}
        """By real storage: how often it was written to."""
        self._watches: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._spans: dict[int, Spans] = {}
        """What is known of the storages of which not all is."""
        self._origins: dict[int, Origins] = {}
        self.decided_on: dict[tuple[str, Hashable], str] = {}
        """What was decided on a guess, and what that was made from, in order."""
        self.branches_on_choice = False
        """Whether a branch was taken on an even split over choices."""
        self._settled: Origins = KNOWN
        self.place: Callable[[], str] = str
        """Returns the path of the module that runs."""
        self.asked: list[str] | None = None
        """Where a run goes on with stand-ins for unknown values: which ones it asked for."""
        self.default: float | None = None
        """Stands for unknown scalars where no shape or branch of interest depends on them."""
        self.used_default = False

    def __contains__(self, key: int) -> bool:
        return key in self._storages or key in self._numbers

    def __len__(self) -> int:
        return len(self._storages) + len(self._numbers) + len(self._recipes)

    def holds_any(self, keys: Iterable[int]) -> bool:
        """Return whether anything is known of one of several storages."""
        return not self._watches.keys().isdisjoint(keys)

    def holds_all(self, keys: Iterable[int]) -> bool:
        """Return whether something is known of each of several storages."""
        return self._watches.keys() >= set(keys)

    def forget(self, key: int) -> None:
        """Drop the value of a storage, because it was freed or overwritten with unknown data."""
        if self._watches.pop(key, None) is None:  # whatever has a value is watched
            return
        self._storages.pop(key, None)
        self._numbers.pop(key, None)
        self._recipes.pop(key, None)
        self._spans.pop(key, None)
        self._origins.pop(key, None)

    def set(
        self,
        meta: torch.Tensor,
        value: torch.Tensor,
        *,
        origins: Origins = KNOWN,
        keep: bool = False,
    ) -> None:
        """Remember ``value`` (CPU, same shape and dtype) for the tensor ``meta``.

        With ``keep`` a storage that has a value already keeps it (views, in-place results).
        """
        storage = meta.untyped_storage()
        key = storage_key(storage)
        if keep and key in self._storages:
            if origins:
                self._origins[key] = self._origins.get(key, KNOWN) | origins
            return
        same_layout = value.stride() == meta.stride() and value.storage_offset() == (
            meta.storage_offset()
        )
        if same_layout and value.untyped_storage().nbytes() == storage.nbytes():
            real = value.untyped_storage()
        else:
            real = torch.UntypedStorage(storage.nbytes())
            view_over(real, meta).copy_(value)
        self.adopt(storage, real, origins=origins)

    def adopt(
        self, meta: torch.UntypedStorage, real: torch.UntypedStorage, *, origins: Origins = KNOWN
    ) -> None:
        """Remember a whole CPU storage for a meta storage, as long as that one lives."""
        key = self._watch(meta, origins=origins)
        self._numbers.pop(key, None)
        self._storages[key] = real

    def fill(self, meta: torch.Tensor, number: Any, *, origins: Origins = KNOWN) -> None:
        """Remember that the whole storage of ``meta`` is filled with one number, whatever its size.

        A small one gets a copy, which keeps its value when parts of it are overwritten.
        """
        if has_small_value(meta.shape, meta.dtype):
            if may_overlap(meta):  # its elements cannot be written one by one
                start, end = span_of(meta)
                real = torch.UntypedStorage(meta.untyped_storage().nbytes())
                count = (end - start) // meta.element_size()
                line = torch.empty(0, dtype=meta.dtype, device="cpu")
                line.set_(real, meta.storage_offset(), (count,), (1,)).fill_(number)
                self.adopt(meta.untyped_storage(), real, origins=origins)
                return
            self.set(meta, torch.full_like(meta, number, device="cpu"), origins=origins)
            return
        key = self._watch(meta.untyped_storage(), origins=origins)
        self._storages.pop(key, None)
        self._numbers[key] = as_number(number, meta.dtype)

    def _watch(self, meta: torch.UntypedStorage, *, origins: Origins) -> int:
        key = storage_key(meta)
        # The address of a freed storage is used again; its value must not come back with it.
        self._watches[key] = weakref.ref(meta, lambda _: self.forget(key))
        self._recipes.pop(key, None)
        self._spans.pop(key, None)
        if origins:
            self._origins[key] = origins
        else:
            self._origins.pop(key, None)
        return key

    def defer(self, meta: torch.Tensor, recipe: Recipe, *, origins: Origins = KNOWN) -> None:
        """Remember what would give the values of the whole storage of ``meta``."""
        key = self._watch(meta.untyped_storage(), origins=origins)
        self._storages.pop(key, None)
        self._numbers.pop(key, None)
        self._recipes[key] = recipe

    def defers_any(self, metas: Iterable[torch.Tensor]) -> bool:
        """Return whether the values of one of several tensors are deferred."""
        return bool(self._recipes) and any(
            storage_key(meta.untyped_storage()) in self._recipes for meta in metas
        )

    def part_of(self, meta: torch.Tensor) -> Part | None:
        """Return what gives the values of a tensor, ``None`` where they are not known."""
        key = storage_key(meta.untyped_storage())
        if meta.is_conj() or meta.is_neg():
            return None
        recipe = self._recipes.get(key)
        if recipe is None and key in self._storages and self._covers(key, meta):
            held = self._storages[key]
            own, writes = storage_key(held), self._writes
            recipe = Kept(held, lambda: writes.get(own, 0), writes.get(own, 0))
        elif recipe is None and (number := self.number_of(meta)) is not None:
            recipe = Filled(number)
        return None if recipe is None else (recipe, Place.of(meta))

    def work_out(self, meta: torch.Tensor) -> None:
        """Write out the values of a storage that were deferred, if they still can be told."""
        storage = meta.untyped_storage()
        key = storage_key(storage)
        recipe = self._recipes.get(key)
        if recipe is None:
            return
        count = storage.nbytes() // meta.element_size()
        with suppress(DataDependentError, RuntimeError):
            whole = recipe.part(Place((count,), (1,), 0, meta.dtype)).contiguous()
            self.adopt(storage, whole.untyped_storage(), origins=self._origins.get(key, KNOWN))

    def note_writes(self, metas: Iterable[torch.Tensor]) -> None:
        """Note that the values of tensors were overwritten where they lie."""
        for meta in metas:
            held = self._storages.get(storage_key(meta.untyped_storage()))
            if held is not None:
                own = storage_key(held)
                self._writes[own] = self._writes.get(own, 0) + 1

    def guess(self, meta: torch.Tensor, number: int) -> None:
        """Assume that an input is filled with one number; decisions on it are reported."""
        self.fill(meta, number, origins=FROM_SIZE)

    def copy_of(self, meta: torch.Tensor, original: torch.Tensor) -> None:
        """Remember the values of a real tensor for its meta copy: small ones, and one number.

        Of a storage that is larger, the rest is not known until other views of it are copied.
        """
        key = storage_key(meta.untyped_storage())
        if original.layout is not torch.strided or (key in self and key not in self._spans):
            return
        if not has_small_value(original.shape, original.dtype):
            if original.device.type != "cpu":
                return
            number = number_that_fills(original.detach())
            if number is not None and covers_storage(original):
                self.fill(meta, number)
                return
            if original.is_floating_point() or original.is_complex():
                return
            if original.numel() > GIVEN_LIMIT:
                if original.numel() <= WORKED_OUT_LIMIT and has_same_place(meta, original):
                    self.defer(meta, kept(original))
                return
        if has_same_place(meta, original):
            self._copy_span(meta, original)
        else:
            self.set(meta, original.detach().to("cpu", copy=True), keep=True)

    def _copy_span(self, meta: torch.Tensor, original: torch.Tensor) -> None:
        storage = meta.untyped_storage()
        key = storage_key(storage)
        start, end = span_of(original)
        if end - start > SPAN_LIMIT:
            return
        if key not in self._storages:
            self.adopt(storage, torch.UntypedStorage(storage.nbytes()))
            self._spans[key] = Spans()
        copy_bytes(self._storages[key], original.untyped_storage(), start, end)
        self._spans[key].add(start, end)

    def get(self, meta: torch.Tensor) -> torch.Tensor | None:
        """Return a real tensor with the geometry of ``meta``, ``None`` when it has no value."""
        key = storage_key(meta.untyped_storage())
        if key in self._storages:
            return view_over(self._storages[key], meta) if self._covers(key, meta) else None
        number = self.number_of(meta) if key in self._numbers else None
        return None if number is None else number.expand(meta.shape)

    def knows(self, meta: torch.Tensor) -> bool:
        """Return whether a tensor has a value."""
        key = storage_key(meta.untyped_storage())
        if key not in self._storages:
            return key in self._numbers
        return key not in self._spans or self._covers(key, meta)

    def _covers(self, key: int, meta: torch.Tensor) -> bool:
        spans = self._spans.get(key)
        return spans is None or spans.cover(meta)

    def is_written_out(self, meta: torch.Tensor) -> bool:
        """Return whether each element of a tensor has a value of its own in memory."""
        return storage_key(meta.untyped_storage()) in self._storages

    def write_out(self, meta: torch.Tensor, limit: int) -> None:
        """Give each element of a storage that one number fills a place of its own.

        Only up to ``limit`` elements, and where ``meta`` is all of the storage.
        """
        key = storage_key(meta.untyped_storage())
        number = self._numbers.get(key)
        if number is None or meta.numel() > limit or not covers_storage(meta):
            return
        value = reinterpreted(number, meta.dtype)
        if value is not None:
            self.set(meta, value.expand(meta.shape), origins=self._origins.get(key, KNOWN))

    def number_of(self, meta: torch.Tensor) -> torch.Tensor | None:
        """Return the number (0-dimensional) that fills a tensor, ``None`` when none does."""
        key = storage_key(meta.untyped_storage())
        number = self._numbers.get(key)
        if number is not None:
            return reinterpreted(number, meta.dtype)
        real = self._storages.get(key)
        if real is None or not self._covers(key, meta):
            return None
        return number_that_fills(view_over(real, meta))

    def origins_of(self, *metas: Any) -> Origins:
        """Return what the values of tensors were guessed from; nothing where they are known."""
        if not self._origins:
            return KNOWN
        found = (m for m in metas if isinstance(m, torch.Tensor))
        return KNOWN.union(
            *(self._origins.get(storage_key(m.untyped_storage()), KNOWN) for m in found)
        )

    def decide(self, meta: torch.Tensor, what: str) -> torch.Tensor:
        """Return the value that a branch or a shape is about to depend on.

        Raises:
            DataDependentError: when there is none.
        """
        value = self.get(meta)
        if value is None:
            self.work_out(meta)
            value = self.get(meta)
        if value is None and self.default is not None and meta.numel() == 1:
            self.used_default = True
            return torch.full(meta.shape, self.default, dtype=meta.dtype, device="cpu")
        if value is None:
            line = code_line()
            needed = (
                f"{what} needs the values of a {str(meta.dtype)[6:]} tensor of shape "
                f"{tuple(meta.shape)}" + (f" in {line}" if line else "")
            )
            if self.asked is None or len(self.asked) >= STAND_INS:
                raise DataDependentError(needed)
            self.asked.append(f"{self.place() or 'the model'}: {needed}")
            return torch.ones((), dtype=meta.dtype, device="cpu").expand(meta.shape)
        origins = self.origins_of(meta)
        if meta.dtype == torch.bool and meta.numel() == 1 and origins - FROM_SIZE - TAKEN:
            self.branches_on_choice = True
        self.note_decision(what, origins, is_placed=True)
        return value

    def note_decision(self, what: str, origins: Origins, *, is_placed: bool = False) -> None:
        """Remember that something was decided on guesses, and where first."""
        for origin in sorted(origins, key=str):
            if (what, origin) not in self.decided_on:
                found = (self.place() or "the model itself", code_line()) if is_placed else ()
                self.decided_on[what, origin] = ", ".join(filter(None, found))

    def note_copy(self, origins: Origins) -> None:
        """Remember that a guess is on the CPU, where no decision on it is seen."""
        self.note_decision(_ON_THE_CPU, origins - self._settled)

    def settle_copies(self, origins: Origins) -> None:
        """Do not mind such copies of a guess: it was seen what they are for."""
        self._settled = origins
        for origin in origins:
            self.decided_on.pop((_ON_THE_CPU, origin), None)

    @contextmanager
    def assumed(self, default: float) -> Iterator[None]:
        """Take unknown scalars to be ``default`` while the context is open."""
        before = self.default, self.used_default
        self.default = default
        try:
            yield
        finally:
            self.default, self.used_default = before

    def compute(self, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> tuple[Any, Origins]:
        """Run ``func`` on the values of its arguments; return the result and its origins.

        All tensor arguments must have values. Raises what ``func`` raises.
        """
        origins = KNOWN

        def real(value: Any) -> Any:
            nonlocal origins
            if isinstance(value, torch.Tensor):
                if self._origins:
                    origins = origins | self.origins_of(value)
                found = self.get(value)
                if found is None and self.asked is not None:
                    return torch.ones(value.shape, dtype=value.dtype, device="cpu")
                return found
            if isinstance(value, (list, tuple)):
                return type(value)(real(item) for item in value)
            return value

        with torch.no_grad():
            real_args = real(args)
            real_kwargs = {name: real(value) for name, value in kwargs.items()}
            if "device" in real_kwargs:
                real_kwargs["device"] = torch.device("cpu")
            return func(*real_args, **real_kwargs), origins
