"""fvcore's counters: ``FlopCountAnalysis``, its tables, ``parameter_count`` and their kin.

from torchgauge.compat.fvcore.nn import FlopCountAnalysis, flop_count_table

print(flop_count_table(FlopCountAnalysis(model, inputs)))
"""

from torchgauge.compat.fvcore.nn import (
    ActivationCountAnalysis,
    FlopCountAnalysis,
    activation_count,
    flop_count,
    flop_count_str,
    flop_count_table,
    parameter_count,
    parameter_count_table,
)

__all__ = [
    "ActivationCountAnalysis",
    "FlopCountAnalysis",
    "activation_count",
    "flop_count",
    "flop_count_str",
    "flop_count_table",
    "parameter_count",
    "parameter_count_table",
]
