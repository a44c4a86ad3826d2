"""``define_missing_operators``, which lies where ``compat`` reaches it too."""

from torchgauge.trace.torchvision_operators import define_missing_operators

__all__ = ["define_missing_operators"]
