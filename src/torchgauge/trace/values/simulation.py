"""How an operator runs without data: on meta tensors, with the values of small ones kept.

Everything here runs inside the recorder's dispatch handler, where the mode is off: operators
called here are not recorded.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch

from torchgauge.trace.inspect.geometry import covers_storage, view_over
from torchgauge.trace.inspect.irregular import (
    KNOWN_WITHOUT_DATA,
    is_irregular,
    refuse,
    sparse_clone,
)
from torchgauge.trace.operators.op_facts import OpCall, OpFacts
from torchgauge.trace.operators.remembered import Remembered
from torchgauge.trace.shapes import coordinates
from torchgauge.trace.shapes.rule import META, Args, Kwargs, Rule
from torchgauge.trace.torch_internals.kernels import sent_already
from torchgauge.trace.torch_internals.tensors import storage_key
from torchgauge.trace.values.constants import PICKS, filled_with, passed_on
from torchgauge.trace.values.deferred import recipe_of
from torchgauge.trace.values.higher_order import run_higher_order
from torchgauge.trace.values.limits import (
    CAST_LIMIT,
    GIVEN_LIMIT,
    GUESS_LIMIT,
    INTEGER_LIMIT,
    READ_LIMIT,
    has_small_value,
)
from torchgauge.trace.values.origins import DRAWN, FINITE, KNOWN, POSITIVE, Origins
from torchgauge.trace.values.readers import CPU, Readers
from torchgauge.trace.values.recipes import Mixed, Place
from torchgauge.trace.values.spread import CHOICES, Choice, spread
from torchgauge.trace.values.taken import Magnitudes, draw, draws, finite_answer, range_drawn
from torchgauge.trace.values.values import ValueStore

_INDEXING = ("index", "_unsafe_index")
INDEXING = (*_INDEXING, "index_put", "index_put_", "_unsafe_index_put", "_index_put_impl_")
_EMPTY = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
_PLAIN = {
    "aten.mkldnn_max_pool2d.default": torch.ops.aten.max_pool2d.default,
    "aten.mkldnn_max_pool3d.default": torch.ops.aten.max_pool3d.default,
}
"""What an operator on oneDNN's own tensors, which pools without gradients, is on others."""
_FILLS_IN_PLACE = ("fill_", "zero_", "copy_")
"""What may give values to a tensor that had none."""


class Simulation:
    """Keep a run on the meta device and its small values known."""

    def __init__(
        self, rules: Mapping[str, Rule] | None = None, *, values: ValueStore | None = None
    ) -> None:
        self.values = ValueStore() if values is None else values
        self.readers = Readers(self.values)
        self._rules = rules or {}
        self.remembered = Remembered()
        self.lost_index = False
        """Whether the values of an index that is written as a list were lost."""
        self.float_indices: list[int] = []
        """Storages of floating-point tensors that were used as indices into an embedding."""
        self.magnitudes = Magnitudes()
        self._drawn = 0
        """How many random numbers were drawn."""
        self._constants: dict[int, tuple[weakref.ref[torch.UntypedStorage], Any]] = {}
        """By real storage: a reference that ends with it, and its meta copy."""

    @property
    def has_guessed_choice(self) -> bool:
        """Return whether something was decided on an even split."""
        return any(isinstance(origin, Choice) for _, origin in self.values.decided_on)

    def note_index(self, indices: Sequence[Any], live: Mapping[int, int]) -> None:
        """Note an index of whole numbers that no operator made: it was written as a list.

        ``live`` holds the keys of the storages that are known.
        """
        for index in indices:
            if (
                isinstance(index, torch.Tensor)
                and storage_key(index.untyped_storage()) not in live
                and not self.values.knows(index)
            ):
                self.lost_index = True

    # ------------------------------------------------------------------ constants

    def constant(
        self, tensor: torch.Tensor, *, origins: Origins = KNOWN, keep: bool = True
    ) -> torch.Tensor:
        """Return the meta copy of a real tensor; the same storage always gets the same copy.

        Without ``keep`` the copy is a new one, which lives as long as it is used.
        """
        if is_irregular(tensor):
            refuse(nested=tensor.is_nested)
        storage = tensor.untyped_storage()
        key = storage_key(storage)
        entry = self._constants.get(key)
        is_new = entry is None
        if entry is None:
            ended = weakref.ref(storage, lambda _: self._constants.pop(key, None))
            entry = (ended, torch.UntypedStorage(storage.nbytes(), device="meta"))
            if keep:
                self._constants[key] = entry
        meta = view_over(entry[1], tensor)
        if tensor.is_meta:
            return meta
        numel = storage.nbytes() // max(1, tensor.element_size())
        if is_new and has_small_value((numel,), tensor.dtype):
            whole = torch.UntypedStorage(storage.nbytes())
            whole.copy_(storage.cpu(), False)
            self.values.adopt(entry[1], whole, origins=origins)
        elif is_new or (storage_key(entry[1]) in self.values and not self.values.knows(meta)):
            self.values.copy_of(meta, tensor)
        return meta

    def on_cpu(self, meta: torch.Tensor) -> torch.Tensor:
        """Return what a tensor that lies on the CPU is there: real where its values are known."""
        value = self.values.get(meta)
        if value is None or value.numel() > READ_LIMIT:
            return meta.detach()
        real = value.clone(memory_format=torch.contiguous_format)
        self.values.note_copy(self.values.origins_of(meta))
        if covers_storage(meta) and meta.is_contiguous():  # what stands for it is the tensor itself
            storage = real.untyped_storage()
            key = storage_key(storage)
            ended = weakref.ref(storage, lambda _: self._constants.pop(key, None))
            self._constants[key] = (ended, meta.untyped_storage())
            return real
        return self._handed_out(meta, real)

    def _handed_out(self, meta: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Return a copy for the CPU of a tensor's value; if it is a guess, so is the copy."""
        origins = self.values.origins_of(meta)
        if origins:
            self.values.note_copy(origins)
            self.constant(real, origins=origins)
        return real

    def on_meta(self, value: Any, *, keep: bool = True) -> Any:
        """Return an argument with every tensor in it on the meta device."""
        if isinstance(value, torch.Tensor):
            return value if value.is_meta else self.constant(value, keep=keep)
        if isinstance(value, (list, tuple)):
            return type(value)(self.on_meta(item, keep=keep) for item in value)
        return value

    # ------------------------------------------------------------------ operators

    def run(
        self, func: Any, facts: OpFacts, args: Args, kwargs: Kwargs, tensors: Sequence[torch.Tensor]
    ) -> Any:
        """Run one operator; all ``tensors`` among its arguments are on the meta device."""
        if facts.name == "aten.lift_fresh.default":
            return args[0]
        if facts.makes_nested:
            refuse(nested=True)
        if facts.name == "aten._to_copy.default" and kwargs.get("device") == CPU:
            value = self.values.get(tensors[0])
            if value is not None and value.numel() <= READ_LIMIT:  # .tolist(), .numpy() read it
                return self._handed_out(tensors[0], value.to(kwargs.get("dtype"), copy=True))
        if facts.is_factory or "device" in kwargs:
            kwargs = {**kwargs, "device": META}
            kwargs.pop("pin_memory", None)
        if _is_float_index(facts, args):
            self.float_indices.append(storage_key(args[1].untyped_storage()))
            raise TypeError(
                f"an embedding looks up whole numbers, but its indices are {args[1].dtype}"
            )
        if facts.name == "aten._pack_padded_sequence.default":
            return self.readers.pack(*args)
        if facts.base in _INDEXING:
            args = (args[0], self.readers.as_positions(args[1]), *args[2:])
            tensors = [item for item in flat(args) if isinstance(item, torch.Tensor)]
        elif facts.reads_values and facts.rule is None:
            return self.readers.run(OpCall(func, facts, args, kwargs, tensors))
        if facts.is_collective and func.namespace == "c10d":
            return sent_already(func, args)
        if facts.is_higher_order:
            return run_higher_order(func, args, kwargs)
        rule = self._rules.get(facts.name, facts.rule)
        if facts.name == "aten.clone.default" and is_irregular(args[0]):
            return sparse_clone(args[0])  # PyTorch's own would hold no elements
        output = NotImplemented if rule is None else rule(args, kwargs)
        if facts.base in coordinates.BASES:
            sparse = coordinates.answer(facts.base, args, self._indices)
            output = output if sparse is NotImplemented else sparse
        if output is NotImplemented:
            output = self.remembered.answer(func, facts, args, kwargs)
        if isinstance(output, torch.Tensor) and is_irregular(output):
            if facts.name.split(".")[1] not in KNOWN_WITHOUT_DATA:
                refuse(nested=output.is_nested)
            return output
        self._note_values(OpCall(func, facts, args, kwargs, tensors), output)
        return output

    def _indices(self, indices: torch.Tensor) -> torch.Tensor:
        return self.values.decide(indices, "the number of elements of a sparse tensor")

    def _note_values(self, call: OpCall, output: Any) -> None:
        """Give the output of an operator the values that are known or may be assumed."""
        values, base, tensors = self.values, call.facts.base, call.tensors
        if call.facts.depends_on_shape_only:
            self._fill(call, output)
        elif draws(call, output):
            self._drawn += 1
            draw(values, self._drawn, call, output)
        elif (bounds := range_drawn(call)) is not None:
            self._drawn += 1
            values.defer(output, Mixed(*bounds, self._drawn), origins=DRAWN)
        elif (answer := finite_answer(base, call.args)) is not None and not self._all_known(
            tensors
        ):
            values.fill(output, answer, origins=FINITE)
        elif (answer := self.magnitudes.answer(call)) is not None and not self._all_known(tensors):
            values.fill(output, answer, origins=POSITIVE)
        elif base in _EMPTY:
            if has_small_value(output.shape, output.dtype):  # parts may be written one by one
                values.fill(output, 0)
        elif tensors and (len(values) > 0 or base in _FILLS_IN_PLACE):
            self._pass_on(call, output)
        self.magnitudes.note(call, output)
        if base in CHOICES:
            spread(values, call, output, values.place())

    def _pass_on(self, call: OpCall, output: Any) -> None:
        """Give the output of an operator its values, if they are known, or drop old ones."""
        facts, tensors = call.facts, call.tensors
        if facts.is_deterministic and self._all_known(tensors):
            self._follow(call, output)
        elif facts.base in _FILLS_IN_PLACE or (
            facts.base in PICKS and storage_key(tensors[0].untyped_storage()) in self.values
        ):
            is_known = storage_key(tensors[0].untyped_storage()) in self.values
            if facts.is_mutating and not is_known and not covers_storage(tensors[0]):
                return  # a part of what is not known
            if not self._fill_outputs(call, output):
                self._defer(call, output)
        elif facts.is_deterministic and self.values.defers_any(tensors):
            self._defer(call, output)
        elif facts.is_mutating:
            self._invalidate(output, call.args)

    def _defer(self, call: OpCall, output: Any) -> None:
        """Keep what gives the values of an output, or compute a small one from what is deferred."""
        values = self.values
        is_view = isinstance(output, torch.Tensor) and values.part_of(output) is not None
        if is_view and not call.facts.is_mutating:
            return
        found = recipe_of(values, call, output)
        if call.facts.is_mutating:
            self._invalidate(output, call.args)
        if found is None:
            return
        recipe, origins = found
        if has_small_value(output.shape, output.dtype):
            with suppress(RuntimeError, NotImplementedError, TypeError):
                values.set(output, recipe.part(Place.of(output)), origins=origins)
        else:
            values.defer(output, recipe, origins=origins)

    def _all_known(self, tensors: Sequence[torch.Tensor]) -> bool:
        return all(map(self.values.knows, tensors))

    def _follow(self, call: OpCall, output: Any) -> None:
        """Compute the values of an output whose inputs all have values."""
        values = self.values
        func, facts, args, kwargs, _ = call
        outputs = [item for item in flat(output) if isinstance(item, torch.Tensor)]
        if outputs and not facts.is_mutating and self._all_known(outputs):  # views
            return
        inputs = [item for item in flat((args, *kwargs.values())) if isinstance(item, torch.Tensor)]
        limit = _limit(inputs, is_guess=bool(values.origins_of(*inputs)))
        # Zeros that a mask over experts is written into. Not the states of an optimizer, which
        # lists are: nothing is decided on them, and they are as large as all parameters.
        if facts.is_mutating and not facts.base.startswith("_foreach"):
            for item in inputs:
                values.write_out(item, limit)
        written = all(map(values.is_written_out, inputs))
        readable = written or (
            not facts.is_mutating and all(item.numel() <= INTEGER_LIMIT for item in inputs)
        )
        is_wide = not facts.is_mutating and any(item.numel() > INTEGER_LIMIT for item in inputs)
        if is_wide and self._fill_outputs(call, output):
            return
        is_small = all(_is_worth_it(output, inputs, limit) for output in outputs)
        # A mask becomes numbers before it is resized to a feature map, which is small again.
        if readable and (is_small or _is_made_of_whole_numbers(facts, inputs)):
            with suppress(RuntimeError, NotImplementedError, TypeError):
                real, origins = values.compute(_PLAIN.get(facts.name, func), args, kwargs)
                if facts.is_mutating:
                    values.note_writes(inputs)
                for meta, value in zip(flat(output), flat(real), strict=False):
                    if isinstance(meta, torch.Tensor) and isinstance(value, torch.Tensor):
                        values.set(meta, value, origins=origins, keep=True)
                return  # operators on lists that work in place return nothing
        if not self._fill_outputs(call, output):
            self._defer(call, output)

    def _fill_outputs(self, call: OpCall, output: Any) -> bool:
        """Fill outputs with one number where a rule says so; return whether one did."""
        values = self.values
        outputs = [item for item in flat(output) if isinstance(item, torch.Tensor)]
        filled = None
        with suppress(RuntimeError, NotImplementedError, TypeError, IndexError):
            filled = passed_on(call, outputs, values.number_of)
        origins = values.origins_of(*flat(call.args))
        for meta, number in filled or ():
            if call.facts.is_mutating and not covers_storage(meta):
                before = values.number_of(meta)
                if before is None or before != number:
                    return False
            else:
                values.fill(meta, number, origins=origins)
        return filled is not None

    def _fill(self, call: OpCall, output: Any) -> None:
        """Compute the values of a tensor that depends on shapes and scalars alone."""
        if not isinstance(output, torch.Tensor):
            return
        func, facts, args, kwargs, _ = call
        if not has_small_value(output.shape, output.dtype):
            number = filled_with(facts.base, args, kwargs)
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

    def _invalidate(self, output: Any, args: Args) -> None:
        """Forget the values of what an operator with unknown inputs has written to."""
        written = args if output is None else args[:1]  # lists, of which several may change
        for item in (*flat(output), *flat(written)):
            if isinstance(item, torch.Tensor):
                self.values.forget(storage_key(item.untyped_storage()))


def _is_worth_it(output: torch.Tensor, inputs: Sequence[torch.Tensor], limit: int) -> bool:
    """Return whether an output is small, or no larger than the real numbers it is made of."""
    if has_small_value(output.shape, output.dtype, limit=limit):
        return True
    known = max((item.numel() for item in inputs if item.dtype.is_floating_point), default=0)
    return output.dtype.is_floating_point and output.numel() <= min(known, CAST_LIMIT)


def _is_made_of_whole_numbers(facts: OpFacts, inputs: Sequence[torch.Tensor]) -> bool:
    """Return whether whole numbers become real ones: a cast, or numbers chosen by a mask."""
    return (
        facts.base in ("_to_copy", "where")
        and not inputs[0].dtype.is_floating_point
        and inputs[0].numel() <= CAST_LIMIT
    )


def _limit(inputs: Sequence[torch.Tensor], *, is_guess: bool) -> int:
    """Return how many whole numbers are worth computing: no more than were given as one tensor."""
    if is_guess:
        return GUESS_LIMIT
    sizes = [item.untyped_storage().nbytes() // item.element_size() for item in inputs]
    return min(max((INTEGER_LIMIT, *sizes)), GIVEN_LIMIT)


def flat(value: Any) -> list[Any]:
    """Return the leaves of nested lists and tuples."""
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in flat(item)]
    return [value]


def _is_float_index(facts: OpFacts, args: Args) -> bool:
    return facts.name in _EMBEDDINGS and bool(args[1].is_floating_point())


_EMBEDDINGS = ("aten.embedding.default", "aten._embedding_bag.default",
               "aten._embedding_bag_forward_only.default")  # fmt: skip
