"""``torchinfo`` by its names: ``from torchgauge.compat.torchinfo import summary``.

Signature, defaults, layout and the objects that are returned are those of torchinfo's newest
version; names of the released 1.8.0 work too. The model is not run but simulated, so it is neither
moved nor changed.
"""

from torchgauge.compat.torchinfo.enums import ColumnSettings, Mode, RowSettings, Units, Verbosity
from torchgauge.compat.torchinfo.model_statistics import ModelStatistics
from torchgauge.compat.torchinfo.torchinfo import clear_cached_forward_pass, summary

__all__ = (
    "ColumnSettings",
    "Mode",
    "ModelStatistics",
    "RowSettings",
    "Units",
    "Verbosity",
    "clear_cached_forward_pass",
    "summary",
)
__version__ = "1.8.0"
"""Of the interface that is offered, for programs that ask."""
