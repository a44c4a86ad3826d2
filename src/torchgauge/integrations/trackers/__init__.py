"""Keep a report where the runs of a project are kept: ``log(report, to=…)``.

A tracker gets the figures as numbers whose names hold their unit, the page as text and as HTML,
and the report as JSON, which ``torchgauge.load`` reads. Anything with a method
``store(record, step)`` is a tracker.
"""

from __future__ import annotations

from typing import Any, Protocol

from torchgauge.errors import UsageError
from torchgauge.facts.report import Report
from torchgauge.integrations.trackers.record import Record, record_of

__all__ = ["Record", "Tracker", "log"]


class Tracker(Protocol):
    """A place where records are kept."""

    def store(self, record: Record, step: int) -> None:
        """Keep a record as of a step of training."""


_ACCEPTED = (
    "pass a SummaryWriter, the module mlflow or an MlflowRun, a run of wandb or aim, a logger of "
    "Lightning, or an object with store(record, step)"
)


def log(report: Report, *, to: Any, step: int = 0) -> None:
    """Keep a report in one tracker or several.

    Args:
        report: what ``analyze`` or ``measure`` returned.
        to: ``torch.utils.tensorboard``'s ``SummaryWriter``; the module ``mlflow``, for its active
            run, or an ``MlflowRun``; a run of ``wandb``; a ``Run`` of ``aim``; a logger of
            Lightning; anything with ``store(record, step)``; or a list of them.
        step: of training, that the report is of.

    Raises:
        UsageError: it is none of these.
        MissingExtraError: what it belongs to is not installed.
    """
    targets = to if isinstance(to, (list, tuple)) else [to]
    if not targets:
        return
    record = record_of(report)
    for target in targets:
        tracker_of(target).store(record, step)


def tracker_of(target: Any) -> Tracker:
    """Return the tracker that stands for an object of a library.

    Raises:
        UsageError: nothing is known of its library.
    """
    package = (getattr(target, "__name__", "") or type(target).__module__).partition(".")[0]
    if hasattr(target, "log_metrics") and hasattr(target, "experiment"):
        from torchgauge.integrations.trackers.lightning import LightningTracker

        return LightningTracker(target)
    if hasattr(target, "add_scalar"):
        from torchgauge.integrations.trackers.tensorboard import TensorBoardTracker

        return TensorBoardTracker(target)
    if package == "mlflow":
        from torchgauge.integrations.trackers.mlflow import MlflowRun

        return MlflowRun.active(target)
    if package == "wandb":
        from torchgauge.integrations.trackers.wandb import WandbTracker

        return WandbTracker(target)
    if package == "aim":
        from torchgauge.integrations.trackers.aim import AimTracker

        return AimTracker(target)
    if callable(getattr(target, "store", None)):
        tracker: Tracker = target
        return tracker
    raise UsageError(f"a {type(target).__name__} is not a tracker", hint=_ACCEPTED)
