"""fvcore's counters: ``FlopCountAnalysis``, its tables, ``parameter_count`` and their kin.

from torchgauge.compat.fvcore.nn import FlopCountAnalysis, flop_count_table

print(flop_count_table(FlopCountAnalysis(model, inputs)))
"""

from torchgauge.compat.fvcore.nn import *  # noqa: F403
from torchgauge.compat.fvcore.nn import __all__ as __all__
