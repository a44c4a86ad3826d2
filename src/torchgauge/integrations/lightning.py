"""A callback for ``lightning.pytorch``: ``Trainer(callbacks=[GaugeCallback(device="T4")])``."""

from __future__ import annotations

from typing import Any

from torchgauge.integrations.lightning_gauge import LightningGauge
from torchgauge.integrations.optional import optional

_ModelSummary: Any = optional("lightning.pytorch").callbacks.ModelSummary


class GaugeCallback(LightningGauge, _ModelSummary):  # type: ignore[misc]  # optional, so Any
    """A look at the costs of a training step before its first batch; see ``LightningGauge``."""
