"""What was fitted on public measurements of GPUs: the coefficients of the predicted time.

``coefficients.csv`` has one per row: its meaning, the value that the hardware's documentation or a
round number gives before any fit (``expected``), the standard deviation in the logarithm that the
fit may go from it (``spread``), and the data sets of the fit, empty where a value was set and not
fitted (``fitted_on``). ``make calibrate`` writes the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from torchgauge.devices.tables import rows

FILE: Final = Path(__file__).with_name("coefficients.csv")


@cache
def coefficients() -> Mapping[str, float]:
    """Return the values by name."""
    return {row["name"]: float(row["value"]) for row in rows(FILE)}
