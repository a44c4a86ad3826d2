"""How the tensors of a copy are made: meta tensors for a simulation, copies for a real run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import nn

from torchgauge.facts.guess import Guess
from torchgauge.trace.copy.build import constructed_value
from torchgauge.trace.copy.casting import Casting
from torchgauge.trace.inspect.geometry import is_whole, view_over
from torchgauge.trace.inspect.irregular import dense_parts, is_irregular, sparse_over
from torchgauge.trace.inspect.subclasses import ORDINARY
from torchgauge.trace.torch_internals.tensors import storage_key

OnNew: TypeAlias = Callable[[torch.Tensor, torch.Tensor], None]


class MetaConverter:
    """Turn real tensors into meta tensors that share storages where the originals do.

    ``casting`` says which of them get another dtype. ``on_new`` gets each original and its copy.
    """

    def __init__(
        self,
        casting: Casting | None = None,
        on_new: OnNew | None = None,
    ) -> None:
        self.casting = casting
        self._on_new = on_new
        self._made: list[tuple[torch.Tensor, torch.Tensor]] = []
        """What was told to ``on_new``."""
        self.irregular: torch.Tensor | None = None
        """The last sparse or nested tensor that was met; it has no copy without data."""
        self._storages: dict[int, torch.UntypedStorage] = {}

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the meta copy."""
        dtype = tensor.dtype if self.casting is None else self.casting(tensor)
        if is_irregular(tensor):
            self.irregular = tensor
            return torch.empty(0, dtype=dtype, device="meta")
        if (type(tensor) in ORDINARY and not tensor.is_quantized) or _is_plain(tensor):
            meta = self._strided(tensor, dtype)
        else:
            meta = torch.empty(tensor.shape, dtype=dtype, device="meta")
        if self._on_new is not None:
            self._made.append((tensor, meta))
            self._on_new(tensor, meta)
        return meta

    def go_on(self, casting: Casting, on_new: OnNew) -> None:
        """Serve another run with the same copies, which are told to it."""
        self.casting, self._on_new = casting, on_new
        for original, copied in self._made:
            on_new(original, copied)

    def _strided(self, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        storage = tensor.untyped_storage()
        key = storage_key(storage)
        shared = self._storages.get(key)
        if shared is None and dtype == tensor.dtype and is_whole(tensor, storage):
            meta = torch.empty_strided(tensor.shape, tensor.stride(), dtype=dtype, device=_META)
            self._storages[key] = meta.untyped_storage()
            return meta
        if shared is None:
            shared = torch.UntypedStorage(storage.nbytes(), device="meta")
            self._storages[key] = shared
        meta = view_over(shared, tensor)
        # A tensor of another dtype shares no storage, as those that module.to(dtype) makes.
        return meta if dtype == tensor.dtype else torch.empty_like(meta, dtype=dtype)


class CpuConverter:
    """Copy tensors for a real run; meta tensors get the value that was constructed, or a constant.

    The copies are on the CPU unless another ``device`` is named.
    """

    def __init__(
        self, casting: Casting | None, assumptions: list[str], device: torch.device | None = None
    ) -> None:
        self.device = device or torch.device("cpu")
        self.casting = casting
        self._assumptions = assumptions
        self._storages: dict[int, torch.UntypedStorage] = {}

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the copy."""
        dtype = tensor.dtype if self.casting is None else self.casting(tensor)
        if is_irregular(tensor) and not tensor.is_nested and dense_parts(tensor):
            *indices, values = (self(part) for part in dense_parts(tensor))
            return sparse_over(tensor, indices, values.to(dtype))
        if not _is_plain(tensor):
            return tensor.detach().to(self.device, copy=True).to(dtype)
        if dtype != tensor.dtype:
            return self._filled(tensor).to(dtype)
        storage = tensor.untyped_storage()
        key = storage_key(storage)
        shared = self._storages.get(key)
        if shared is None:
            shared = torch.UntypedStorage(storage.nbytes(), device=self.device)
            if not tensor.is_meta:
                shared.copy_(storage, False)
            self._storages[key] = shared
            if tensor.is_meta:
                self._note()
                whole = torch.empty(0, dtype=tensor.dtype, device=self.device).set_(shared)
                whole.fill_(_FILL if tensor.dtype.is_floating_point else 0)
                if (value := constructed_value(tensor)) is not None:
                    view_over(shared, tensor).copy_(value)
        return view_over(shared, tensor)

    def _filled(self, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_meta:
            return tensor.detach().to(self.device, copy=True)
        self._note()
        filled = torch.empty_like(tensor, device=self.device, requires_grad=False)
        value = constructed_value(tensor)
        return filled.fill_(_FILL) if value is None else filled.copy_(value)

    def _note(self) -> None:
        note = Guess(
            f"tensors on the meta device have no values; the real run used {_FILL} for them"
        )
        if note not in self._assumptions:
            self._assumptions.append(note)


_FILL = 0.01
_META = torch.device("meta")


def _is_plain(tensor: torch.Tensor) -> bool:
    return (
        (
            type(tensor) in (torch.Tensor, nn.Parameter, nn.Buffer)
            or type(tensor).__torch_dispatch__ is torch.Tensor.__torch_dispatch__
        )
        and not is_irregular(tensor)
        and not tensor.is_quantized
    )
