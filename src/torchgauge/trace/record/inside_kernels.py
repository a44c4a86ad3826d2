"""What goes on inside the kernels of sparse and nested tensors in a real run.

The recorder looks into them, and two things are then otherwise than in a plain call: autocast is
off below a dispatch mode, and the CPU, which stands for a GPU, lacks kernels in half precision.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from torchgauge.trace.shapes.rule import Args, Kwargs
from torchgauge.trace.torch_internals.replaced import replaced

HALF_ON_CPU = (
    "the CPU has no kernel in half precision for some operators on sparse tensors; they were "
    "computed in float32, and count as those of the GPU in half precision"
)
_HALF = (torch.float16, torch.bfloat16)


class AutocastInside:
    """Whether a region of autocast is open, and how to open it again inside a kernel."""

    def __init__(self, policies: Mapping[str, Any]) -> None:
        self.is_on = False
        self.switch: Callable[[bool], None] | None = None
        """Turns autocast on and off for the tensors of the run."""
        self._listed = frozenset(f"aten.{name}" for name in policies)

    def note(self, switch: Callable[[bool], None]) -> Callable[[bool], None]:
        """Return a switch that also remembers how it stands."""

        def noted(on: bool) -> None:
            self.is_on = on
            switch(on)

        self.switch = switch
        return noted

    @contextmanager
    def reopened(self, name: str) -> Iterator[None]:
        """Let what the kernel of an operator calls be cast, as it is without a dispatch mode.

        An operator that is on the lists itself has its arguments cast, and nothing inside. Source:
        ``WrapFunction_`` in PyTorch's ``aten/src/ATen/autocast_mode.h``, which excludes the key.
        """
        if not self.is_on or self.switch is None or name in self._listed:
            yield
            return
        self.switch(True)
        try:
            yield
        finally:
            self.switch(False)


def native_autocast(device_type: str, inside: AutocastInside) -> AbstractContextManager[None]:
    """Note the regions of a run that has PyTorch's own autocast.

    ``torch.autocast`` calls ``torch.set_autocast_enabled`` (2.6–2.13).
    """
    module: Any = torch
    set_enabled = module.set_autocast_enabled
    noted = inside.note(lambda on: set_enabled(device_type, on))

    def follow(*args: Any) -> None:
        if args[0] == device_type and len(args) > 1:
            noted(args[1])
        else:
            set_enabled(*args)

    return replaced(module, set_autocast_enabled=follow)


def lacks_half(error: Exception) -> bool:
    """Return whether a kernel refused half precision: ``"addmm_…" not implemented for 'Half'``."""
    return re.search(r"not implemented for '(Half|BFloat16)'", str(error)) is not None


def in_float32(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Run an operator, one that writes to no argument, on float32 copies; return its dtype."""
    dtype = next(t.dtype for t in (*args, *kwargs.values()) if _is_half(t))

    def wider(value: Any) -> Any:
        return value.to(torch.float32) if _is_half(value) else value

    output = func(*map(wider, args), **{name: wider(value) for name, value in kwargs.items()})
    return output.to(dtype) if isinstance(output, torch.Tensor) else output


def _is_half(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in _HALF
