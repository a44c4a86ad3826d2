"""One step of a scenario for real, on a copy of the model, as a plain loop would run it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from torchgauge.report.model import Phase
from torchgauge.trace.inputs import InputTensor, real_or_made
from torchgauge.trace.session import Request
from torchgauge.trace.shadow import CpuConverter, Twin
from torchgauge.trace.training import checkpoint_blocks, compute_loss, make_optimizer
from torchgauge.trace.tree import has_forward, walk

Wrap = Callable[[str, Callable[..., Any]], Callable[..., Any]]
"""Takes a module's path and its forward, returns the forward to run instead."""


class RealStep:
    """A copy of the model on the device with its inputs and optimizer, to be run many times.

    The copy's modules run as they are: no hook and no wrapper stands between them and the clock
    unless ``wrap`` puts one there.
    """

    def __init__(self, request: Request, *, wrap: Wrap | None = None) -> None:
        scenario = request.scenario
        self.device = torch.device(scenario.device)
        self._scenario = scenario
        self._custom_loss = request.loss
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(str(scenario.precision))
        twin = Twin(request.model, CpuConverter(dtype, [], self.device))
        self._root = twin.root
        if self._root.training != scenario.is_training:
            with suppress(NotImplementedError):  # exported programs have their mode built in
                self._root.train(scenario.is_training)

        def make(planned: InputTensor) -> torch.Tensor:
            if dtype is not None and planned.is_guess and planned.dtype.is_floating_point:
                planned = planned.with_dtype(dtype)
            return planned.make("cpu").to(self.device)

        plan = request.plan
        self._args = tuple(real_or_made(twin.value(value), make) for value in plan.args)
        self._kwargs = {
            name: real_or_made(twin.value(value), make) for name, value in plan.kwargs.items()
        }
        self._call: Callable[..., Any] = self._root
        if wrap is not None:
            self._wrap(wrap)
        if scenario.checkpointing:
            checkpoint_blocks(self._root)
        if any(is_lazy(parameter) for parameter in self._root.parameters()):
            with torch.no_grad():  # gives them their shapes, before the optimizer takes them
                self._call(*self._args, **self._kwargs)
        self._optimizer = (
            make_optimizer(scenario.optimizer or "none", self._root.parameters())
            if scenario.is_training
            else None
        )

    def run(self, note: Callable[[Phase], None]) -> None:
        """Run the step once; ``note`` hears of each phase when it has ended."""
        if self._scenario.is_training:
            self._train(note)
        else:
            with torch.no_grad():
                output = self._call(*self._args, **self._kwargs)
                del output
            note(Phase.FORWARD)

    def _train(self, note: Callable[[Phase], None]) -> None:
        scenario, optimizer = self._scenario, self._optimizer
        with torch.enable_grad():
            for _ in range(scenario.accumulation):
                output = self._call(*self._args, **self._kwargs)
                note(Phase.FORWARD)
                loss, _ = compute_loss(output, scenario.loss or "auto", self._custom_loss)
                note(Phase.LOSS)
                loss.backward()
                del output, loss
                note(Phase.BACKWARD)
            if optimizer is not None:
                optimizer.step()
                optimizer.zero_grad()
                note(Phase.OPTIMIZER)
                return
        self._root.zero_grad()

    def _wrap(self, wrap: Wrap) -> None:
        root = self._root
        if isinstance(root, torch.jit.ScriptModule):  # its inside is not visible, its call is
            self._call = wrap("", root)
        for path, module, shared_with in walk(root):
            if isinstance(module, torch.jit.ScriptModule) or not has_forward(module):
                continue
            if shared_with is None:
                module.__dict__["forward"] = wrap(path, module.forward)


def precision_of(request: Request) -> Any:
    """Return a context in which the GPU's matrix products have the scenario's precision.

    PyTorch's own default is mixed: TF32 for convolutions, not for matrix products.
    """
    if request.scenario.device == "cpu":
        return nullcontext()
    return _Tf32(enabled=request.scenario.precision == "tf32")


class _Tf32:
    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled

    def __enter__(self) -> None:
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        self._before = matmul.allow_tf32, cudnn.allow_tf32
        matmul.allow_tf32 = cudnn.allow_tf32 = self._enabled

    def __exit__(self, *stopped: object) -> None:
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        matmul.allow_tf32, cudnn.allow_tf32 = self._before
