"""Weights that torch's quantized modules keep in packed objects, as their backend laid them out.

``torch.ao.nn.quantized`` holds no parameter: a weight and its bias are in an object of C++ that
only the operators of ``torch.ops.quantized`` read. It is asked once what it holds (``unpack``). The
bytes are those of the weight, of its scales and zero points per channel, and of its bias. What the
backend keeps besides (a copy in oneDNN, padding in FBGEMM) differs from machine to machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from torchgauge.trace.inspect.modules import modules_of

_CLASSES = "__torch__.torch.classes."
_NESTED = frozenset(("_packed_params", "_all_weight_values"))
"""Children in which quantized layers keep packed objects."""
_NAMESPACES = ("quantized.", "rnn.", "sparse.")
_ROW_HEADS = {8: 8, 4: 4, 2: 4}
"""Bytes of scale and offset at the start of each row of an embedding, by bits of a value.

Source: ``embedding_bag_byte_prepack`` and ``_qembeddingbag_nbit_prepack_helper`` in
``aten/src/ATen/native/quantized/cpu/qembeddingbag_prepack.cpp`` (2.6–2.13).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedTensor:
    """A tensor inside a packed object."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    stored_bytes: int


def is_packed(value: Any) -> bool:
    """Return whether a value is a packed object of torch's quantized operators."""
    if type(value) is not torch.ScriptObject:
        return False
    name: str = value._type().qualified_name()
    return name.removeprefix(_CLASSES).startswith(_NAMESPACES)


def packed_tensors(value: Any) -> tuple[PackedTensor, ...]:
    """Return what a packed object holds: weights, then biases; nothing where it does not say."""
    kind = value._type().qualified_name().removeprefix(_CLASSES)
    if kind.startswith("rnn."):
        return _cell(value)
    if not value._has_method("unpack"):
        return ()
    unpacked = value.unpack()
    weight, *rest = unpacked if isinstance(unpacked, tuple) else (unpacked,)
    bits = int(value.bit_rate()) if "Embedding" in kind else 0
    bias = rest[0] if rest and isinstance(rest[0], torch.Tensor) else None
    return (_weight("weight", weight, bits), *(() if bias is None else (_plain("bias", bias),)))


def _weight(name: str, weight: torch.Tensor, bits: int = 0) -> PackedTensor:
    shape = tuple(weight.shape)
    if not weight.is_quantized:  # packed as half precision, and cast on the way out
        return PackedTensor(
            name=name, shape=shape, dtype="float16", stored_bytes=2 * weight.numel()
        )
    if bits:
        rows, columns = shape
        nbytes = rows * (-(-columns * bits // 8) + _ROW_HEADS[bits])
    else:
        nbytes = weight.numel() * weight.element_size()
        if weight.qscheme() in (torch.per_channel_affine, torch.per_channel_affine_float_qparams):
            scales, zeros = weight.q_per_channel_scales(), weight.q_per_channel_zero_points()
            nbytes += scales.nbytes + zeros.nbytes
    dtype = str(weight.dtype).removeprefix("torch.")
    return PackedTensor(name=name, shape=shape, dtype=dtype, stored_bytes=nbytes)


def _plain(name: str, tensor: torch.Tensor) -> PackedTensor:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return PackedTensor(
        name=name, shape=tuple(tensor.shape), dtype=dtype, stored_bytes=tensor.nbytes
    )


def _cell(value: Any) -> tuple[PackedTensor, ...]:
    """Return the weights and biases of one layer and direction of a recurrent network.

    Its state is a kind, biases, numbers, and the packed products with the input and the hidden
    state, which hold the biases too (``aten/src/ATen/native/RNN.cpp``, 2.6–2.13).
    """
    packed = value.__getstate__()[0][4]
    return tuple(
        replace(tensor, name=f"{tensor.name}_{of}")
        for of, part in zip(("ih", "hh"), packed, strict=False)
        for tensor in packed_tensors(part)
    )


class PackedWeights:
    """Finds the packed tensors of modules, each object once."""

    def __init__(self) -> None:
        self._seen: list[Any] = []

    def has(self, module: nn.Module) -> bool:
        """Return whether a module may hold packed tensors."""
        return not _NESTED.isdisjoint(module._modules.keys()) or _holds(_state(module))

    def of(self, path: str, module: nn.Module) -> Iterator[tuple[str, PackedTensor]]:
        """Yield the full name of each tensor that a module holds packed.

        What a quantized layer keeps in a child that is never called counts as its own.
        """
        if not self.has(module):
            return
        own = _state(module)
        children = dict(module._modules.items())
        prefix = f"{path}." if path else ""
        child = children.get("_packed_params")
        for state in (own, {} if child is None else _state(child)):
            for attribute, value in state.items():
                for tensor in self._first(value):
                    yield prefix + _name(attribute, tensor.name), tensor
        layers = children.get("_all_weight_values")
        directions = 2 if getattr(module, "bidirectional", False) else 1
        for index, layer in enumerate(() if layers is None else layers.children()):
            suffix = f"l{index // directions}" + ("_reverse" if index % directions else "")
            for tensor in self._first(_state(layer).get("param")):
                yield f"{prefix}{tensor.name}_{suffix}", tensor

    def _first(self, value: Any) -> tuple[PackedTensor, ...]:
        """Return what an object holds the first time that it is met."""
        if not is_packed(value) or any(value is seen for seen in self._seen):
            return ()
        self._seen.append(value)
        return packed_tensors(value)


def _name(attribute: str, name: str) -> str:
    """Return the name that a module's own accessor gives to a packed tensor.

    >>> _name("_packed_params", "bias"), _name("_packed_weight_ih", "bias")
    ('bias', 'bias_ih')
    >>> _name("linear_0", "weight")
    'linear_0.weight'
    """
    if attribute in ("_packed_params", "_packed_weight", "param"):
        return name
    if (
        attribute.startswith("_packed_weight_")
        and not attribute.removeprefix("_packed_weight_").isdigit()
    ):
        return f"{name}_{attribute.removeprefix('_packed_weight_')}"
    return f"{attribute}.{name}"


def holds_packed(root: nn.Module) -> bool:
    """Return whether a module of a model holds packed weights."""
    return any(_holds(_state(module)) for module in modules_of(root))


def _holds(state: dict[str, Any]) -> bool:
    """Return whether a packed object is among the attributes of a module."""
    return torch.ScriptObject in map(type, state.values()) and any(map(is_packed, state.values()))


def _state(module: nn.Module) -> dict[str, Any]:
    """Return a module's attributes; a scripted one is asked for those that hold packed weights."""
    if not isinstance(module, torch.jit.ScriptModule):
        return module.__dict__
    return {name: getattr(module, name) for name in _HOLDERS if hasattr(module, name)}


_HOLDERS = ("_packed_params", "_packed_weight", "_packed_weight_ih", "_packed_weight_hh", "param")
