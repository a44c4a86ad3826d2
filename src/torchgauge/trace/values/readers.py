"""Operators whose result is a value, or has a shape that depends on values."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch

from torchgauge.trace.data_dependent import DataDependentError
from torchgauge.trace.operators.op_facts import OpCall
from torchgauge.trace.shapes.readers import READER_RULES
from torchgauge.trace.shapes.rule import META
from torchgauge.trace.torch_internals.tensors import storage_key
from torchgauge.trace.values.limits import READ_LIMIT
from torchgauge.trace.values.origins import FROM_SIZE, Origins
from torchgauge.trace.values.values import ValueStore

CPU = torch.device("cpu")


class Readers:
    """Answer such operators from the values that are known."""

    def __init__(self, values: ValueStore) -> None:
        self.values = values

    def run(self, call: OpCall) -> Any:
        """Run an operator whose result depends on values."""
        func, facts, args, kwargs, tensors = call
        base = facts.base
        if base in ("index", "_unsafe_index"):
            return func(*args, **kwargs)
        if base == "repeat_interleave" and kwargs.get("output_size") is not None:
            return func(*args, **kwargs)
        if base == "masked_select" and self.values.get(tensors[0]) is None:
            mask = self.values.decide(tensors[1], base)
            shape = torch.broadcast_shapes(mask.shape, tensors[0].shape)
            number = self.values.number_of(tensors[1])
            size = prod(shape) if number else 0
            if number is None:
                size = int(mask.expand(shape).sum())
            return torch.empty(size, dtype=tensors[0].dtype, device=META)
        if base == "_local_scalar_dense":
            return self.values.decide(tensors[0], ".item()").item()
        if base == "_ctc_loss":  # with its lengths as tensors
            what = "the length of sequences in a CTC loss"
            lengths = [self.values.decide(tensor, what) for tensor in args[2:4]]
            return READER_RULES["aten._ctc_loss.default"](
                (*args[:2], *(length.tolist() for length in lengths), *args[4:]), kwargs
            )
        if base == "equal" and (known := _equal_without_values(*args)) is not None:
            return known
        for tensor in tensors:
            self.values.decide(tensor, base)
        if any(
            tensor.numel() > READ_LIMIT and not self.values.is_written_out(tensor)
            for tensor in tensors
        ):
            return self._read_numbers(call)
        real, origins = self.values.compute(func, args, kwargs)
        return self._as_meta(real, origins)

    def _read_numbers(self, call: OpCall) -> Any:
        """Read tensors that are too large to be written out, each filled with one number.

        Raises:
            DataDependentError: where the number alone does not say it.
        """
        tensors, base = call.tensors, call.facts.base
        numbers = [self.values.number_of(tensor) for tensor in tensors]
        if base == "nonzero" and numbers[0] is not None:
            count = tensors[0].numel() if numbers[0] else 0
            return torch.empty((count, tensors[0].dim()), dtype=torch.int64, device=META)
        if base in ("equal", "allclose") and None not in numbers:
            return call.func(*numbers, *call.args[2:], **call.kwargs)
        sizes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise DataDependentError(f"{base} needs all values of {sizes}, too many to write out")

    def pack(
        self, source: torch.Tensor, lengths: torch.Tensor, batch_first: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pack ``[T, B, ...]`` or ``[B, T, ...]``: the data ``[sum of lengths, ...]``, batch sizes.

        The batch sizes stay on the CPU, where recurrent layers read them. Lengths of which only
        the number was given are those of the source.

        Raises:
            RuntimeError: for lengths that PyTorch refuses too.
        """
        longest = source.shape[1 if batch_first else 0]
        if self.values.origins_of(lengths) >= FROM_SIZE:
            known = torch.full(lengths.shape, longest)
            self.values.settle_copies(FROM_SIZE)
            self.values.note_decision(
                f"the length of packed sequences ({longest} steps each)", FROM_SIZE
            )
        else:
            known = self.values.decide(lengths, "the length of packed sequences")
        _check_lengths(known)
        steps = torch.arange(int(known[0]), device=CPU)
        batch_sizes = (known[:, None] > steps).sum(0)
        features = source.shape[2:]
        data = torch.empty((int(known.sum()), *features), dtype=source.dtype, device=META)
        return data, batch_sizes

    def as_positions(self, indices: Sequence[Any]) -> list[Any]:
        """Replace boolean indices by positions, whose number is part of the output's shape."""
        positions: list[Any] = []
        for index in indices:
            if index is None or index.dtype not in (torch.bool, torch.uint8):
                positions.append(index)
                continue
            mask = self.values.decide(index, "indexing with a mask")
            origins = self.values.origins_of(index)
            number = None if mask.numel() <= READ_LIMIT else self.values.number_of(index)
            if number is not None:
                count = mask.numel() if number else 0
                shape = (mask.dim(), count)
                positions += torch.empty(shape, dtype=torch.int64, device=META).unbind(0)
                continue
            found = mask.nonzero().unbind(1)
            positions += [self._as_meta(item.contiguous(), origins) for item in found]
        return positions

    def _as_meta(self, real: Any, origins: Origins) -> Any:
        if isinstance(real, torch.Tensor):
            meta = torch.empty_strided(real.shape, real.stride(), dtype=real.dtype, device=META)
            self.values.set(meta, real, origins=origins)
            return meta
        if isinstance(real, (list, tuple)):
            return type(real)(self._as_meta(item, origins) for item in real)
        return real


def _check_lengths(lengths: torch.Tensor) -> None:
    """Refuse what ``_pack_padded_sequence`` in PyTorch's ``PackedSequence.cpp`` refuses."""
    if int(lengths.min()) <= 0:
        raise RuntimeError(
            "Length of all samples has to be greater than 0, but found an element in 'lengths' "
            "that is <= 0"
        )
    if bool((lengths[1:] > lengths[:-1]).any()):
        raise RuntimeError(
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True"
        )


def _equal_without_values(left: torch.Tensor, right: torch.Tensor) -> bool | None:
    """Return what ``torch.equal`` answers where shapes or identity say it, ``None`` elsewhere."""
    if left.shape != right.shape:
        return False
    same = (
        storage_key(left.untyped_storage()) == storage_key(right.untyped_storage())
        and left.storage_offset() == right.storage_offset()
        and left.stride() == right.stride()
        and left.dtype == right.dtype
    )
    return True if same or left.numel() == 0 else None
