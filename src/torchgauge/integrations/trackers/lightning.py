"""The loggers of Lightning: what each of them writes to, or the figures alone."""

from __future__ import annotations

from typing import Any

from torchgauge.errors import UsageError
from torchgauge.integrations.trackers.record import Record


class LightningTracker:
    """Keeps a record in the tracker behind a logger.

    A logger of another kind (``CSVLogger``, one of the user's own) gets the figures.

    Args:
        logger: such as ``TensorBoardLogger``.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def store(self, record: Record, step: int) -> None:
        """Keep a record."""
        from torchgauge.integrations.trackers import tracker_of
        from torchgauge.integrations.trackers.mlflow import MlflowRun

        logger = self._logger
        if type(logger).__name__ == "MLFlowLogger":
            MlflowRun(logger.experiment, logger.run_id).store(record, step)
            return
        try:
            tracker = tracker_of(logger.experiment)
        except UsageError:
            logger.log_metrics(record.scalars, step=step)
            return
        tracker.store(record, step)
