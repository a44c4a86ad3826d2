"""What the callbacks for ``lightning`` and ``pytorch_lightning`` share."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from torchgauge.facts.report import Report
from torchgauge.integrations.step.prediction import TrainingStep, predicted_or_warned, print_report
from torchgauge.integrations.trackers import log


class LightningGauge:
    """Prints what a training step costs before the first one, in place of ``ModelSummary``.

    The step is that of ``training_step`` with the first batch, the optimizer, the precision and the
    accumulation of the trainer. Where it does not fit the GPU, a ``DoesNotFitWarning`` says so
    before the first batch runs. The report stays in ``report``.

    Args:
        device: a GPU to predict for, such as ``"T4"``; the trainer's own by default.
        max_depth: levels of modules in the table, the training step and the module itself aside;
            0 prints nothing.
        log: keep the figures in the trainer's loggers too.
        **scenario: fields of ``Scenario`` that go before what the trainer says.
    """

    report: Report | None = None

    def __init__(
        self, device: str | None = None, *, max_depth: int = 1, log: bool = True, **scenario: Any
    ) -> None:
        super().__init__(max_depth=max_depth)  # type: ignore[call-arg]  # of ModelSummary
        self._device = device
        self._depth = max_depth
        self._logs = log
        self._scenario: Mapping[str, Any] = scenario

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Forget the report of the fit before; this one's comes with its first batch."""
        self.report = None

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Analyse the step when its first batch is there, once in a fit and on one rank."""
        if self.report is not None or batch_idx or trainer.global_step:
            return
        if not trainer.is_global_zero:
            return
        optimizers = trainer.optimizers
        step = TrainingStep(
            model=_Training(pl_module),
            args=(batch,),
            loss=training_step,
            optimizer=optimizers[0] if optimizers else None,
            precision=str(trainer.precision),
            accumulation=trainer.accumulate_grad_batches,
            gradient_clipping=bool(trainer.gradient_clip_val),
            device=self._device,
            name=type(pl_module).__name__,
            scenario=self._scenario,
        )
        with _without_trainer(pl_module):
            self.report = predicted_or_warned(step)
        if self.report is None:
            return
        if self._depth:
            print_report(self.report, depth=self._depth + 2)
        if self._logs:
            for logger in trainer.loggers:
                log(self.report, to=logger)


@contextmanager
def _without_trainer(module: Any) -> Iterator[None]:
    """Detach a module from its trainer: a copy of the model would copy that as well.

    ``self.log`` then does nothing, and says so.
    """
    trainer, module.trainer = module.trainer, None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You are trying to `self.log")
            yield
    finally:
        module.trainer = trainer


class _Training(nn.Module):
    """A module whose forward is the training step of a LightningModule."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: Any) -> Any:
        return self.module.training_step(batch, 0)  # type: ignore[operator]


def training_step(output: Any) -> Any:
    """Return the loss of what ``training_step`` returned; reports call the loss by this name."""
    return output["loss"] if isinstance(output, Mapping) else output
