"""The names that people already type, with torchgauge's numbers behind them.

Each module has the public names, signatures and layouts of the tool it is called after::

    from torchgauge.compat.torchsummary import summary
    from torchgauge.compat.torchinfo import summary
    from torchgauge.compat.thop import profile, clever_format
    from torchgauge.compat.fvcore import FlopCountAnalysis, flop_count_table
    from torchgauge.compat.ptflops import get_model_complexity_info
    from torchgauge.compat.flop_counter import FlopCounterMode

``install()`` puts them in place of the originals' module names for a whole program, and
``python -m torchgauge.compat script.py`` runs a script like that. Neither happens unless you
call it.
"""

from torchgauge.compat.stand_in import StandIn, install

__all__ = ["StandIn", "install"]
