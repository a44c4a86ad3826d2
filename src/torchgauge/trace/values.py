"""Real values beside meta tensors, so that code which looks at values runs unchanged.

Masks, position indices, sequence lengths and step counters decide shapes and branches. Such
tensors are small, so each of their storages gets a real CPU twin, and every operator whose
inputs all have one is also run on the twins. ``.item()`` and ``nonzero`` then answer truly.
A storage of any size that is filled with one number needs no twin: the number is kept.
A value that was guessed (an input made from a shape) stays marked as such, and the first
decision taken on it is written into the report's assumptions.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch

from torchgauge.trace.code_lines import code_line
from torchgauge.trace.constants import covers_storage, reinterpreted
from torchgauge.trace.torch_internals import storage_key

INTEGER_LIMIT = 1 << 18
"""Elements up to which integer and boolean tensors keep a value."""
FLOAT_LIMIT = 1 << 12
"""Elements up to which floating-point tensors keep a value."""
READ_LIMIT = 1 << 22
"""Elements up to which a tensor that is filled with one number is written out to be read."""
_SAMPLE = 64
"""Elements that are compared before all of them are."""


class DataDependentError(RuntimeError):
    """The model asked for a value that a simulated run does not have."""


def has_small_value(shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    """Return whether a tensor of this shape and dtype is worth a real value."""
    numel = 1
    for size in shape:
        numel *= size
    return numel <= (FLOAT_LIMIT if dtype.is_floating_point or dtype.is_complex else INTEGER_LIMIT)


def number_that_fills(value: torch.Tensor) -> torch.Tensor | None:
    """Return the one number (0-dimensional) that all elements of a real tensor are, or ``None``."""
    if value.numel() == 0:
        return None
    first = value[(0,) * value.dim()]
    if value.is_contiguous() and value.numel() > _SAMPLE:
        step = value.numel() // _SAMPLE
        if not bool((value.view(-1)[::step] == first).all()):
            return None
    return first.clone() if bool((value == first).all()) else None


class ValueStore:
    """Real storages, and numbers, by the key of the meta storage that they stand beside."""

    def __init__(self) -> None:
        self._storages: dict[int, torch.UntypedStorage] = {}
        self._numbers: dict[int, torch.Tensor] = {}
        """The number (0-dimensional) that fills a storage which is too large for a twin."""
        self._watches: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._guessed: set[int] = set()
        self.decided_on_guess: list[str] = []
        self.default: float | None = None
        """Stands for unknown scalars where no shape or branch of interest depends on them."""
        self.used_default = False

    def __contains__(self, key: int) -> bool:
        return key in self._storages or key in self._numbers

    def __len__(self) -> int:
        return len(self._storages) + len(self._numbers)

    def forget(self, key: int) -> None:
        """Drop the value of a storage, because it was freed or overwritten with unknown data."""
        self._storages.pop(key, None)
        self._numbers.pop(key, None)
        self._watches.pop(key, None)
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
            self._view(twin, meta).copy_(value)
        self.adopt(storage, twin, guessed=guessed)

    def adopt(
        self, meta: torch.UntypedStorage, real: torch.UntypedStorage, *, guessed: bool = False
    ) -> None:
        """Remember a whole CPU storage for a meta storage, as long as that one lives."""
        key = self._watch(meta, guessed=guessed)
        self._storages[key] = real

    def fill(self, meta: torch.Tensor, number: Any, *, guessed: bool = False) -> None:
        """Remember that the whole storage of ``meta`` is filled with one number, whatever its size.

        A small one gets a twin, which keeps its value when parts of it are overwritten.
        """
        if has_small_value(meta.shape, meta.dtype):
            self.set(meta, torch.full_like(meta, number, device="cpu"), guessed=guessed)
            return
        key = self._watch(meta.untyped_storage(), guessed=guessed)
        self._storages.pop(key, None)
        self._numbers[key] = torch.as_tensor(number, device="cpu").to(meta.dtype).reshape(())

    def _watch(self, meta: torch.UntypedStorage, *, guessed: bool) -> int:
        key = storage_key(meta)
        # The address of a freed storage is used again; its value must not come back with it.
        self._watches[key] = weakref.ref(meta, lambda _: self.forget(key))
        if guessed:
            self._guessed.add(key)
        return key

    def guess(self, meta: torch.Tensor, number: int) -> None:
        """Assume that an input is filled with one number; decisions on it are reported."""
        self.fill(meta, number, guessed=True)

    def copy_of(self, meta: torch.Tensor, original: torch.Tensor) -> None:
        """Remember the values of a real tensor for its meta twin: small ones, and one number."""
        if original.layout is not torch.strided or storage_key(meta.untyped_storage()) in self:
            return
        if has_small_value(original.shape, original.dtype):
            self.set(meta, original.detach().to("cpu", copy=True), keep=True)
        elif original.device.type == "cpu":
            number = number_that_fills(original.detach())
            if number is not None and covers_storage(original):
                self.fill(meta, number)

    def get(self, meta: torch.Tensor) -> torch.Tensor | None:
        """Return a real tensor with the geometry of ``meta``, ``None`` when it has no value."""
        key = storage_key(meta.untyped_storage())
        twin = self._storages.get(key)
        if twin is not None:
            return self._view(twin, meta)
        number = self.number_of(meta) if key in self._numbers else None
        return None if number is None else number.expand(meta.shape)

    def is_written_out(self, meta: torch.Tensor) -> bool:
        """Return whether each element of a tensor has a value of its own in memory."""
        return storage_key(meta.untyped_storage()) in self._storages

    def number_of(self, meta: torch.Tensor) -> torch.Tensor | None:
        """Return the number (0-dimensional) that fills a tensor, ``None`` when none does."""
        key = storage_key(meta.untyped_storage())
        number = self._numbers.get(key)
        if number is not None:
            return reinterpreted(number, meta.dtype)
        twin = self._storages.get(key)
        return None if twin is None else number_that_fills(self._view(twin, meta))

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
            line = code_line()
            raise DataDependentError(
                f"{what} needs the values of a {str(meta.dtype)[6:]} tensor of shape "
                f"{tuple(meta.shape)}" + (f" in {line}" if line else "")
            )
        if self.is_guessed(meta) and what not in self.decided_on_guess:
            self.decided_on_guess.append(what)
        return value

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

    @staticmethod
    def _view(storage: torch.UntypedStorage, like: torch.Tensor) -> torch.Tensor:
        empty = torch.empty(0, dtype=like.dtype, device="cpu")
        return empty.set_(storage, like.storage_offset(), like.shape, like.stride())
