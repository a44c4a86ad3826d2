"""A callback for Keras 3 on torch: ``model.fit(…, callbacks=[GaugeCallback(device="T4")])``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchgauge.errors import UsageError
from torchgauge.facts.report import Report
from torchgauge.integrations.keras_module import KerasModule
from torchgauge.integrations.optional import optional
from torchgauge.integrations.step.prediction import TrainingStep, predicted_or_warned, print_report
from torchgauge.integrations.trackers import log

_keras: Any = optional("keras")
_Callback: Any = _keras.callbacks.Callback
_OPTIMIZERS = {
    "SGD": "sgd", "Adam": "adam", "AdamW": "adamw", "Adamax": "adamax", "Nadam": "nadam",
    "RMSprop": "rmsprop", "Adagrad": "adagrad", "Adadelta": "adadelta", "Adafactor": "adafactor",
}  # fmt: skip
"""Of Keras, by the optimizer of torch that keeps the same states."""


class GaugeCallback(_Callback):  # type: ignore[misc]  # optional, so Any
    """Prints what a training step costs before the first batch, and warns if it will not fit.

    The step is that of the compiled model with its first batch: its loss and the states of its
    optimizer. The report stays in ``report``; layers have the names that Keras gives them.

    Args:
        device: a GPU to predict for, such as ``"T4"``; the one that the model is on by default.
        depth: levels of modules in the table; 0 prints nothing.
        to: trackers to keep the figures in, as ``trackers.log`` takes them.
        **scenario: fields of ``Scenario``, such as ``precision="bf16-autocast"``.

    Raises:
        UsageError: Keras runs on another backend than torch.
    """

    def __init__(
        self, device: str | None = None, *, depth: int = 1, to: Any = (), **scenario: Any
    ) -> None:
        super().__init__()
        if _keras.backend.backend() != "torch":
            raise UsageError(
                f"Keras runs on {_keras.backend.backend()}, and torchgauge analyses torch",
                hint="set KERAS_BACKEND=torch before keras is imported",
            )
        self.report: Report | None = None
        self._device = device
        self._depth = depth
        self._to = to
        self._scenario: Mapping[str, Any] = scenario

    def on_train_begin(self, logs: Any = None) -> None:
        """Wait for the first batch: Keras shows callbacks none, so the train step is watched."""
        self.report = None
        model = self.model
        train_step = model.train_step

        def first_step(data: Any, *args: Any, **kwargs: Any) -> Any:
            del model.train_step  # of the instance; the class's own comes back
            self._analyse(data)
            return train_step(data, *args, **kwargs)

        model.train_step = first_step

    def on_train_end(self, logs: Any = None) -> None:
        """Stop waiting for a batch that never came."""
        self.model.__dict__.pop("train_step", None)

    def _analyse(self, data: Any) -> None:
        x, y, weight = _keras.utils.unpack_x_y_sample_weight(data)
        step = TrainingStep(
            model=KerasModule(self.model),
            args=(x, y, weight),
            loss=compiled_loss,
            device=self._device,
            name=self.model.name,
            scenario={**self._optimizer(), **self._scenario},
        )
        self.report = predicted_or_warned(step)
        if self.report is None:
            return
        if self._depth:
            print_report(self.report, depth=self._depth)
        log(self.report, to=self._to)

    def _optimizer(self) -> dict[str, Any]:
        optimizer = self.model.optimizer
        inner = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
        name = _OPTIMIZERS.get(type(inner).__name__, "none")
        if name == "sgd" and inner.momentum:
            name = "sgd-momentum"
        found: dict[str, Any] = {"optimizer": name}
        if getattr(inner, "amsgrad", False):
            found["optimizer_options"] = {"amsgrad": True}
        return found


def compiled_loss(output: Any) -> Any:
    """Return the loss that the module returns; reports call it by this name."""
    return output
