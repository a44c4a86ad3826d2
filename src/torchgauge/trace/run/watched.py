"""The forwards of a copy's modules, wrapped so that each call is recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakSet

import torch
from torch import nn

from torchgauge.trace.copy.fused_attention import FusedAttention
from torchgauge.trace.inspect.modules import (
    is_called_alone,
    is_leaf_of_torch,
    modules_of,
    only_calls_modules,
)
from torchgauge.trace.inspect.tree import has_forward, walk
from torchgauge.trace.operators.repeated import repeatable
from torchgauge.trace.python.python_calls import Counting
from torchgauge.trace.run.context import RunContext
from torchgauge.trace.torch_internals.modes import is_alone, without_modes
from torchgauge.trace.torch_internals.structures import global_module_hooks

_LOOK_ONLY: WeakSet[Any] = WeakSet()
_Observer = TypeVar("_Observer", bound=Callable[..., Any])


def looks_only(observer: _Observer) -> _Observer:
    """Say that an observer of calls runs no operator where tensors go in and a tensor comes out."""
    _LOOK_ONLY.add(observer)
    return observer


class WatchedModules:
    """The modules of a copy while their calls are recorded."""

    def __init__(self, context: RunContext, root: nn.Module) -> None:
        self._context = context
        self._root = root
        self.observed: list[tuple[int, Any]] = []
        """Index of the call and what ``Recording.on_call`` returned for it."""
        self.call: Callable[..., Any] = root
        """What to call for a forward of the model."""
        self.are_torch_alone = is_called_alone(root) and not any(global_module_hooks())
        """Whether a forward of the model runs no code but that of ``torch.nn``."""
        recorder = context.recorder
        self._wrap()
        if context.is_simulated or context.run_plan.real_device == "cpu":
            takes_kernel = context.target.takes_attention_kernel if context.is_simulated else None
            recorder.inside = FusedAttention(recorder, root, takes_kernel).kernels
        if isinstance(root, torch.jit.ScriptModule):  # its inside is not visible, its call is
            self.call = recorder.wrap_forward("", root, nn.Module.__call__)
            context.assume("scripted: modules inside are listed, not followed")
            if not hasattr(root, "training"):
                context.assume("frozen by torch.jit.freeze: its constants count as no parameters")

    def _wrap(self) -> None:
        context = self._context
        for path, module, shared_with in walk(self._root):
            if isinstance(module, torch.jit.ScriptModule) or not has_forward(module):
                self.are_torch_alone = False
                continue
            if shared_with is None:
                is_leaf = is_leaf_of_torch(module)
                counting = Counting.OFF if is_leaf else _counting(module)
                self.are_torch_alone &= counting is not Counting.ON
                forward = context.recorder.wrap_forward(
                    path,
                    module.forward,
                    type(module).forward,
                    counting=counting,
                    observe=self._observer(path, module),
                    layer=repeatable(module) if is_leaf and context.is_simulated else None,
                )
                module.__dict__["forward"] = forward

    def _observer(
        self, path: str, module: nn.Module
    ) -> Callable[[int, tuple[Any, ...], Any], None] | None:
        on_call = self._context.run_plan.recording.on_call
        if on_call is None:
            return None

        looks = on_call in _LOOK_ONLY

        def observe(index: int, args: tuple[Any, ...], output: Any) -> None:
            if looks and type(output) is torch.Tensor and _are_tensors(args) and is_alone():
                answer = on_call(path, module, args, output)
            else:
                with without_modes():
                    answer = on_call(path, module, args, output)
            if answer is not None:
                self.observed.append((index, answer))

        return observe

    def release(self) -> None:
        """Drop what refers back: cycles would keep the copy until a garbage collection."""
        for module in modules_of(self._root):
            if not isinstance(module, torch.jit.ScriptModule):
                module.__dict__.pop("forward", None)
        recorder = self._context.recorder
        recorder.inside, recorder.on_read, recorder.python.on_compiled = {}, None, None
        if self._context.simulation is not None:
            self._context.simulation.values.place = str


def _are_tensors(values: tuple[Any, ...]) -> bool:
    return all([type(value) is torch.Tensor for value in values])


def _counting(module: nn.Module) -> Counting:
    is_quiet = only_calls_modules(module) and not any(global_module_hooks())
    return Counting.QUIET if is_quiet else Counting.ON
