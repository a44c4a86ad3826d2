"""A process that answers requests: ``python -m torchgauge.loop.worker``.

It reads pickled tasks from its standard input and writes the answers to its standard output, one
for each, until the input ends. Whatever a model's code prints goes to stderr. Torch is imported
once, for all of them.
"""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field

from torchgauge.apart import how_it_ended, why_it_ended
from torchgauge.errors import ModelError, TorchGaugeError, UsageError, raised_past
from torchgauge.facts.fit import DeviceFit
from torchgauge.facts.report import Report
from torchgauge.models.users_code import imports_forgotten
from torchgauge.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One question to a worker."""

    request: Request
    """Made from a spec, so that it can be pickled."""
    fits: tuple[str, ...] = ()
    """Devices of which it is asked whether the step fits, and how large a batch would."""
    batch_names: bool = False
    """Whether it is looked for which dimensions grow with the batch; that takes a second run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What came of a task."""

    report: Report | None = None
    """Of a model that failed: up to the failing layer."""
    devices: tuple[DeviceFit, ...] = ()
    """Those that were asked about, in order."""
    largest: Mapping[str, int | None] = field(default_factory=dict)
    """By device on which it does not fit: the largest batch, ``None`` where not even one fits."""
    error: str = ""
    """What went wrong; ``""`` where nothing did."""
    hint: str = ""
    exit_status: int = 0

    @classmethod
    def of_ended(cls, status: int | None) -> Answered:
        """Return what came of a task whose process ended, with the status that Python gives."""
        return cls(
            error=f"the process that analysed it ended: {how_it_ended(status)}",
            hint=why_it_ended(status),
            exit_status=ModelError.exit_status,
        )

    def raised(self) -> TorchGaugeError:
        """Return the error as an exception."""
        if self.exit_status == ModelError.exit_status:
            return ModelError(self.error, hint=self.hint, report=self.report)
        return UsageError(self.error, hint=self.hint)


def answer(task: Task) -> Answered:
    """Return what comes of a task, and forget the code that was imported for it."""
    with imports_forgotten():
        return attempt(task)


def attempt(task: Task) -> Answered:
    """Return what comes of a task; whatever is wrong with it is part of that."""
    try:
        return _answer(task)
    except ModelError as error:
        return Answered(report=error.report, error=error.message, hint=error.hint, exit_status=3)
    except TorchGaugeError as error:
        status = error.exit_status
        return Answered(error=error.message, hint=error.hint, exit_status=status)
    except (Exception, SystemExit) as error:  # the model's code
        text = f"{type(error).__name__}: {error}"
        return Answered(error=text, exit_status=ModelError.exit_status)
    except BaseException as stop:  # the model's code too: Ctrl-C does not reach this process
        past = raised_past(stop)
        return Answered(error=past.message, hint=past.hint, exit_status=past.exit_status)


def _answer(task: Task) -> Answered:
    from torchgauge.analyze import analyze_model
    from torchgauge.models.requests import build_for, with_build

    asked = with_build(task.request, build_for(task.request))
    report = analyze_model(asked, batch_names=task.batch_names)
    if not task.fits:
        return Answered(report=report)
    from torchgauge.fit.finder import FitOptions, fit_model

    options = FitOptions(search=False, alternatives=False)
    devices = fit_model(asked, list(task.fits), options).devices
    largest = {}
    if report.batch_size is not None:
        options = FitOptions(alternatives=False)
        for device in devices:
            if not device.fits:
                found = fit_model(asked, [device.device], options).largest_batch
                largest[device.device] = None if found is None else found.runs
    return Answered(report=report, devices=devices, largest=largest)


def main() -> None:
    """Answer tasks until there are no more; Ctrl-C is left to the process that asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tasks, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    while True:
        try:
            task = pickle.load(tasks)
        except EOFError:
            return
        answers.write(pickle.dumps(answer(task)))
        answers.flush()


if __name__ == "__main__":
    # Pickled tasks name this module, not ``__main__``.
    from torchgauge.loop.worker import main as run

    run()
