"""Models that name a device: ``.cuda()`` and ``device="cuda"`` without that device."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from torchgauge.trace.shapes.rule import Args

_MOVES = {torch.Tensor.cuda, torch.Tensor.xpu, torch.nn.Module.cuda}
_NAMES = ("cuda", "mps", "xpu", "hip")
_MARKS = ("CUDA", "cuda", "NVIDIA driver", "HIP", "MPS", "mps", "XPU")

_KERNELS = "is only available for these backends:"
"""What the dispatcher (2.6–2.13) writes before it lists the devices that have a kernel."""


class StayOnDevice(TorchFunctionMode):
    """Read every accelerator that a function names as the device that the run is on."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device
        self.has_replaced = False
        """Whether the model has named an accelerator."""

    def __torch_function__(self, func: Any, types: Any, args: Args = (), kwargs: Any = None) -> Any:
        """Call ``func`` with accelerators replaced."""
        if func in _MOVES:
            self.has_replaced = True
            return args[0]
        kwargs = {name: self._replace(value) for name, value in (kwargs or {}).items()}
        return func(*(self._replace(value) for value in args), **kwargs)

    def _replace(self, value: Any) -> Any:
        if isinstance(value, torch.device):
            names_other = value.type not in ("cpu", "meta", self._device.type)
        else:
            names_other = isinstance(value, str) and value.split(":")[0] in _NAMES
        self.has_replaced = self.has_replaced or names_other
        if isinstance(value, str):
            return self._device.type if names_other else value
        return self._device if names_other else value


def names_accelerator(error: BaseException) -> bool:
    """Return whether a run failed because the model names a device that is not there."""
    if not isinstance(error, (AssertionError, RuntimeError)):
        return False
    # The devices that have a kernel for an operator are not devices that the model names.
    text = str(error).partition(_KERNELS)[0]
    return any(mark in text for mark in _MARKS)
