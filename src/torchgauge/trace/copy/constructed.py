"""The values of small tensors that a constructor made on the meta device, while these live.

Position indices, tables of offsets and kernel sizes kept as buffers are computed when a model is
made. A run reads them: without their values it would have to be a real run.
"""

from __future__ import annotations

import torch

from torchgauge.trace.values.values import ValueStore

CONSTRUCTED = ValueStore()
"""One for the process: a model outlives the context that it was made in."""


def constructed_value(tensor: torch.Tensor) -> torch.Tensor | None:
    """Return the value that a constructor gave to a meta tensor, ``None`` where it is not known."""
    if not tensor.is_meta or tensor.layout is not torch.strided:
        return None
    return CONSTRUCTED.get(tensor)
