"""The phases of a run in order: forward, loss, backward, optimizer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

from torchgauge.facts.trace import NamedValue, Phase
from torchgauge.trace.inspect.describe import call_outputs
from torchgauge.trace.run.context import RunContext
from torchgauge.trace.run.roles import Roles
from torchgauge.trace.step.lost_gradients import LostGradients
from torchgauge.trace.step.offload import offload
from torchgauge.trace.step.parameter_hooks import ParameterHooks
from torchgauge.trace.step.training import Trainer, compute_loss


class Phases:
    """Runs the phases of a scenario under the recorder."""

    def __init__(
        self, context: RunContext, roles: Roles, lost: LostGradients, hooks: ParameterHooks
    ) -> None:
        self._context = context
        self._recorder = context.recorder
        self._roles = roles
        self.lost = lost
        self.hooks = hooks
        self.ends: list[tuple[Phase, int]] = []
        """Each phase, and how many memory events there were by its end."""
        self.outputs: tuple[NamedValue, ...] = ()

    def run(
        self,
        root: nn.Module,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        held: list[Any],
    ) -> None:
        """Run all phases; what must outlive them is put into ``held``."""
        forward = partial(self._forward, root, call, *args, **kwargs)
        with self.hooks.running():
            if self._context.scenario.is_training:
                self._train(root, forward, held)
            else:
                self._infer(forward, held)

    def _forward(self, root: nn.Module, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call the model, and give the parameters and buffers that it made their roles."""
        output = call(*args, **kwargs)
        self._recorder.threads.check()
        self._roles.register_made_in_forward(root)
        return output

    def _infer(self, forward: Callable[[], Any], held: list[Any]) -> None:
        context, recorder = self._context, self._recorder
        context.progress("forward")
        gradients: AbstractContextManager[Any]
        if context.run_plan.gradients:
            gradients = torch.enable_grad()
        else:
            whole = recorder.composites is not None
            gradients = torch.inference_mode() if whole else torch.no_grad()
        before = recorder.storages.alive()
        with gradients, recorder.threads.followed(recorder), recorder, context.autocast():
            output = forward()
        held.append(output)
        self._roles.mark_output(output)
        if context.scenario.grad_enabled:
            self._roles.mark_saved(before)
        self.outputs = call_outputs(output, recorder.specs)
        self._end(Phase.FORWARD)

    def _train(self, root: nn.Module, forward: Callable[[], Any], held: list[Any]) -> None:
        context, recorder, roles, hooks = self._context, self._recorder, self._roles, self.hooks
        scenario, run_plan = context.scenario, context.run_plan
        trainer = Trainer(root, scenario, foreach=context.foreach)
        roles.register_kept(trainer)
        roles.register_of_hooks(hooks.optimizers, hooks.tensors)
        before = recorder.storages.alive()
        with (
            torch.enable_grad(),
            recorder.threads.followed(recorder),
            recorder,
            self.lost.noticed(),
        ):
            trainer.begin()
            for _ in range(scenario.accumulation):
                held.clear()
                self._start(Phase.FORWARD)
                with context.autocast(), self._offload():
                    held.append(forward())
                    self.outputs = call_outputs(held[0], recorder.specs)
                    self._end(Phase.FORWARD)
                    if run_plan.recording.forward_only:
                        return
                    self._start(Phase.LOSS)
                    loss, note = compute_loss(held[0], scenario.loss or "auto", run_plan.loss)
                held.append(loss)
                self._end(Phase.LOSS)
                roles.mark_saved(before)
                self._start(Phase.BACKWARD)
                trainer.backward(loss)
                recorder.note_sums()
                roles.mark_gradients(root)
                for optimizer in hooks.optimizers:
                    roles.mark_optimizer(optimizer)
                self._end(Phase.BACKWARD)
            if note:
                context.assume(note)
            if trainer.optimizer is not None:
                self._update(trainer, trainer.optimizer)
        held.append(trainer)

    def _update(self, trainer: Trainer, optimizer: torch.optim.Optimizer) -> None:
        context = self._context
        self._start(Phase.OPTIMIZER)
        if context.simulation is not None:
            context.simulation.values.default = 1.0
        if self.hooks.assumptions and not trainer.has_gradients:
            context.assume(
                f"no gradient was left for {context.scenario.optimizer}: hooks removed all of them"
            )
        trainer.step()
        self._roles.mark_optimizer(optimizer)
        self._end(Phase.OPTIMIZER)

    def _offload(self) -> AbstractContextManager[Any]:
        if not self._context.scenario.offload_activations:
            return nullcontext()
        if not self._context.is_simulated:
            return offload(None)
        return offload(self._recorder.storages, is_host=self._context.target.type == "cpu")

    def _start(self, phase: Phase) -> None:
        self._recorder.phase = phase
        self._context.progress(str(phase))

    def _end(self, phase: Phase) -> None:
        self.ends.append((phase, len(self._recorder.storages.events)))
