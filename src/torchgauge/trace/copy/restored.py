"""Parameters as they were before a wrapper took them apart: FSDP1, FSDP2, DTensor, accelerate.

A rank holds a shard of a parameter, or none of it while it is offloaded. What the user's layers
hold is the whole one: its name, shape, dtype and sharing. That is what an analysis shows.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from torchgauge.facts.guess import Guess
from torchgauge.trace.copy.offloaded import content_on_disk, offloaded
from torchgauge.trace.inspect.modules import cached_by_class, modules_of
from torchgauge.trace.inspect.wrappers import (
    COMPOSED_STATE,
    has_composed_state,
    offloading_hooks,
    unwrap,
    wrapped_as,
    wraps_as,
)

_ORDINARY = frozenset((torch.Tensor, nn.Parameter, type(None)))
_UNSHARDED = "the figures are those of the unsharded model"
FLAT = "_flat_param"
"""Under which name FSDP1 registers its flat parameter (2.6–2.13)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A parameter or buffer in place of the one that its module holds now."""

    tensor: torch.Tensor
    requires_grad: bool


class RestoredParameters:
    """What the modules of a model held before they were wrapped.

    ``notes`` says what of the wrapping is not part of the figures.
    """

    def __init__(self, model: nn.Module, *, with_values: bool) -> None:
        self._with_values = with_values
        self._by_module: dict[int, dict[str, Restored]] = {}
        self._ties: dict[Any, Restored] = {}
        self.notes: list[str] = []
        self.is_sharded = False
        """Whether a parameter was taken apart, or lies elsewhere."""
        for module in modules_of(model):
            if isinstance(module, torch.jit.ScriptModule) or _is_plain(module):
                continue
            self._read_replicas(module)
            self._read_flat(module)
            self._read_states(module)
            self._read_offloaded(module)
            self._note_meshes(module)
        if with_values and any(_UNSHARDED in note for note in self.notes):
            self.notes.append(Guess("of other ranks' shards the real run took this rank's values"))
        self.notes = list(dict.fromkeys(self.notes))

    def of(self, module: nn.Module) -> dict[str, Restored]:
        """Return the tensors to put in place of a module's own, by their names."""
        return self._by_module.get(id(module), {})

    def _add(self, module: nn.Module, name: str, restored: Restored) -> None:
        self.is_sharded = True
        self._by_module.setdefault(id(module), {})[name] = restored

    def _read_replicas(self, module: nn.Module) -> None:
        if type(module) is nn.SyncBatchNorm:
            self.notes.append("SyncBatchNorm: statistics of one rank, without the exchange")
        if wrapped_as(module) != "module":
            return
        wrapper: Any = module
        if not hasattr(wrapper, "process_group"):
            if len(wrapper.device_ids) > 1:
                self.notes.append("DataParallel: the figures are those of one device with it all")
            return
        self._note_replicas(wrapper.process_group.size(), "DistributedDataParallel")
        if wrapper.mixed_precision is not None:
            self.notes.append("the mixed precision of DistributedDataParallel is not modelled")

    def _note_replicas(self, ranks: int, by: str) -> None:
        where = f"replicated over {ranks} ranks by {by}" if ranks > 1 else f"wrapped by {by}"
        self.notes.append(
            f"{where}: the figures are those of one rank, without gradient buckets and "
            "communication"
        )

    # ------------------------------------------------------------------ FSDP1

    def _read_flat(self, module: nn.Module) -> None:
        if wrapped_as(module) != "_fsdp_wrapped_module":
            return
        handle: Any = getattr(module, "_handle", None)
        if handle is None:
            return
        if handle.world_size > 1:
            self._note_shards(handle.world_size, "FSDP1")
        if handle._uses_param_mixed_precision:
            self._note_policy("FSDP1")
        flat = handle.flat_param
        pieces = zip(flat._param_infos, _pieces(handle, with_values=self._with_values), strict=True)
        for (name, owner, _), piece in pieces:
            self._add(owner, name, piece)
        for shared in flat._shared_param_infos:
            first = self._by_module[id(unwrap(shared.prim_module))][shared.prim_param_name]
            self._add(shared.module, shared.param_name, first)

    # ------------------------------------------------------------------ FSDP2

    def _read_states(self, module: nn.Module) -> None:
        replicas = _replicas(module)
        if replicas is not None:
            self._note_replicas(replicas, "replicate()")
        for parameter in _sharded_parameters(module):
            ranks = parameter.sharded_param.device_mesh.size()
            if ranks > 1 and replicas is None:
                self._note_shards(ranks, "FSDP2")
            if getattr(parameter.mp_policy, "param_dtype", None) is not None:
                self._note_policy("FSDP2")
            self._restore(parameter)

    def _restore(self, parameter: Any) -> None:
        """Put the sharded parameter where the gathered one, maybe of another dtype, is now."""
        self.is_sharded = True
        places = parameter._module_info
        whole = Restored(
            tensor=parameter.sharded_param, requires_grad=parameter.sharded_param.requires_grad
        )
        for module, name in (
            (places.module, places.param_name),
            *zip(places.shared_modules, places.shared_param_names, strict=True),
        ):
            held = module._parameters.get(name)
            gathered = (
                getattr(parameter, "_unsharded_param", None),
                getattr(parameter, "_sharded_post_forward_param", None),
            )
            if held is not None and any(held is tensor for tensor in gathered):
                self._add(module, name, whole)

    def _note_shards(self, ranks: int, by: str) -> None:
        self.notes.append(f"sharded over {ranks} ranks by {by}: {_UNSHARDED}")

    def _note_policy(self, by: str) -> None:
        self.notes.append(
            f"the mixed precision policy of {by} is not modelled: parameters keep their own dtype"
        )

    # ------------------------------------------------------------------ DTensor, accelerate

    def _note_meshes(self, module: nn.Module) -> None:
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if not is_distributed(tensor):
                continue
            self.is_sharded = True
            ranks = tensor.device_mesh.size()  # type: ignore[union-attr]
            if ranks > 1 and not any(f"over {ranks} ranks" in note for note in self.notes):
                self.notes.append(f"distributed over {ranks} ranks (DTensor): {_UNSHARDED}")

    def _read_offloaded(self, module: nn.Module) -> None:
        for hook in offloading_hooks(module):
            self.notes.append(
                "weights offloaded by accelerate: the figures are those without offloading"
            )
            below = module.named_modules() if hook.place_submodules else [("", module)]
            for path, owner in below:
                for name, tensor in (*owner._parameters.items(), *owner._buffers.items()):
                    key = f"{path}.{name}" if path else name
                    if tensor is None or not tensor.is_meta:
                        continue
                    found = offloaded(hook.weights_map, key, read=self._with_values)
                    restored = Restored(
                        tensor=(tensor if found is None else found).detach(),
                        requires_grad=tensor.requires_grad,
                    )
                    if offloaded(hook.weights_map, key) is None and name in owner._parameters:
                        restored = self._tied(hook, key, restored)
                    self._add(owner, name, restored)

    def _tied(self, hook: Any, key: str, restored: Restored) -> Restored:
        """Return the one weight of tied ones on the disk, where each has a file."""
        is_tied = key in hook.tied_params_names
        content: Any = content_on_disk(hook.weights_map, key, restored.tensor, is_tied=is_tied)
        if content is None:
            if not is_tied:
                return restored
            content = (id(hook.tied_params_map), restored.tensor.shape, restored.tensor.dtype)
        one = self._ties.setdefault(content, restored)
        if one is not restored or is_tied:
            same = "the same numbers" if isinstance(content, str) else "one shape"
            self.notes.append(Guess(f"offloaded weights of {same} on the disk were read as tied"))
        return one


def _is_plain(module: nn.Module) -> bool:
    """Return whether neither a module nor anything it holds is wrapped."""
    state = module.__dict__
    return (
        _is_of_nobody(type(module))
        and "_hf_hook" not in state
        and not has_composed_state(module)
        and _ORDINARY.issuperset(map(type, state["_parameters"].values()))
        and _ORDINARY.issuperset(map(type, state["_buffers"].values()))
    )


@cached_by_class
def _is_of_nobody(kind: type[nn.Module]) -> bool:
    is_wrapper = wraps_as(kind) is not None or hasattr(kind, "_get_fsdp_state")
    return not is_wrapper and kind is not nn.SyncBatchNorm


def is_distributed(tensor: Any) -> bool:
    """Return whether a tensor is a DTensor."""
    if type(tensor) in _ORDINARY:
        return False
    kind = getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)
    return kind is not None and isinstance(tensor, kind)


def whole(tensor: torch.Tensor, *, with_values: bool) -> torch.Tensor:
    """Return a DTensor as a plain tensor of its global shape; other tensors as they are.

    Nothing is communicated. With one rank, or replicas, it has the values; else it is on the meta
    device, or with ``with_values`` this rank's shard again and again.
    """
    if not is_distributed(tensor):
        return tensor
    local: torch.Tensor = tensor._local_tensor  # type: ignore[attr-defined]  # 2.6–2.13
    if local.shape == tensor.shape:
        return local
    if with_values and local.numel() and not local.is_meta:
        return _repeated(local, tensor.shape)
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """Return what lies in this process's memory: a DTensor's shard, other tensors as they are."""
    return tensor._local_tensor if is_distributed(tensor) else tensor  # type: ignore[attr-defined]


@contextmanager
def plain_means_replicated() -> Iterator[None]:
    """Let operators of DTensors take plain tensors, which the copy's parameters are.

    As ``torch.distributed.tensor.experimental.implicit_replication`` does (2.6–2.13).
    """
    kind: Any = getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)
    dispatcher = getattr(kind, "_op_dispatcher", None)
    before = getattr(dispatcher, "_allow_implicit_replication", None)
    if before is None:
        yield
        return
    dispatcher._allow_implicit_replication = True  # type: ignore[union-attr]
    try:
        yield
    finally:
        dispatcher._allow_implicit_replication = before  # type: ignore[union-attr]


def answer_as(distributed: torch.Tensor, copied: torch.Tensor) -> None:
    """Let a plain copy answer what code asks a DTensor for: its local part, its whole, its mesh."""
    copied.device_mesh = distributed.device_mesh  # type: ignore[attr-defined]
    copied.placements = distributed.placements  # type: ignore[attr-defined]
    reference = weakref.ref(copied)
    for name in ("to_local", "full_tensor", "redistribute"):
        setattr(copied, name, partial(_itself, reference))


def _itself(reference: weakref.ref[torch.Tensor], *args: Any, **kwargs: Any) -> Any:
    return reference()


def _pieces(handle: Any, *, with_values: bool) -> Iterator[Restored]:
    """Yield what was flattened into a flat parameter, in its order.

    Source: ``FlatParamHandle._init_flat_param_and_metadata`` in PyTorch's
    ``torch/distributed/fsdp/_flat_param.py`` (2.6–2.13).
    """
    flat = handle.flat_param
    own = getattr(flat, "_local_shard", None)
    data = flat.detach() if own is None else own
    offsets, offset = [], 0
    for numel, is_padding in zip(flat._numels_with_padding, flat._is_padding_mask, strict=True):
        if not is_padding:
            offsets.append(offset)
        offset += numel
    has_values = with_values and data.numel() > 0 and not data.is_meta
    for index, (shape, stride, start) in enumerate(
        zip(flat._shapes, flat._strides, offsets, strict=True)
    ):
        if not has_values:
            piece = torch.empty_strided(
                shape, stride, dtype=handle._orig_param_dtype, device="meta"
            )
        elif data.numel() >= offset:
            piece = data[start : start + shape.numel()].view(shape).clone()
        else:
            piece = _repeated(data, shape)
        source = flat if flat._params is None else flat._params[index]
        yield Restored(tensor=piece, requires_grad=source.requires_grad)


def _repeated(shard: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Fill a shape with a shard's values, again and again: of the kind that the others have."""
    numel = shape.numel()
    values = shard.detach().flatten()
    return values.repeat(-(-numel // values.numel()))[:numel].reshape(shape).clone()


def _sharded_parameters(module: nn.Module) -> Iterator[Any]:
    """Yield the ``FSDPParam`` of a module under ``fully_shard``.

    ``FSDPState._fsdp_param_groups``: 2.13; ``_fsdp_param_group``: 2.6.
    """
    if not hasattr(type(module), "_get_fsdp_state"):
        return
    wrapped: Any = module
    state = wrapped._get_fsdp_state()
    groups = getattr(state, "_fsdp_param_groups", None)
    if groups is None:
        group = getattr(state, "_fsdp_param_group", None)
        groups = [] if group is None else [group]
    for group in groups:
        yield from group.fsdp_params


def _replicas(module: nn.Module) -> int | None:
    """Return over how many ranks ``torch.distributed._composable.replicate`` copies a module.

    It keeps a ``_ReplicateState`` among the attributes of ``contract`` (2.6–2.13).
    """
    if not has_composed_state(module):
        return None
    for name, states in module.__dict__.items():
        found = states.values() if name.startswith(COMPOSED_STATE) else ()
        if any(type(state).__name__ == "_ReplicateState" for state in found):
            is_on = torch.distributed.is_initialized()
            return torch.distributed.get_world_size() if is_on else 1
    return None
