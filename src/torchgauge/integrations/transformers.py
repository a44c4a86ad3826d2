"""A callback for ``transformers``: ``Trainer(…, callbacks=[GaugeCallback(device="T4")])``."""

from __future__ import annotations

from typing import Any

from torchgauge.facts.report import Report
from torchgauge.integrations.optional import optional
from torchgauge.integrations.step.first_forward import FirstForward
from torchgauge.integrations.step.prediction import TrainingStep, predicted_or_warned, print_report
from torchgauge.integrations.trackers import log

_TrainerCallback: Any = optional("transformers.trainer_callback").TrainerCallback


class GaugeCallback(_TrainerCallback):  # type: ignore[misc]  # optional, so Any
    """Prints what a training step costs before the first forward, and warns if it will not fit.

    The step is that of the model with its first batch, the optimizer and the ``TrainingArguments``:
    precision, accumulation and clipping. The report stays in ``report``.

    Args:
        device: a GPU to predict for, such as ``"T4"``; the one that the model is on by default.
        depth: levels of modules in the table; 0 prints nothing.
        to: trackers to keep the figures in, as ``trackers.log`` takes them.
        **scenario: fields of ``Scenario`` that go before what the arguments say.
    """

    def __init__(
        self, device: str | None = None, *, depth: int = 2, to: Any = (), **scenario: Any
    ) -> None:
        self.report: Report | None = None
        self._device = device
        self._depth = depth
        self._to = to
        self._scenario = scenario
        self._first: FirstForward | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Wait for the model's first forward, on the main process."""
        self._stop()
        self.report = None
        if not state.is_world_process_zero:
            return
        optimizer = kwargs.get("optimizer")

        def analyse(model: Any, given: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            step = TrainingStep(
                model=model,
                args=given,
                kwargs=keywords,
                optimizer=optimizer,
                precision="bf16" if args.bf16 else "fp16" if args.fp16 else None,
                accumulation=args.gradient_accumulation_steps,
                gradient_clipping=bool(args.max_grad_norm),
                device=self._device,
                scenario=self._scenario,
            )
            self.report = predicted_or_warned(step)
            if self.report is None:
                return
            if self._depth:
                print_report(self.report, depth=self._depth)
            log(self.report, to=self._to)

        self._first = FirstForward(kwargs["model"], analyse)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop waiting for a forward that never came."""
        self._stop()

    def _stop(self) -> None:
        if self._first is not None:
            self._first.remove()
            self._first = None
