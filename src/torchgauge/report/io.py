"""The function that pickled reports of version 0.1 call when they are loaded."""

from torchgauge.facts.report import report_from_json

__all__ = ["report_from_json"]
