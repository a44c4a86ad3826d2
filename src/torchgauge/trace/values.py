"""Real values beside small meta tensors, so that code which looks at values runs unchanged.

Masks, position indices, sequence lengths and step counters decide shapes and branches. Such
tensors are small, so each of their storages gets a real CPU twin, and every operator whose
inputs all have one is also run on the twins. ``.item()`` and ``nonzero`` then answer truly.
A value that was guessed (an input made from a shape) stays marked as such, and the first
decision taken on it is written into the report's assumptions.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from torchgauge.trace.geometry import Spans, copy_bytes, has_same_place, span_of, view_over
from torchgauge.trace.torch_internals import storage_key

INTEGER_LIMIT = 1 << 18
"""Elements up to which integer and boolean tensors keep a value."""
FLOAT_LIMIT = 1 << 12
"""Elements up to which floating-point tensors keep a value."""
SPAN_LIMIT = 1 << 26
"""Bytes of a storage up to which what a small view of it spans is copied."""


class DataDependentError(RuntimeError):
    """The model asked for a value that a simulated run does not have."""


def has_small_value(shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    """Return whether a tensor of this shape and dtype is worth a real value."""
    numel = 1
    for size in shape:
        numel *= size
    return numel <= (FLOAT_LIMIT if dtype.is_floating_point or dtype.is_complex else INTEGER_LIMIT)


class ValueStore:
    """Real storages by the key of the meta storage that they stand beside."""

    def __init__(self) -> None:
        self._storages: dict[int, torch.UntypedStorage] = {}
        self._watches: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._spans: dict[int, Spans] = {}
        """What is known of the storages of which not all is."""
        self._guessed: set[int] = set()
        self.decided_on_guess: list[str] = []
        self.default: float | None = None
        """Stands for unknown scalars where no shape or branch of interest depends on them."""
        self.used_default = False

    def __contains__(self, key: int) -> bool:
        return key in self._storages

    def __len__(self) -> int:
        return len(self._storages)

    def forget(self, key: int) -> None:
        """Drop the value of a storage, because it was freed or overwritten with unknown data."""
        self._storages.pop(key, None)
        self._watches.pop(key, None)
        self._spans.pop(key, None)
        self._guessed.discard(key)

    def set(
        self, meta: torch.Tensor, value: torch.Tensor, *, guessed: bool = False, keep: bool = False
    ) -> None:
        """Remember ``value`` (CPU, same shape and dtype) for the tensor ``meta``.

        With ``keep`` a storage that has a value already keeps it (views, in-place results).
        """
        storage = meta.untyped_storage()
        key = storage_key(storage)
        if keep and key in self._storages:
            return
        same_layout = value.stride() == meta.stride() and value.storage_offset() == (
            meta.storage_offset()
        )
        if same_layout and value.untyped_storage().nbytes() == storage.nbytes():
            twin = value.untyped_storage()
        else:
            twin = torch.UntypedStorage(storage.nbytes())
            view_over(twin, meta).copy_(value)
        self.adopt(storage, twin, guessed=guessed)

    def adopt(
        self, meta: torch.UntypedStorage, real: torch.UntypedStorage, *, guessed: bool = False
    ) -> None:
        """Remember a whole CPU storage for a meta storage, as long as that one lives."""
        key = storage_key(meta)
        self._storages[key] = real
        # The address of a freed storage is used again; its value must not come back with it.
        self._watches[key] = weakref.ref(meta, lambda _: self.forget(key))
        if guessed:
            self._guessed.add(key)

    def guess(self, meta: torch.Tensor, fill: int) -> None:
        """Assume that a small input is filled with one number; decisions on it are reported."""
        if has_small_value(meta.shape, meta.dtype):
            self.set(meta, torch.full(meta.shape, fill, dtype=meta.dtype), guessed=True)

    def copy_of(self, meta: torch.Tensor, original: torch.Tensor) -> None:
        """Remember a copy of a small real tensor for its meta twin.

        Of a storage that is larger, the rest is not known until other views of it are copied.
        """
        is_strided = original.layout is torch.strided
        if not is_strided or not has_small_value(original.shape, original.dtype):
            return
        storage = meta.untyped_storage()
        key = storage_key(storage)
        if not has_same_place(meta, original):
            self.set(meta, original.detach().to("cpu", copy=True), keep=True)
            return
        start, end = span_of(original)
        if end - start > SPAN_LIMIT:
            return
        if key not in self._storages:
            self.adopt(storage, torch.UntypedStorage(storage.nbytes()))
            self._spans[key] = Spans()
        if key in self._spans:
            copy_bytes(self._storages[key], original.untyped_storage(), start, end)
            self._spans[key].add(start, end)

    def get(self, meta: torch.Tensor) -> torch.Tensor | None:
        """Return a real view with the geometry of ``meta``, ``None`` when it has no value."""
        key = storage_key(meta.untyped_storage())
        return view_over(self._storages[key], meta) if self._knows(key, meta) else None

    def knows(self, meta: torch.Tensor) -> bool:
        """Return whether a tensor has a value."""
        return self._knows(storage_key(meta.untyped_storage()), meta)

    def _knows(self, key: int, meta: torch.Tensor) -> bool:
        spans = self._spans.get(key)
        return key in self._storages and (spans is None or spans.cover(meta))

    def is_guessed(self, meta: torch.Tensor) -> bool:
        """Return whether the value goes back to an input that was made from a shape."""
        return storage_key(meta.untyped_storage()) in self._guessed

    def decide(self, meta: torch.Tensor, what: str) -> torch.Tensor:
        """Return the value that a branch or a shape is about to depend on.

        Raises:
            DataDependentError: when there is none.
        """
        value = self.get(meta)
        if value is None and self.default is not None and meta.numel() == 1:
            self.used_default = True
            return torch.full(meta.shape, self.default, dtype=meta.dtype, device="cpu")
        if value is None:
            shape = tuple(meta.shape)
            raise DataDependentError(
                f"{what} needs the values of a {str(meta.dtype)[6:]} tensor of shape {shape}"
            )
        if self.is_guessed(meta) and what not in self.decided_on_guess:
            self.decided_on_guess.append(what)
        return value

    @contextmanager
    def assumed(self, default: float) -> Iterator[None]:
        """Take unknown scalars to be ``default`` while the context is open."""
        before = self.default, self.used_default
        self.default = default
        try:
            yield
        finally:
            self.default, self.used_default = before

    def compute(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[Any, bool]:
        """Run ``func`` on the values of its arguments; return the result and whether it is a guess.

        All tensor arguments must have values. Raises what ``func`` raises.
        """
        guessed = False

        def real(value: Any) -> Any:
            nonlocal guessed
            if isinstance(value, torch.Tensor):
                guessed = guessed or self.is_guessed(value)
                return self.get(value)
            if isinstance(value, (list, tuple)):
                return type(value)(real(item) for item in value)
            return value

        with torch.no_grad():
            real_args = real(args)
            real_kwargs = {name: real(value) for name, value in kwargs.items()}
            if "device" in real_kwargs:
                real_kwargs["device"] = torch.device("cpu")
            return func(*real_args, **real_kwargs), guessed
