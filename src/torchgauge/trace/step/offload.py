"""What autograd saves for the backward, kept in host memory instead of on the device."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks

from torchgauge.trace.record.storages import StorageTracker


def offload(
    storages: StorageTracker | None, *, is_host: bool = False
) -> AbstractContextManager[None]:
    """Return the context of a forward whose saved tensors lie in host memory.

    As ``torch.autograd.graph.save_on_cpu`` does it: whatever an operator saves, weights as well,
    is copied to the host when it is saved and back to the device when the backward asks for it.
    ``storages`` is the tracker of a simulated run, ``None`` in a real one. Where the device
    ``is_host`` itself nothing is copied, because all lies in host memory already.

    Source: ``save_on_cpu`` in PyTorch's ``torch/autograd/graph.py`` (2.6–2.13).
    """
    if storages is None:
        return save_on_cpu(pin_memory=False)

    if is_host:
        return saved_tensors_hooks(lambda tensor: tensor, lambda packed: packed)

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            packed = torch.empty(
                tensor.size(), dtype=tensor.dtype, layout=tensor.layout, device=tensor.device
            )
            if packed.layout is torch.strided:
                storages.set_host(storages.index_of(packed, -1))
            packed.copy_(tensor)
        return packed

    def unpack(packed: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return torch.empty_like(packed).copy_(packed)

    return saved_tensors_hooks(pack, unpack)
