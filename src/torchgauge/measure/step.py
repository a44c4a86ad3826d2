"""One step of a scenario for real, on a copy of the model, as a plain loop would run it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from torchgauge.facts.choices.checkpointing import Place
from torchgauge.facts.scenario import Precision
from torchgauge.facts.trace import Phase
from torchgauge.trace.copy.attention_choice import choose_attention
from torchgauge.trace.copy.casting import Casting
from torchgauge.trace.copy.converters import CpuConverter
from torchgauge.trace.copy.meta_copy import ModelCopy
from torchgauge.trace.inputs.plan import InputTensor, real_or_made
from torchgauge.trace.inspect.describe import dtype_named
from torchgauge.trace.inspect.tree import has_forward, walk
from torchgauge.trace.run.run_plan import RunPlan
from torchgauge.trace.step.checkpointing import (
    check_places,
    checkpoint_blocks,
    checkpoint_stretches,
)
from torchgauge.trace.step.offload import offload
from torchgauge.trace.step.parameter_hooks import ParameterHooks
from torchgauge.trace.step.training import (
    Trainer,
    as_channels_last,
    compute_loss,
    to_channels_last,
)

Wrap = Callable[[str, Callable[..., Any]], Callable[..., Any]]
"""Takes a module's path and its forward, returns the forward to run instead."""


class RealStep:
    """A copy of the model on the device with its inputs and optimizer, to be run many times.

    The copy's modules run as they are: no hook and no wrapper stands between them and the clock
    unless ``wrap`` puts one there.
    """

    def __init__(self, request: RunPlan, *, wrap: Wrap | None = None) -> None:
        scenario = request.scenario
        self.device = torch.device(scenario.device)
        self._scenario = scenario
        self._custom_loss = request.loss
        self._gradients = request.gradients
        self._autocast_dtype = dtype_named(Precision(scenario.precision).autocast_dtype)
        casting = Casting(scenario, request.model, request.plan)
        copied = ModelCopy(request.model, CpuConverter(casting, [], self.device))
        self._root = copied.root
        if self._root.training != scenario.is_training:
            with suppress(NotImplementedError):  # exported programs have their mode built in
                self._root.train(scenario.is_training)

        if scenario.attn_implementation is not None:
            choose_attention(self._root, scenario.attn_implementation)
        if scenario.channels_last:
            to_channels_last(self._root)

        def make(planned: InputTensor) -> torch.Tensor:
            made = casting.made(planned).make("cpu").to(self.device)
            return as_channels_last(made) if scenario.channels_last else made

        plan = request.plan
        self._args = tuple(real_or_made(copied.value(value), make) for value in plan.args)
        self._kwargs = {
            name: real_or_made(copied.value(value), make) for name, value in plan.kwargs.items()
        }
        self._call: Callable[..., Any] = self._root
        kind, places = scenario.checkpointing_kind, tuple(map(Place.read, scenario.checkpointed))
        if kind is not None:
            check_places(self._root, places)
            checkpoint_stretches(self._root, kind, places)
        if wrap is not None:
            self._wrap(wrap)
        if kind is not None:
            checkpoint_blocks(self._root, kind, places)
        if any(is_lazy(parameter) for parameter in self._root.parameters()):
            with torch.no_grad():  # gives them their shapes, before the optimizer takes them
                self._call(*self._args, **self._kwargs)
        self._hooks = ParameterHooks(copied if scenario.is_training else None)
        self._trainer = (
            Trainer(self._root, scenario, foreach=self.device.type != "cpu")
            if scenario.is_training
            else None
        )

    def run(self, note: Callable[[Phase], None]) -> None:
        """Run the step once; ``note`` hears of each phase when it has ended."""
        if self._trainer is not None:
            with self._hooks.running():
                self._train(self._trainer, note)
        else:
            with torch.set_grad_enabled(self._gradients), self._autocast():
                output = self._call(*self._args, **self._kwargs)
                del output
            note(Phase.FORWARD)

    def _train(self, trainer: Trainer, note: Callable[[Phase], None]) -> None:
        scenario = self._scenario
        trainer.begin()
        with torch.enable_grad():
            for _ in range(scenario.accumulation):
                with self._autocast(), self._offload():
                    output = self._call(*self._args, **self._kwargs)
                    note(Phase.FORWARD)
                    loss, _ = compute_loss(output, scenario.loss or "auto", self._custom_loss)
                    note(Phase.LOSS)
                trainer.backward(loss)
                del output, loss
                note(Phase.BACKWARD)
            if trainer.optimizer is not None:
                trainer.step()
                trainer.end()
                note(Phase.OPTIMIZER)
                return
        trainer.end()

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._autocast_dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self._autocast_dtype)

    def _offload(self) -> AbstractContextManager[Any]:
        return offload(None) if self._scenario.offload_activations else nullcontext()

    def _wrap(self, wrap: Wrap) -> None:
        root = self._root
        if isinstance(root, torch.jit.ScriptModule):  # its inside is not visible, its call is
            self._call = wrap("", root)
        for path, module, shared_with in walk(root):
            if isinstance(module, torch.jit.ScriptModule) or not has_forward(module):
                continue
            if shared_with is None:
                module.__dict__["forward"] = wrap(path, module.forward)


@contextmanager
def precision_of(request: RunPlan) -> Iterator[None]:
    """Let the GPU's libraries compute as the scenario says.

    PyTorch's own default is mixed: TF32 for convolutions, not for matrix products.
    """
    scenario = request.scenario
    if scenario.device == "cpu":
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    matmul.allow_tf32 = cudnn.allow_tf32 = scenario.precision == Precision.TF32
    cudnn.benchmark = scenario.cudnn_benchmark
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before
