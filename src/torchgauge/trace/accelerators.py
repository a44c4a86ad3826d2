"""Models that name a device: ``.cuda()`` and ``device="cuda"`` without that device."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_MOVES = {torch.Tensor.cuda, torch.Tensor.xpu, torch.nn.Module.cuda}
_MARKS = ("CUDA", "cuda", "NVIDIA driver", "HIP", "MPS", "mps", "XPU")

_KERNELS = "is only available for these backends:"
"""What the dispatcher (2.6–2.13) writes before it lists the devices that have a kernel."""


class StayOnMeta(TorchFunctionMode):
    """Read every device that a function names as the device that the run is on."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call ``func`` with accelerators replaced by the meta device."""
        if func in _MOVES:
            return args[0]
        kwargs = {name: _replace(value) for name, value in (kwargs or {}).items()}
        return func(*(_replace(value) for value in args), **kwargs)


def names_accelerator(error: BaseException) -> bool:
    """Return whether a run failed because the model names a device that is not there."""
    if not isinstance(error, (AssertionError, RuntimeError)):
        return False
    # Which devices have a kernel for an operator is no device that the model names.
    text = str(error).partition(_KERNELS)[0]
    return any(mark in text for mark in _MARKS)


def _replace(value: Any) -> Any:
    if isinstance(value, torch.device) and value.type not in ("cpu", "meta"):
        return torch.device("meta")
    if isinstance(value, str) and value.split(":")[0] in ("cuda", "mps", "xpu", "hip"):
        return "meta"
    return value
