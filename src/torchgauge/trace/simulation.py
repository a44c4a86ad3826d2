"""How an operator runs without data: on meta tensors, with values beside where they are small.

Everything here runs inside the recorder's dispatch handler, where the mode is off: operators
called here are not recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import torch

from torchgauge.trace.higher_order import run_higher_order
from torchgauge.trace.op_facts import OpFacts
from torchgauge.trace.shape_rules import META
from torchgauge.trace.torch_internals import storage_key
from torchgauge.trace.values import ValueStore, has_small_value

CPU = torch.device("cpu")
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
            if value is not None:  # .tolist(), .numpy() and printing read it there
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
        if facts.reads_values:
            return self._run_reader(func, facts, args, kwargs, tensors)
        if facts.is_higher_order:
            return run_higher_order(func, args, kwargs)
        rule = self._rules.get(facts.name, facts.rule)
        output = NotImplemented if rule is None else rule(args, kwargs)
        if output is NotImplemented:
            output = func(*args, **kwargs)
        if facts.depends_on_shape_only:
            self._fill(func, args, kwargs, output)
        elif len(self.values) > 0 and tensors:
            if facts.is_deterministic and self._all_known(tensors):
                self._follow(func, facts, args, kwargs, output)
            elif facts.is_mutating:
                self._invalidate(output, args)
        return output

    def _all_known(self, tensors: Sequence[torch.Tensor]) -> bool:
        values = self.values
        return all(storage_key(tensor.untyped_storage()) in values for tensor in tensors)

    def _follow(
        self, func: Any, facts: OpFacts, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        """Compute the values of an output whose inputs all have values."""
        outputs = [item for item in flat(output) if isinstance(item, torch.Tensor)]
        is_computed = False  # operators on lists that work in place return nothing
        if all(has_small_value(item.shape, item.dtype) for item in outputs):
            with suppress(RuntimeError, NotImplementedError, TypeError):
                real, guessed = self.values.compute(func, args, kwargs)
                is_computed = True
        if not is_computed:
            if facts.is_mutating:
                self._invalidate(output, args)
            return
        for meta, value in zip(outputs, flat(real), strict=False):
            if isinstance(value, torch.Tensor):
                self.values.set(meta, value, guessed=guessed, keep=True)

    def _fill(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Compute the values of a tensor that depends on shapes and scalars alone."""
        if not isinstance(output, torch.Tensor) or not has_small_value(output.shape, output.dtype):
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
        base = facts.name.split(".")[1]
        if base in ("index", "_unsafe_index"):
            args = (args[0], self._as_positions(args[1]), *args[2:])
            output = func(*args, **kwargs)
            if self._all_known([item for item in flat(args) if isinstance(item, torch.Tensor)]):
                self._follow(func, facts, args, kwargs, output)
            return output
        if base == "repeat_interleave" and kwargs.get("output_size") is not None:
            return func(*args, **kwargs)
        if base == "masked_select" and not self._all_known(tensors[:1]):
            mask = self.values.decide(tensors[1], base)
            shape = torch.broadcast_shapes(mask.shape, tensors[0].shape)
            size = int(mask.expand(shape).sum())
            return torch.empty(size, dtype=tensors[0].dtype, device=META)
        if base == "_local_scalar_dense":
            return self.values.decide(tensors[0], ".item()").item()
        for tensor in tensors:
            self.values.decide(tensor, base)
        real, guessed = self.values.compute(func, args, kwargs)
        return self._as_meta(real, guessed)

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


def _view(storage: torch.UntypedStorage, like: torch.Tensor, device: torch.device) -> torch.Tensor:
    view = torch.empty(0, dtype=like.dtype, device=device)
    return view.set_(storage, like.storage_offset(), like.shape, like.stride())


def _is_float_index(facts: OpFacts, args: tuple[Any, ...]) -> bool:
    return facts.name in _EMBEDDINGS and bool(args[1].is_floating_point())


_EMBEDDINGS = ("aten.embedding.default", "aten._embedding_bag.default",
               "aten._embedding_bag_forward_only.default")  # fmt: skip
