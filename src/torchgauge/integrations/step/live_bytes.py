"""Count the bytes of tensors that are alive on the CPU while a loop runs as it is."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from torchgauge.trace.torch_internals.modes import DispatchMode


class LiveBytes(DispatchMode):
    """While it is active, follows the storage of each tensor that an operator takes or makes.

    A batch counts from its first use on, and scratch memory inside of a kernel not at all.

    Args:
        alive: tensors that are there from the beginning: parameters, states of the optimizer.
    """

    def __init__(self, alive: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self._sizes: dict[int, int] = {}
        self.live_bytes = 0
        self.peak_bytes = 0
        for tensor in alive:
            self._see(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        for value in tree_leaves((args, kwargs)):
            self._see(value)
        output = func(*args, **kwargs)
        for value in tree_leaves(output):
            self._see(value)
        return output

    def _see(self, value: Any) -> None:
        if not isinstance(value, torch.Tensor) or value.device.type != "cpu":
            return
        try:
            storage = value.untyped_storage()
        except (NotImplementedError, RuntimeError):  # sparse, nested, functional
            return
        key = id(storage)
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self.live_bytes += self._sizes[key]
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self._free, key).atexit = False

    def _free(self, key: int) -> None:
        self.live_bytes -= self._sizes.pop(key)
