"""MLflow: the active run, or a run of a client."""

from __future__ import annotations

from typing import Any

from torchgauge.errors import UsageError
from torchgauge.integrations.trackers.record import HTML_NAME, JSON_NAME, TEXT_NAME, Record


class MlflowRun:
    """Logs metrics, and the pages and the JSON as artifacts.

    Args:
        client: an ``MlflowClient``.
        run_id: of the run.
    """

    def __init__(self, client: Any, run_id: str) -> None:
        self._client = client
        self._run_id = run_id

    @classmethod
    def active(cls, mlflow: Any) -> MlflowRun:
        """Return the run that is active in the module ``mlflow``.

        Raises:
            UsageError: none is, or it is another object of mlflow.
        """
        if not hasattr(mlflow, "active_run"):
            raise UsageError(
                f"a {type(mlflow).__name__} of mlflow does not say which run",
                hint="pass the module mlflow, or MlflowRun(client, run_id)",
            )
        run = mlflow.active_run()
        if run is None:
            raise UsageError("mlflow has no active run", hint="with mlflow.start_run(): log(…)")
        return cls(mlflow.MlflowClient(), run.info.run_id)

    def store(self, record: Record, step: int) -> None:
        """Log a record to the run."""
        client, run_id = self._client, self._run_id
        for name, value in record.scalars.items():
            client.log_metric(run_id, name, value, step=step)
        artifacts = {TEXT_NAME: record.text, HTML_NAME: record.html, JSON_NAME: record.json}
        for name, text in artifacts.items():
            client.log_text(run_id, text, name)
