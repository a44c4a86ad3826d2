"""Find the inputs of a forward by trying: each error says what is missing or has a wrong size."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from torchgauge.models.huggingface.probe import (
    Probe,
    missing_arguments,
    missing_parts,
    probe,
    repaired,
    takes_more,
    wanted_rank,
)
from torchgauge.models.huggingface.shapes import Wanted, candidates

if TYPE_CHECKING:
    from torch import nn

    from torchgauge.trace.inputs.plan import InputTensor

_TRIES = 16


class Search:
    """The inputs found so far for ``module``, and what else each could be.

    Args:
        module: whose forward is tried.
        config: where sizes come from.
        arguments: the names that the forward takes.
        given: inputs that are not looked for.
    """

    def __init__(
        self,
        module: nn.Module,
        config: Any,
        arguments: Iterable[str],
        given: Mapping[str, InputTensor] | None = None,
    ) -> None:
        self.inputs: dict[str, InputTensor] = dict(given or {})
        self.furthest: Probe | None = None
        """The try that called most modules."""
        self._module = module
        self._config = config
        self._arguments = frozenset(arguments)
        self._takes_more = takes_more(module.forward)
        self._dtype = _floating_dtype(module)
        self._others: dict[str, list[InputTensor]] = {}
        self._fixed = frozenset(self.inputs)
        self._tried: set[tuple[Any, ...]] = set()

    def run(self, first: Iterable[str], *, until: float) -> Probe | None:
        """Try the arguments named ``first``, and what the errors lead to; ``None`` in vain.

        No further try begins after ``until``, a time of ``time.thread_time``.
        """
        if not all([self._add(name) for name in first]):
            return None
        for _ in range(_TRIES):
            self._tried.add(self._state())
            found = probe(self._module, self.inputs)
            if self.furthest is None or found.calls > self.furthest.calls:
                self.furthest = found
            if found.runs:
                return found
            if time.thread_time() > until or not self._changed(found):
                return None
        return None

    def _state(self) -> tuple[Any, ...]:
        return tuple(sorted((name, t.shape, str(t.dtype)) for name, t in self.inputs.items()))

    def _add(self, name: str) -> bool:
        if name in self.inputs:
            return name in self._fixed
        options = candidates(
            Wanted(
                name=name,
                config=self._config,
                arguments=self._arguments,
                dtype=self._dtype,
                given=self.inputs,
            )
        )
        if not options:
            return False
        self.inputs[name], self._others[name] = options[0], options[1:]
        return True

    def _changed(self, failed: Probe) -> bool:
        """Change the inputs as the error asks for; return whether there was anything to change."""
        assert failed.error is not None
        if ranks := wanted_rank(failed.error):
            wanted, got = ranks  # the model may have added or joined dimensions before
            if got and self._take(lambda t: len(t.shape) == self._rank(t.name) + wanted - got):
                return True
            if self._take(lambda t: t.name.endswith("mask")):  # of images in place of pixels
                return True
            if self._take(lambda t: len(t.shape) == wanted):
                return True
        for name in missing_arguments(failed.error, self._arguments, self.inputs):
            if self._add(name):
                return True
        parts = missing_parts(failed.error) if self._takes_more else ()
        if any(self._add(name) for name in parts if name not in self._arguments):
            return True
        if "bool" in str(failed.error) and self._take(lambda t: str(t.dtype) == "torch.bool"):
            return True
        for better in repaired(self._module, failed, self._free()):
            if self._replace(better):
                return True
        return self._take(lambda t: True)

    def _rank(self, name: str) -> int:
        return len(self.inputs[name].shape)

    def _free(self) -> dict[str, InputTensor]:
        return {name: t for name, t in self.inputs.items() if name not in self._fixed}

    def _take(self, suits: Any) -> bool:
        """Take the next of the other sizes that suits, of the first input that has one."""
        for name, others in self._others.items():
            for position, other in enumerate(others):
                if suits(other):
                    self._others[name] = others[position + 1 :]
                    if self._replace(other):
                        return True
        return False

    def _replace(self, tensor: InputTensor) -> bool:
        before = dict(self.inputs)
        self.inputs[tensor.name] = tensor
        for name in [n for n in self._free() if n.endswith("mask") and n != tensor.name]:
            del self.inputs[name]  # it had the shape of what it masks; it is asked for again
        if self._state() in self._tried:
            self.inputs = before
            return False
        return True


def _floating_dtype(module: nn.Module) -> Any:
    import torch

    for parameter in module.parameters():
        if parameter.dtype.is_floating_point and parameter.dtype.itemsize >= 2:
            return parameter.dtype
    return torch.float32
