"""Sparse and nested tensors: the dense tensors that they consist of, and what is said of them.

They run for real: PyTorch has next to no kernels for them without data, and what they cost depends
on how many elements they hold. The recorder looks inside their kernels, so that what those
allocate and multiply is recorded like anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import torch
import torch.utils.flop_counter  # attention of nested tensors uses it and does not import it (2.13)
from torch import nn

from torchgauge.facts.trace import ArgumentValue, NamedValue, TensorSpec
from torchgauge.trace.data_dependent import DataDependentError
from torchgauge.trace.torch_internals.modes import without_modes
from torchgauge.trace.torch_internals.tensors import (
    compressed_parts,
    coordinate_parts,
    jagged_parts,
    nested_parts,
)

_PRODUCTS = frozenset(
    ("linear", "linear_backward", "matmul", "matmul_backward", "bmm", "mm", "mv", "addmm", "addmv",
     "baddbmm", "_sparse_mm", "_sparse_addmm", "_sparse_sparse_matmul", "hspmm", "sspaddmm", "smm",
     "_sparse_mm_reduce_impl", "sparse_sampled_addmm", "_native_multi_head_attention",
     "_transformer_encoder_layer_fwd")
)  # fmt: skip
"""Nested tensors run these by products of dense ones, which are recorded."""


KNOWN_WITHOUT_DATA = frozenset(
    ("_sparse_coo_tensor_with_dims_and_tensors", "_sparse_coo_tensor_unsafe", "detach", "alias",
     "_coalesced_", "clone", "_coalesce", "sparse_mask")
)  # fmt: skip
"""Operators after which it is known how many elements a sparse tensor of the meta device holds.

They are those of sparse gradients and of sparse adapters, which are simulated.
"""


def is_irregular(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is sparse or nested: no single dense block of memory."""
    return tensor.layout is not torch.strided or tensor.is_nested


def is_coordinates(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is a sparse one in the COO layout, as sparse gradients are."""
    return tensor.layout is torch.sparse_coo


def irregular_in(values: Iterable[Any]) -> torch.Tensor | None:
    """Return the first sparse or nested tensor among arguments and the lists in them."""
    for value in values:
        if isinstance(value, torch.Tensor):
            if is_irregular(value):
                return value
        elif isinstance(value, (list, tuple)):
            found = irregular_in(value)
            if found is not None:
                return found
    return None


def dense_parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the tensors with data inside a sparse or nested one; their views cost nothing."""
    with without_modes():
        if tensor.layout is torch.sparse_coo:
            return coordinate_parts(tensor)
        if tensor.layout is torch.strided:
            return nested_parts(tensor)
        if tensor.layout is torch.jagged:
            return jagged_parts(tensor)
        return compressed_parts(tensor)


def sparse_over(
    like: torch.Tensor, indices: list[torch.Tensor], values: torch.Tensor
) -> torch.Tensor:
    """Return a sparse tensor of the same layout and shape over other parts."""
    options: dict[str, Any] = {"check_invariants": False}
    make: Callable[..., torch.Tensor] = torch.sparse_compressed_tensor
    if like.layout is torch.sparse_coo:
        make = torch.sparse_coo_tensor
        options["is_coalesced"] = like.is_coalesced()
    else:
        options["layout"] = like.layout
    return make(*indices, values, like.shape, **options)


def sparse_alias(tensor: torch.Tensor) -> torch.Tensor:
    """Return a COO tensor over the same parts: what a parameter's gradient is made of."""
    indices, values = coordinate_parts(tensor)
    return sparse_over(tensor, [indices], values)


def sparse_clone(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy of a COO tensor of the meta device with as many elements."""
    indices, values = coordinate_parts(tensor)
    return sparse_over(tensor, [indices.clone()], values.clone())


def counted_shape(tensor: torch.Tensor) -> tuple[tuple[int, ...], int | None]:
    """Return the shape to show, and for a sparse tensor how many elements it stores.

    A nested tensor is shown as its values: rows of all lengths one after the other.
    """
    parts = dense_parts(tensor)
    if not tensor.is_nested:
        return tuple(tensor.shape), parts[-1].numel() if parts else tensor.numel()
    values = parts[0]
    if tensor.layout is torch.jagged:
        return tuple(int(size) for size in values.shape), None
    sizes = parts[1]
    if sizes.dim() != 2 or sizes.shape[0] == 0 or sizes.shape[1] == 0:
        return tuple(values.shape), None
    first, rest = sizes[:, 0], sizes[:, 1:]
    if bool((rest == rest[:1]).all()):
        return (int(first.sum()), *rest[0].tolist()), None
    return tuple(values.shape), None


def has_sparse(arguments: Iterable[ArgumentValue]) -> bool:
    """Return whether a sparse tensor is among the recorded arguments of an operator."""
    return any(isinstance(a, TensorSpec) and a.stored is not None for a in arguments)


def is_recorded_inside(
    name: str, inner: Iterable[tuple[str, Iterable[ArgumentValue]]], *, nested: bool
) -> bool:
    """Return whether the operators that a kernel called say all that it computed.

    A sparse product is counted where its innermost kernel is reached.
    """
    base = _base(name)
    if base in _PRODUCTS:
        return nested or any(_base(n) in _PRODUCTS and has_sparse(args) for n, args in inner)
    return any(_base(other) == base for other, _ in inner)


def meetings(name: str, args: tuple[Any, ...]) -> list[tuple[str, ArgumentValue]]:
    """Return how many elements of two sparse factors meet: the multiplications of their product.

    For each ``k`` the elements in column ``k`` of the left one times those in row ``k`` of the
    right one.
    """
    sparse = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)
    factors = [a for a in args if isinstance(a, torch.Tensor) and a.layout in sparse][-2:]
    if _base(name) not in _PRODUCTS or len(factors) < 2 or any(f.dim() != 2 for f in factors):
        return []
    with without_modes():
        columns = torch.bincount(_positions(factors[0])[1], minlength=factors[0].shape[1])
        rows = torch.bincount(_positions(factors[1])[0], minlength=factors[1].shape[0])
        return [("multiplications", int((columns * rows).sum()))]


def _positions(tensor: torch.Tensor) -> torch.Tensor:
    return coordinate_parts(tensor if tensor.layout is torch.sparse_coo else tensor.to_sparse())[0]


def _base(name: str) -> str:
    return name.split(".")[1].rstrip("_") if "." in name else name


def refuse(*, nested: bool) -> NoReturn:
    """Say that sparse or nested tensors are not simulated.

    Raises:
        DataDependentError: always; a real run follows.
    """
    raise DataDependentError(
        "what nested tensors cost depends on the lengths of their rows"
        if nested
        else "what sparse tensors cost depends on the elements that they hold"
    )


def keep_padding(root: nn.Module) -> frozenset[str]:
    """Let encoders keep the padding that a mask marks; return the paths of those that would not.

    In an inference PyTorch drops it in ``TransformerEncoder.forward`` (2.6–2.13) by nested tensors,
    which have no kernels without data. ``root`` is a copy.
    """
    found = []
    for path, module in root.named_modules():
        if isinstance(module, nn.TransformerEncoder) and not module.training:
            if getattr(module, "use_nested_tensor", False):
                found.append(path)
            module.use_nested_tensor = False
    return frozenset(found)


def padding_notes(padded: frozenset[str], calls: Iterable[Any], *, pads_nested: bool) -> list[str]:
    """Return what is to be said of rows that were padded though PyTorch might not have done so.

    ``padded`` comes from ``keep_padding``; ``calls`` are those of modules, with ``path`` and
    ``inputs``.
    """
    notes = []
    if pads_nested:
        notes.append(
            "products of two nested tensors are counted padded to the longest row, as PyTorch's "
            "CPU kernel computes them"
        )
    masked = [call.path for call in calls if call.path in padded and _is_masked(call.inputs)]
    if masked:
        notes.append(
            f"{', '.join(path or 'the model' for path in dict.fromkeys(masked))}: counted on "
            "padded rows; where src_key_padding_mask marks the ends of rows, PyTorch drops them in "
            "an inference (enable_nested_tensor)"
        )
    return notes


def _is_masked(inputs: Iterable[NamedValue]) -> bool:
    """Return whether padding is marked, and nothing else is."""
    given = {value.name for value in inputs if value.tensor is not None}
    return "src_key_padding_mask" in given and "mask" not in given
