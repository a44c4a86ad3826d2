"""The version of torchgauge."""

__version__ = "0.1.0"
