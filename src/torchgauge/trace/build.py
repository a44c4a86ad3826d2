"""Build a model on the meta device, with the values that its constructor computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from torchgauge.trace.isolation import untouched
from torchgauge.trace.op_facts import facts_of
from torchgauge.trace.simulation import Simulation, flat
from torchgauge.trace.subclasses import any_wrapper
from torchgauge.trace.torch_internals import DispatchMode


class _Construction(DispatchMode):
    """Send every factory to the meta device and keep small values beside."""

    def __init__(self) -> None:
        super().__init__()
        self._simulation = Simulation()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if types and any_wrapper(types):
            return NotImplemented
        simulation = self._simulation
        args = simulation.on_meta(args)
        kwargs = {name: simulation.on_meta(value) for name, value in (kwargs or {}).items()}
        leaves = flat((args, *kwargs.values()))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        return simulation.run(func, facts_of(func), args, kwargs, tensors)


@contextmanager
def meta_construction() -> Iterator[None]:
    """Make every tensor created inside a meta tensor; the RNG state is restored after."""
    with untouched(), _Construction():
        yield
