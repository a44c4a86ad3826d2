"""How an operator runs without data: on meta tensors, with values beside where they are small.

Everything here runs inside the recorder's dispatch handler, where the mode is off: operators
called here are not recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import prod
from typing import Any, TypeAlias

import torch

from torchgauge.trace.constants import PICKS, covers_storage, filled_with, passed_on
from torchgauge.trace.higher_order import run_higher_order
from torchgauge.trace.op_facts import OpFacts
from torchgauge.trace.reader_rules import READER_RULES
from torchgauge.trace.shape_rules import META
from torchgauge.trace.torch_internals import storage_key
from torchgauge.trace.values import (
    INTEGER_LIMIT,
    READ_LIMIT,
    DataDependentError,
    ValueStore,
    has_small_value,
)

CPU = torch.device("cpu")
_FILLS_IN_PLACE = ("fill_", "zero_", "copy_")
"""What may give values to a tensor that had none."""
Rule: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Any]


class Simulation:
    """Keep a run on the meta device and its small values known."""

    def __init__(self, rules: Mapping[str, Rule] | None = None) -> None:
        self.values = ValueStore()
        self._rules = rules or {}
        self.float_indices: list[int] = []
        """Storages of floating-point tensors that were used as indices into an embedding."""
        self._constants: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    # ------------------------------------------------------------------ constants

    def constant(
        self, tensor: torch.Tensor, *, guessed: bool = False, keep: bool = True
    ) -> torch.Tensor:
        """Return the meta twin of a real tensor; the same storage always gets the same twin.

        Without ``keep`` the twin is a new one, which lives as long as it is used.
        """
        if tensor.layout is not torch.strided:
            return tensor.detach().to(META)
        storage = tensor.untyped_storage()
        key = storage_key(storage)
        entry = self._constants.get(key)
        is_new = entry is None
        if entry is None:
            entry = (storage, torch.UntypedStorage(storage.nbytes(), device="meta"))
            if keep:
                self._constants[key] = entry
        twin = _view(entry[1], tensor, META)
        if storage_key(entry[1]) not in self.values and not tensor.is_meta:
            numel = storage.nbytes() // max(1, tensor.element_size())
            if has_small_value((numel,), tensor.dtype):
                whole = torch.UntypedStorage(storage.nbytes())
                whole.copy_(storage.cpu(), False)
                self.values.adopt(entry[1], whole, guessed=guessed)
            elif is_new:
                self.values.copy_of(twin, tensor)
        return twin

    def on_meta(self, value: Any, *, keep: bool = True) -> Any:
        """Return an argument with every tensor in it on the meta device."""
        if isinstance(value, torch.Tensor):
            return value if value.is_meta else self.constant(value, keep=keep)
        if isinstance(value, (list, tuple)):
            return type(value)(self.on_meta(item, keep=keep) for item in value)
        return value

    # ------------------------------------------------------------------ operators

    def run(
        self,
        func: Any,
        facts: OpFacts,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensors: Sequence[torch.Tensor],
    ) -> Any:
        """Run one operator; all ``tensors`` among its arguments are on the meta device."""
        if facts.name == "aten.lift_fresh.default":
            return args[0]
        if facts.name == "aten._to_copy.default" and kwargs.get("device") == CPU:
            value = self.values.get(tensors[0])
            if value is not None and value.numel() <= READ_LIMIT:  # .tolist(), .numpy() read it
                return value.to(dtype=kwargs.get("dtype") or value.dtype, copy=True)
        if facts.is_factory or "device" in kwargs:
            kwargs = {**kwargs, "device": META}
            kwargs.pop("pin_memory", None)
        if _is_float_index(facts, args):
            self.float_indices.append(storage_key(args[1].untyped_storage()))
            raise TypeError(
                f"an embedding looks up whole numbers, but its indices are {args[1].dtype}"
            )
        if facts.name == "aten._pack_padded_sequence.default":
            return self._pack(*args)
        if facts.reads_values and facts.rule is None:
            return self._run_reader(func, facts, args, kwargs, tensors)
        if facts.is_higher_order:
            return run_higher_order(func, args, kwargs)
        rule = self._rules.get(facts.name, facts.rule)
        output = NotImplemented if rule is None else rule(args, kwargs)
        if output is NotImplemented:
            output = func(*args, **kwargs)
        if facts.depends_on_shape_only:
            self._fill(func, args, kwargs, output)
        elif tensors and (len(self.values) > 0 or facts.base in _FILLS_IN_PLACE):
            self._pass_on(func, facts, args, kwargs, output, tensors)
        return output

    def _pass_on(
        self,
        func: Any,
        facts: OpFacts,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
        tensors: Sequence[torch.Tensor],
    ) -> None:
        """Give the output of an operator its values, if they are known, or drop old ones."""
        if facts.is_deterministic and self._all_known(tensors):
            self._follow(func, facts, args, kwargs, output)
        elif facts.base in _FILLS_IN_PLACE or (
            facts.base in PICKS and storage_key(tensors[0].untyped_storage()) in self.values
        ):
            if not self._fill_outputs(func, facts, args, kwargs, output) and facts.is_mutating:
                self._invalidate(output, args)
        elif facts.is_mutating:
            self._invalidate(output, args)

    def _all_known(self, tensors: Sequence[torch.Tensor]) -> bool:
        values = self.values
        return all(storage_key(tensor.untyped_storage()) in values for tensor in tensors)

    def _follow(
        self, func: Any, facts: OpFacts, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        """Compute the values of an output whose inputs all have values."""
        values = self.values
        outputs = [item for item in flat(output) if isinstance(item, torch.Tensor)]
        if outputs and not facts.is_mutating and self._all_known(outputs):  # views
            return
        inputs = [item for item in flat((args, kwargs.values())) if isinstance(item, torch.Tensor)]
        written = all(map(values.is_written_out, inputs))
        readable = written or (
            not facts.is_mutating and all(item.numel() <= INTEGER_LIMIT for item in inputs)
        )
        is_wide = not facts.is_mutating and any(item.numel() > INTEGER_LIMIT for item in inputs)
        if is_wide and self._fill_outputs(func, facts, args, kwargs, output):
            return
        if readable and all(has_small_value(item.shape, item.dtype) for item in outputs):
            with suppress(RuntimeError, NotImplementedError, TypeError):
                real, guessed = values.compute(func, args, kwargs)
                for meta, value in zip(outputs, flat(real), strict=False):
                    if isinstance(value, torch.Tensor):
                        values.set(meta, value, guessed=guessed, keep=True)
                return  # operators on lists that work in place return nothing
        if not self._fill_outputs(func, facts, args, kwargs, output) and facts.is_mutating:
            self._invalidate(output, args)

    def _fill_outputs(
        self, func: Any, facts: OpFacts, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> bool:
        """Fill outputs with one number where a rule says so; return whether one did."""
        values = self.values
        outputs = [item for item in flat(output) if isinstance(item, torch.Tensor)]
        filled = None
        with suppress(RuntimeError, NotImplementedError, TypeError, IndexError):
            filled = passed_on(func, facts, args, kwargs, outputs, values.number_of)
        guessed = any(values.is_guessed(t) for t in flat(args) if isinstance(t, torch.Tensor))
        for meta, number in filled or ():
            if facts.is_mutating and not covers_storage(meta):
                before = values.number_of(meta)
                if before is None or before != number:
                    return False
            else:
                values.fill(meta, number, guessed=guessed)
        return filled is not None

    def _fill(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Compute the values of a tensor that depends on shapes and scalars alone."""
        if not isinstance(output, torch.Tensor):
            return
        if not has_small_value(output.shape, output.dtype):
            number = filled_with(func._schema.name.rpartition("::")[2], args, kwargs)
            if isinstance(number, (int, float, complex)):
                self.values.fill(output, number)
            return
        if args and isinstance(args[0], torch.Tensor):
            like = torch.empty((), dtype=args[0].dtype, device=CPU)
            args = (like.expand(args[0].shape), *args[1:])
        kwargs = {**kwargs, "device": CPU, "dtype": output.dtype}
        kwargs.pop("layout", None)
        kwargs.pop("memory_format", None)
        try:
            value = func(*args, **kwargs)
        except (RuntimeError, TypeError):
            return
        self.values.set(output, value)

    def _invalidate(self, output: Any, args: tuple[Any, ...]) -> None:
        """Forget the values of what an operator with unknown inputs has written to."""
        written = args if output is None else args[:1]  # lists, of which several may change
        for item in (*flat(output), *flat(written)):
            if isinstance(item, torch.Tensor):
                self.values.forget(storage_key(item.untyped_storage()))

    # ------------------------------------------------------------------ value readers

    def _run_reader(
        self,
        func: Any,
        facts: OpFacts,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensors: Sequence[torch.Tensor],
    ) -> Any:
        """Run an operator whose result depends on values."""
        base = facts.base
        if base in ("index", "_unsafe_index"):
            args = (args[0], self._as_positions(args[1]), *args[2:])
            output = func(*args, **kwargs)
            found = [item for item in flat(args) if isinstance(item, torch.Tensor)]
            self._pass_on(func, facts, args, kwargs, output, found)
            return output
        if base == "repeat_interleave" and kwargs.get("output_size") is not None:
            return func(*args, **kwargs)
        if base == "masked_select" and not self._all_known(tensors[:1]):
            mask = self.values.decide(tensors[1], base)
            shape = torch.broadcast_shapes(mask.shape, tensors[0].shape)
            number = self.values.number_of(tensors[1])
            if number is None:
                size = int(mask.expand(shape).sum())
            else:
                size = prod(shape) if number else 0
            return torch.empty(size, dtype=tensors[0].dtype, device=META)
        if base == "_local_scalar_dense":
            return self.values.decide(tensors[0], ".item()").item()
        if base == "_ctc_loss":  # with its lengths as tensors
            lengths = [self.values.decide(tensor, "the lengths of a CTC loss") for tensor in args[2:4]]
            return READER_RULES["aten._ctc_loss.default"](
                (*args[:2], *(length.tolist() for length in lengths), *args[4:]), kwargs
            )
        if base == "equal" and (known := _equal_without_values(*args)) is not None:
            return known
        for tensor in tensors:
            self.values.decide(tensor, base)
        if any(tensor.numel() > READ_LIMIT for tensor in tensors):
            return self._read_numbers(func, base, args, kwargs, tensors)
        real, guessed = self.values.compute(func, args, kwargs)
        return self._as_meta(real, guessed)

    def _read_numbers(
        self,
        func: Any,
        base: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensors: Sequence[torch.Tensor],
    ) -> Any:
        """Read tensors that are too large to be written out, each filled with one number.

        Raises:
            DataDependentError: where the number alone does not say it.
        """
        numbers = [self.values.number_of(tensor) for tensor in tensors]
        if base == "nonzero" and numbers[0] is not None:
            count = tensors[0].numel() if numbers[0] else 0
            return torch.empty((count, tensors[0].dim()), dtype=torch.int64, device=META)
        if base in ("equal", "allclose") and None not in numbers:
            return func(*numbers, *args[2:], **kwargs)
        sizes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise DataDependentError(f"{base} needs all values of {sizes}, too many to write out")

    def _pack(
        self, source: torch.Tensor, lengths: torch.Tensor, batch_first: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pack ``[T, B, ...]`` or ``[B, T, ...]``: the data ``[sum of lengths, ...]``, batch sizes.

        The batch sizes stay on the CPU, where recurrent layers read them.
        """
        known = self.values.decide(lengths, "the lengths of a packed sequence")
        steps = torch.arange(int(known[0]), device=CPU)
        batch_sizes = (known[:, None] > steps).sum(0)
        features = source.shape[2:]
        data = torch.empty((int(known.sum()), *features), dtype=source.dtype, device=META)
        return data, batch_sizes

    def _as_positions(self, indices: Sequence[Any]) -> list[Any]:
        """Replace boolean indices by positions, whose number is part of the output's shape."""
        positions: list[Any] = []
        for index in indices:
            if index is None or index.dtype not in (torch.bool, torch.uint8):
                positions.append(index)
                continue
            mask = self.values.decide(index, "indexing with a mask")
            guessed = self.values.is_guessed(index)
            number = None if mask.numel() <= READ_LIMIT else self.values.number_of(index)
            if number is not None:
                count = mask.numel() if number else 0
                shape = (mask.dim(), count)
                positions += torch.empty(shape, dtype=torch.int64, device=META).unbind(0)
                continue
            found = mask.nonzero().unbind(1)
            positions += [self._as_meta(item.contiguous(), guessed) for item in found]
        return positions

    def _as_meta(self, real: Any, guessed: bool) -> Any:
        if isinstance(real, torch.Tensor):
            meta = torch.empty_strided(real.shape, real.stride(), dtype=real.dtype, device=META)
            self.values.set(meta, real, guessed=guessed)
            return meta
        if isinstance(real, (list, tuple)):
            return type(real)(self._as_meta(item, guessed) for item in real)
        return real


def flat(value: Any) -> list[Any]:
    """Return the leaves of nested lists and tuples."""
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in flat(item)]
    return [value]


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


def _view(storage: torch.UntypedStorage, like: torch.Tensor, device: torch.device) -> torch.Tensor:
    view = torch.empty(0, dtype=like.dtype, device=device)
    return view.set_(storage, like.storage_offset(), like.shape, like.stride())


def _is_float_index(facts: OpFacts, args: tuple[Any, ...]) -> bool:
    return facts.name in _EMBEDDINGS and bool(args[1].is_floating_point())


_EMBEDDINGS = ("aten.embedding.default", "aten._embedding_bag.default",
               "aten._embedding_bag_forward_only.default")  # fmt: skip
