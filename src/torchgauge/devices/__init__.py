"""What GPUs and edge boards are: memory, bandwidth, rates per dtype, what they lack. No torch.

This room reads the tables that the package ships and the user's own files. ``estimate`` gets what
is in them as values, and so depends on its arguments alone.

>>> from torchgauge.devices import find_device
>>> t4 = find_device("Tesla T4")
>>> t4.compute_capability, t4.supports("bf16").fallback
((7, 5), 'fp16')
"""

from __future__ import annotations

from torchgauge.devices.catalog import all_devices, find_device, search_devices
from torchgauge.devices.device import Arithmetic, Device, Kind, Support

__all__ = [
    "Arithmetic",
    "Device",
    "Kind",
    "Support",
    "all_devices",
    "find_device",
    "search_devices",
]
