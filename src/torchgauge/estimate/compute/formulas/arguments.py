"""The readers of ``estimate/arguments.py`` under their earlier name."""

from torchgauge.estimate.arguments import argument, mask, real_products

__all__ = ["argument", "mask", "real_products"]
