"""Where the bytes of parameters and buffers differ from the memory that they keep alive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from torchgauge.trace.inspect.geometry import is_whole
from torchgauge.trace.inspect.irregular import is_irregular
from torchgauge.trace.inspect.modules import tensors_of
from torchgauge.trace.inspect.subclasses import ORDINARY, stored_tensors
from torchgauge.trace.inspect.tree import is_packed_buffer, own_bytes, place_of
from torchgauge.trace.torch_internals.tensors import storage_key

_NAMED = 3
"""Tensors that a note names."""


def storage_notes(root: nn.Module) -> Iterator[str]:
    """Yield a sentence where tensors are parts of larger storages, or share one.

    A tensor's own bytes count for its layer; in memory its storage counts, once and whole, under
    what was registered first: parameters, then buffers.
    """
    if _has_each_its_own(root):
        return
    seen: set[int] = set()
    buffers: list[tuple[str, torch.Tensor]] = []
    packed: list[tuple[str, torch.Tensor]] = []
    for name, tensor in root.named_buffers():
        (packed if is_packed_buffer(root, name, tensor) else buffers).append((name, tensor))
    for kind, named in (("parameters", [*root.named_parameters(), *packed]), ("buffers", buffers)):
        own, whole, names = _weigh(named, seen)
        if own != whole:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            yield (
                f"{kind}: {own:,} bytes of elements, {whole:,} bytes in memory, where a storage "
                f"counts once and whole (views: {', '.join(names[:_NAMED])}{more})"
            )


def _has_each_its_own(root: nn.Module) -> bool:
    """Return whether each tensor is an ordinary one, and all of a storage that no other has."""
    seen: set[int] = set()
    count = 0
    for tensors in tensors_of(root):
        for tensor in tensors:
            if type(tensor) not in ORDINARY or is_irregular(tensor):
                return False
            storage = tensor.untyped_storage()
            if not is_whole(tensor, storage):
                return False
            seen.add(storage_key(storage))
        count += len(tensors)
    return len(seen) == count


def _weigh(named: Iterable[tuple[str, torch.Tensor]], seen: set[int]) -> tuple[int, int, list[str]]:
    """Return the bytes of tensors, those of their storages, and which of them differ."""
    own = whole = 0
    names: list[str] = []
    places: set[tuple[object, ...]] = set()
    for name, tensor in named:
        for part in () if is_lazy(tensor) else stored_tensors(tensor):
            if part.layout is not torch.strided:
                continue
            storage, place = part.untyped_storage(), place_of(part)
            key = storage_key(storage)
            if place in places:  # tied
                continue
            places.add(place)
            nbytes = own_bytes(part)
            own += nbytes
            whole += 0 if key in seen else storage.nbytes()
            if key in seen or nbytes != storage.nbytes():
                names.append(name)
            seen.add(key)
    return own, whole, list(dict.fromkeys(names))
