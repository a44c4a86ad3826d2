"""Weights & Biases: a run, offline ones too."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torchgauge.errors import UsageError
from torchgauge.integrations.optional import optional
from torchgauge.integrations.trackers.record import HTML_NAME, JSON_NAME, PREFIX, Record


class WandbTracker:
    """Puts the figures into the run's summary, shows the page, and keeps an artifact.

    Figures go to the summary alone: they do not change in a run, and a step of wandb's history can
    be written once.

    Args:
        run: what ``wandb.init`` returned, or the module, for its active run.

    Raises:
        UsageError: there is no run.
    """

    def __init__(self, run: Any) -> None:
        if isinstance(run, ModuleType):
            run = run.run
        if run is None:
            raise UsageError("wandb has no active run", hint="call wandb.init(…) first")
        self._run = run

    def store(self, record: Record, step: int) -> None:
        """Keep a record in the run."""
        wandb = optional("wandb")
        self._run.summary.update({**record.scalars, f"{PREFIX}step": step})
        self._run.log({f"{PREFIX}page": wandb.Html(record.html, inject=False)})
        artifact = wandb.Artifact(f"torchgauge-{self._run.id}", type="torchgauge-report")
        for name, text in ((JSON_NAME, record.json), (HTML_NAME, record.html)):
            with artifact.new_file(name, encoding="utf-8") as file:  # wandb keeps a copy
                file.write(text)
        self._run.log_artifact(artifact)
