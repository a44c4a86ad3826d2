"""A checkpoint's tensors as a tree of modules with parameters on the meta device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torchgauge.facts.guess import Guess
from torchgauge.models.build import ModelBuild

if TYPE_CHECKING:
    import torch

_BUFFER_NAMES = frozenset({
    # Batch normalisation.
    "running_mean", "running_var", "num_batches_tracked",
    # Indices and tables that models register as buffers and save.
    "position_ids", "token_type_ids", "relative_position_index", "relative_coords_table",
    "inv_freq", "masked_bias", "attn_mask", "anchors", "anchor_grid", "stride",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """One tensor of a checkpoint."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    key: object = None
    """Equal for tensors that share their storage; ``None`` when that cannot be told."""


def build_skeleton(
    spec: str,
    name: str,
    tensors: Sequence[StoredTensor],
    *,
    notes: Iterable[str] = (),
    warnings: Iterable[str] = (),
) -> ModelBuild:
    """Return the tree of modules that the tensors' names describe; its forward does not exist."""
    root = _new_module("Checkpoint")
    names = {tensor.name for tensor in tensors}
    shared: dict[object, Any] = {}
    packed = 0
    for tensor in tensors:
        is_buffer = _is_buffer(tensor)
        packed += not is_buffer and not tensor.dtype.is_floating_point
        value = shared.get(tensor.key) if tensor.key is not None else None
        if value is None:
            value = _meta_tensor(tensor, is_buffer=is_buffer)
            shared[tensor.key] = value
        *path, leaf = _module_path(tensor.name, names)
        _attach(_descend(root, path), leaf, value, is_buffer=is_buffer)
    return ModelBuild(
        model=root,
        name=name,
        spec=spec,
        runs=False,
        notes=tuple(notes),
        assumptions=_assumptions(packed),
        warnings=tuple(warnings),
    )


def _assumptions(packed: int) -> tuple[str, ...]:
    lines = [
        "a checkpoint does not say what is trained: every floating-point weight counts as trainable"
    ]
    if packed:
        lines.append(
            Guess(
                f"{packed} packed integer tensors are counted as stored: how many weights they "
                "stand for is not in the file"
            )
        )
    return tuple(lines)


def _is_buffer(tensor: StoredTensor) -> bool:
    import torch

    # Weights are packed into 8, 16 or 32 bits; 64-bit integers and booleans are indices and masks.
    return tensor.name.rpartition(".")[2] in _BUFFER_NAMES or tensor.dtype in (
        torch.int64,
        torch.bool,
    )


def _meta_tensor(tensor: StoredTensor, *, is_buffer: bool) -> torch.Tensor:
    import torch

    value = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    if is_buffer:
        return value
    return torch.nn.Parameter(value, requires_grad=tensor.dtype.is_floating_point)


def _module_path(name: str, names: set[str]) -> list[str]:
    """Split a name on its dots, except behind a part that is a tensor itself.

    ``weight`` and ``weight.absmax`` (bitsandbytes) cannot be a tensor and a module at once, so
    the second becomes ``weight/absmax``.
    """
    parts = name.split(".")
    for end in range(1, len(parts)):
        if ".".join(parts[:end]) in names:
            return [*parts[: end - 1], "/".join(parts[end - 1 :])]
    return parts


def _new_module(kind: str) -> torch.nn.Module:
    import torch

    made = type(kind, (torch.nn.Module,), {"__doc__": "Made from a checkpoint's names."})
    module: torch.nn.Module = made()
    return module


def _descend(root: torch.nn.Module, path: Iterable[str]) -> torch.nn.Module:
    module = root
    for part in path:
        children = dict(module.named_children())
        name = part or "_"
        if name not in children:
            child = _new_module("Group")
            module.add_module(_free(module, name), child)
            children[name] = child
        module = children[name]
    return module


def _attach(module: torch.nn.Module, leaf: str, value: Any, *, is_buffer: bool) -> None:
    name = _free(module, leaf or "_")
    if is_buffer:
        module.register_buffer(name, value)
    else:
        module.register_parameter(name, value)


def _free(module: torch.nn.Module, name: str) -> str:
    """Return a name that ``nn.Module`` itself has no attribute of (``type``, ``half``, …)."""
    while hasattr(module, name):
        name += "_"
    return name
