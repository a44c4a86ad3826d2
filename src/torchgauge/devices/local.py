"""What is known of a GPU of this machine. The reader is ``torchgauge.trace.local_gpus``."""

from __future__ import annotations

from dataclasses import dataclass

from torchgauge.devices.catalog import find_device
from torchgauge.devices.device import Device
from torchgauge.errors import DeviceError


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalGpu:
    """A GPU of this machine as its driver reports it."""

    index: int
    name: str
    total_bytes: int
    """All its memory; ``nvidia-smi`` counts some that a program does not get."""
    free_bytes: int | None
    """What nobody uses now, ``None`` where that cannot be read."""
    read_with: str
    """``nvidia-smi``, or the part of torch that was asked."""

    @property
    def device(self) -> Device | None:
        """Return its row of the catalogue, ``None`` if it has none."""
        try:
            return find_device(self.name, memory_bytes=self.total_bytes)
        except DeviceError:
            return None
