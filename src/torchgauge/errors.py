"""Every exception that torchgauge raises on purpose.

::

    TorchGaugeError                   exit status
    ├── UsageError                    2   what was asked for makes no sense or is not there
    │   ├── InputError                2   the inputs cannot be built from what was given
    │   ├── ModelSpecError            2   the model spec cannot be resolved to a model
    │   ├── ScenarioError             2   the scenario contradicts itself
    │   ├── ReportFormatError         2   a saved report cannot be read
    │   ├── DeviceError               2   no such device, or a file of devices cannot be read
    │   ├── AllocatorSettingsError    2   an allocator setting is unknown or out of range
    │   ├── PackageError              2   a packaged model is damaged, unknown or not safe to load
    │   └── MissingExtraError         2   an optional package is not installed
    ├── ModelError                    3   the model itself failed; carries the partial report
    ├── SimulatedOutOfMemoryError     1   the simulated device has no memory left
    ├── CheckFailed                   1   a check said no (budget, does not fit)
    └── InDoubt                       4   --strict, and something was not counted or guessed

Each carries ``hint``: one sentence that says what to do next.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class TorchGaugeError(Exception):
    """Base of all errors; ``exit_status`` is what the command line returns for it."""

    exit_status = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  try: {self.hint}" if self.hint else self.message

    def _render_traceback_(self) -> list[str]:
        """Return what IPython prints for the error; plain Python never asks.

        The room that knows of notebooks lies above this one, so it is found by name.
        """
        lines: list[str] = import_module("torchgauge.notebook.failures").lines_of(self)
        return lines


class UsageError(TorchGaugeError):
    """The request makes no sense or names something that does not exist."""


class InputError(UsageError):
    """The inputs cannot be built from the sizes or data given."""


class ModelSpecError(UsageError):
    """A model spec (``file.py:Name``, ``torchvision:resnet50``, …) leads to no model."""


class ScenarioError(UsageError):
    """A scenario contradicts itself, for example an optimizer in inference."""


class ReportFormatError(UsageError):
    """A saved report is damaged or of a schema that this version cannot read."""


class AllocatorSettingsError(UsageError):
    """``PYTORCH_CUDA_ALLOC_CONF`` holds a key or a value that the torch release refuses."""


class DeviceError(UsageError):
    """A device name fits none or several, or a file of the user's devices is not right."""


class PackageError(UsageError):
    """A packaged model is damaged, unknown, not safe to load, or cannot be written."""


class MissingExtraError(UsageError):
    """An optional package is needed; the hint holds the exact install command."""


class ModelError(TorchGaugeError):
    """The model raised while it ran.

    ``report`` is the partial report up to the failing layer (``None`` if nothing ran), and
    ``report.failure`` names the layer, its inputs and the original error.
    """

    exit_status = 3

    def __init__(self, message: str, *, hint: str = "", report: Any = None) -> None:
        super().__init__(message, hint=hint)
        self.report = report


def raised_past(stop: BaseException) -> ModelError:
    """Return the error for what a model's code raises that is not an ``Exception``."""
    return ModelError(
        f"the model's code raised {type(stop).__name__}: {stop}", hint="raise an Exception"
    )


class SimulatedOutOfMemoryError(TorchGaugeError):
    """The simulated caching allocator found no memory, as torch's would not have.

    Args:
        requested_bytes: what was asked for, before any rounding.
        segment_bytes: what the allocator asked the device for ("Tried to allocate …").
        free_bytes: what the device still had.
        reserved_bytes: what the allocator held after it had released all that it could.
        allocated_bytes: how much of that was in use.
    """

    exit_status = 1

    def __init__(
        self,
        *,
        requested_bytes: int,
        segment_bytes: int,
        free_bytes: int,
        reserved_bytes: int,
        allocated_bytes: int,
    ) -> None:
        super().__init__(
            f"out of memory: {requested_bytes:,} B asked for, a segment of {segment_bytes:,} B "
            f"needed, {free_bytes:,} B free; {reserved_bytes:,} B reserved, "
            f"{allocated_bytes:,} B of it allocated",
            hint="a smaller batch, or a device with more memory",
        )
        self.requested_bytes = requested_bytes
        self.segment_bytes = segment_bytes
        self.free_bytes = free_bytes
        self.reserved_bytes = reserved_bytes
        self.allocated_bytes = allocated_bytes


class CheckFailed(TorchGaugeError):
    """A check that the user asked for came out negative."""

    exit_status = 1


class InDoubt(TorchGaugeError):
    """``--strict`` was asked for, and something was not counted, guessed or warned about."""

    exit_status = 4
