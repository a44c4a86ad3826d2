"""What operators answered on the meta device, so that a repeated layer costs its record alone.

PyTorch computes the shapes of many operators by decompositions in Python: half a millisecond for
an ``addmm``. The answer depends on what the arguments look like, never on data, so within one run
it is looked up. The safeguards are those of ``FakeTensorMode``'s dispatch cache
(``torch/_subclasses/fake_tensor.py``): everything that may decide an answer is part of the key,
and what does not fit into a key, or is not a new tensor, is computed each time.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import is_
from typing import Any, TypeAlias

import torch

from torchgauge.trace.operators.op_facts import OpFacts
from torchgauge.trace.operators.repeated import Held, Layer
from torchgauge.trace.shapes.rule import META, Args, Kwargs
from torchgauge.trace.torch_internals.autograd import graph_task
from torchgauge.trace.torch_internals.dispatch_state import (
    dispatch_keys,
    dispatch_keys_now,
    dispatch_state,
)
from torchgauge.trace.torch_internals.modes import function_mode_count
from torchgauge.trace.torch_internals.tensors import storage_key

_PLAIN = frozenset(
    (bool, int, float, complex, str, type(None), torch.dtype, torch.device, torch.layout,
     torch.memory_format)
)  # fmt: skip
_TENSORS = (torch.Tensor, torch.nn.Parameter)
"""Classes whose tensors are what their fields say; other classes may add rules."""
_TENSOR, _STRIDED = torch.Tensor, torch.strided
Made: TypeAlias = "tuple[tuple[int, ...], tuple[int, ...], torch.dtype] | None"
"""Shape, strides and dtype of an output; ``None`` where an operator returns that."""
_LEFT_TO_TORCH: Any = object()
"""Stands for an answer that is not a set of new tensors."""


class Remembered:
    """Answers of one run, by operator, arguments and the state that they were computed in."""

    def __init__(self) -> None:
        self._answers: dict[tuple[Any, ...], Any] = {}
        self._task_keys: tuple[Any, ...] = (None,)
        """A backward, and the dispatch keys of its nodes."""

    def answer(self, func: Any, facts: OpFacts, args: Args, kwargs: Kwargs) -> Any:
        """Return new tensors like those that ``func`` gave for the same call before."""
        storages: list[int] = []
        known = self.key(func, facts, args, kwargs, storages)
        if known is None:
            return func(*args, **kwargs)
        found = self._answers.get(known)
        if found is None:
            output = _answered(func, args, kwargs)
            self._answers[known] = _kept(output, storages)
            return output
        if found is _LEFT_TO_TORCH:
            return func(*args, **kwargs)
        return again(found)

    def key(
        self, func: Any, facts: OpFacts, args: Args, kwargs: Kwargs, storages: list[int]
    ) -> tuple[Any, ...] | None:
        """Return all that decides an answer, ``None`` where it cannot be told.

        The keys of the tensors' storages are added to ``storages``, in order of appearance.
        """
        if not facts.is_answered_by_specs or function_mode_count():
            return None
        key: list[Any] = [func, *dispatch_state()]
        if not _note(args, key, storages) or (kwargs and not _note_named(kwargs, key, storages)):
            return None
        return tuple(key)

    def layer_key(
        self, layer: Layer, args: Args, held: Held, storages: list[int]
    ) -> tuple[Any, ...] | None:
        """Return all that decides what a layer of plain operators does, ``None`` as for ``key``.

        ``held`` is what it keeps; ``storages`` as for ``key``.
        """
        key: list[Any] = [
            layer.kind, layer.names, layer.functions, len(args), torch.is_grad_enabled(),
            *dispatch_keys_now(),
        ]  # fmt: skip
        if not (_note(args, key, storages) and _note(held.tensors, key, storages)):
            return None
        attributes, noted = held.attributes, layer.noted
        if noted and all(map(is_, noted[0], attributes)):
            return *key, *noted[1]
        first = len(key)
        if not _note(attributes, key, storages):
            return None
        if noted is None:  # a first call
            layer.noted = ()
        elif _are_fixed(attributes):
            layer.noted = attributes, tuple(key[first:])
        return tuple(key)

    def gradient_key(self, gradient: torch.Tensor, storages: list[int]) -> tuple[Any, ...] | None:
        """Return all that decides what a node of plain operators makes of a gradient.

        As for ``key``; gradients are off, and no mode is active besides the recorder. A backward
        runs each node with the keys that it began with (``ThreadLocalStateGuard`` in
        ``torch/csrc/autograd/engine.cpp``).
        """
        if type(gradient) is not _TENSOR:
            return None
        task = graph_task()
        if task != self._task_keys[0]:
            self._task_keys = (task, *dispatch_keys_now())
        key = [*self._task_keys]
        return tuple(key) if _note_tensor(gradient, key, storages) else None

    def known(self, key: tuple[Any, ...]) -> Any:
        """Return what ``again`` makes the same answer from, ``None`` where PyTorch has to."""
        found = self._answers.get(key)
        return None if found is _LEFT_TO_TORCH else found


def _answered(func: Any, args: Args, kwargs: Kwargs) -> Any:
    """Run an operator; where a product is added, the product alone, which looks the same.

    PyTorch's own imports its compiler for the sum: that takes longer than to trace a ResNet, and a
    run in which it happens is made again.
    """
    if func in _SUMS_OF_PRODUCTS and len(args) == 3 and kwargs.keys() <= {"use_gelu"}:
        added, left, right = args
        if added.dtype is left.dtype is right.dtype:
            product = _MM(left, right)
            sizes = zip(reversed(added.shape), reversed(product.shape), strict=False)
            if added.dim() <= 2 and all(own in (1, size) for own, size in sizes):
                return product
    return func(*args, **kwargs)


_MM = torch.ops.aten.mm.default
_SUMS_OF_PRODUCTS = (torch.ops.aten.addmm.default, torch.ops.aten._addmm_activation.default)


def again(answer: Any) -> Any:
    """Return new tensors for an answer that is known."""
    kind, specs = answer
    return made_as(specs) if kind is None else kind([made_as(spec) for spec in specs])


def _note(values: Iterable[Any], key: list[Any], storages: list[int]) -> bool:
    """Add all that decides an answer to a key; return whether every value could be added.

    A tensor adds its fields, and which of the tensors before it has the same storage.
    """
    for value in values:
        kind = type(value)
        if kind in _TENSORS:
            if not _note_tensor(value, key, storages):
                return False
        elif kind in _PLAIN:
            key += (kind, value)  # 1, 1.0 and True are equal
        elif kind is list or kind is tuple:
            key += (kind, len(value))
            if not _note(value, key, storages):
                return False
        else:
            return False
    return True


def _are_fixed(values: Iterable[Any]) -> bool:
    """Return whether values are what they are as long as they are the same objects."""
    return all(
        type(value) in _PLAIN or (type(value) is tuple and all(type(v) in _PLAIN for v in value))
        for value in values
    )


def _note_named(kwargs: Kwargs, key: list[Any], storages: list[int]) -> bool:
    for name, value in kwargs.items():
        key.append(name)
        if not _note((value,), key, storages):
            return False
    return True


def _note_tensor(tensor: torch.Tensor, key: list[Any], storages: list[int]) -> bool:
    if tensor.layout is not _STRIDED or tensor.is_nested:  # see ``is_irregular``
        return False
    storage = tensor.untyped_storage()
    own = storage_key(storage)
    storages.append(own)
    key += (
        _TENSOR, tensor.shape, tensor.stride(), tensor.dtype, tensor.storage_offset(),
        storage.nbytes(), storages.index(own), tensor.requires_grad, dispatch_keys(tensor),
    )  # fmt: skip
    return True


def _kept(output: Any, storages: list[int]) -> Any:
    """Return how to make an output again, or that it has to be computed each time.

    It is made once and compared: what cannot be told from the original may stand for it.
    """
    if isinstance(output, torch.Tensor):
        made = spec_of(output, storages)
        return _LEFT_TO_TORCH if made is None else (None, made)
    if type(output) not in (list, tuple):
        return _LEFT_TO_TORCH
    seen = list(storages)  # two outputs may be views of one storage, too
    specs: list[Made] = []
    for item in output:
        made = None if item is None else spec_of(item, seen)
        if made is None and item is not None:
            return _LEFT_TO_TORCH
        specs.append(made)
    return type(output), specs


def spec_of(output: Any, storages: list[int]) -> Made:
    """Return what a tensor with an unshared storage looks like, ``None`` for anything else."""
    if type(output) is not torch.Tensor:
        return None
    made = output.shape, output.stride(), output.dtype
    original: list[Any] = []
    again: list[Any] = []
    if not (
        _note_tensor(output, original, [])
        and _note_tensor(made_as(made), again, [])
        and original == again
    ):
        return None
    key = storage_key(output.untyped_storage())
    if key in storages:
        return None
    storages.append(key)
    return made


def made_as(spec: Made) -> Any:
    """Return a new tensor, ``None`` for none."""
    return (
        None if spec is None else torch.empty_strided(spec[0], spec[1], dtype=spec[2], device=META)
    )
