"""``torch.export`` with dynamic batch and sequence, and the signature that came of it."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.torch_version import TorchVersion

from torchgauge.deploy.export.call import FlatModel
from torchgauge.deploy.export.signature import BATCH, Signature, SizeRange, TensorSignature
from torchgauge.errors import ModelError
from torchgauge.models.exported_archive import quiet_torch

SEQUENCE = "sequence"
_BUILT_IN_OPERATORS = frozenset(("aten", "prim", "prims", "higher_order", "quantized_decomposed"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An exported program, its signature, and what did not come out as wished."""

    program: torch.export.ExportedProgram
    signature: Signature
    notes: tuple[str, ...] = ()
    operator_libraries: tuple[str, ...] = ()
    """Namespaces of operators that torch itself does not bring."""


DynamicDims = Mapping[str, Mapping[int, str]]
"""By input: the dimensions that may vary, with their names."""


def export_model(
    model: FlatModel,
    names: Sequence[str],
    tensors: Sequence[torch.Tensor],
    dynamic: DynamicDims,
) -> Exported:
    """Export a model; dimensions in ``dynamic`` that the model fixes stay fixed, with a note.

    Raises:
        ModelError: it cannot be exported; the message has the reason and the hint a way out.
    """
    auto = torch.export.Dim.AUTO
    shapes = tuple({dim: auto for dim in dynamic.get(name, {})} or None for name in names)
    output_names = model.names_of_outputs(tensors)
    try:
        with torch.no_grad(), quiet_torch():
            program = torch.export.export(
                model, tuple(tensors), dynamic_shapes={"tensors": shapes}, strict=False
            )
    except ModelError:
        raise
    except Exception as error:
        raise _cannot_export(model, error) from error
    _drop_lost_guards(program)
    signature, notes = _signature(program, names, output_names, dynamic)
    return Exported(
        program=program,
        signature=signature,
        notes=notes,
        operator_libraries=_operator_libraries(program),
    )


def _drop_lost_guards(program: torch.export.ExportedProgram) -> None:
    """Drop the guards that PyTorch 2.9 cannot check: those on one of ``*args`` name ``L``.

    Its ``module()`` knows no such name, and neither does that of the program once saved. 2.13
    translates them.
    """
    guards: list[str] = getattr(program, "_guards_code", [])
    if torch.__version__ < TorchVersion("2.13.0.dev0"):
        guards[:] = [guard for guard in guards if "L['tensors']" not in guard]


# ---------------------------------------------------------------------------- signature


def _signature(
    program: torch.export.ExportedProgram,
    names: Sequence[str],
    output_names: Sequence[str],
    dynamic: DynamicDims,
) -> tuple[Signature, tuple[str, ...]]:
    by_name = {node.name: node for node in program.graph.nodes}
    inputs = [by_name[name] for name in program.graph_signature.user_inputs]
    outputs = [by_name[name] for name in program.graph_signature.user_outputs]
    renamed: dict[str, str] = {}
    notes: list[str] = []
    for name, node in zip(names, inputs, strict=True):
        for dim, wanted in dynamic.get(name, {}).items():
            size = _size(node.meta["val"].shape[dim])
            if isinstance(size, int):
                notes.append(
                    f"{name}: dimension {dim} ({wanted}) is fixed at {size}, "
                    "because the model's code depends on it"
                )
            else:
                renamed.setdefault(size, _free_name(wanted, renamed))
    signature = Signature(
        inputs=tuple(
            replace(_tensor(name, node, renamed), minimum=low, maximum=high)
            for name, node, (low, high) in zip(names, inputs, map(_bounds, inputs), strict=True)
        ),
        outputs=tuple(
            _tensor(name, node, renamed) for name, node in zip(output_names, outputs, strict=True)
        ),
        dimensions=_ranges(program, renamed),
    )
    return signature, tuple(notes)


def _free_name(wanted: str, renamed: Mapping[str, str]) -> str:
    """Return the wanted name; two symbols for the batch are one batch all the same."""
    if wanted == BATCH or wanted not in renamed.values():
        return wanted
    return next(
        f"{wanted}{number}"
        for number in range(2, len(renamed) + 3)
        if f"{wanted}{number}" not in renamed.values()
    )


def _tensor(name: str, node: torch.fx.Node, renamed: Mapping[str, str]) -> TensorSignature:
    value = node.meta["val"]
    return TensorSignature(
        name=name,
        shape=tuple(
            size if isinstance(size, int) else _expression(size, renamed)
            for size in map(_size, value.shape)
        ),
        dtype=str(value.dtype).removeprefix("torch."),
    )


def _size(size: Any) -> int | str:
    """Return a size as a number, or as torch writes it; a fixed one may come as a symbol too."""
    text = str(size)
    return int(text) if text.isdecimal() else text


def _expression(text: str, renamed: Mapping[str, str]) -> str:
    return re.sub(r"[A-Za-z_]\w*", lambda word: renamed.get(word[0], word[0]), text)


def _ranges(
    program: torch.export.ExportedProgram, renamed: Mapping[str, str]
) -> dict[str, SizeRange]:
    ranges: dict[str, SizeRange] = {}
    for symbol, values in program.range_constraints.items():
        if (name := renamed.get(str(symbol))) is None:
            continue
        maximum = str(values.upper)  # a number, or sympy's or torch's infinity
        # torch writes 2 where it only means "not specialised to 1"; 1 is tried before it is said.
        ranges[name] = SizeRange(
            minimum=1 if int(values.lower) <= 2 else int(values.lower),
            maximum=int(maximum) if maximum.isdecimal() and int(maximum) < 2**31 else None,
        )
    return ranges


def _bounds(node: torch.fx.Node) -> tuple[int, int] | tuple[None, None]:
    """Return the bounds of indices into an embedding: beyond them a GPU kernel aborts."""
    bounds = []
    for user in _users_through_views(node):
        if "aten.embedding.default" in str(user.target):
            weight, index = user.args[0], user.args[1]
            if isinstance(weight, torch.fx.Node) and index is not weight:
                bounds.append(int(weight.meta["val"].shape[0]))
    return (0, min(bounds) - 1) if bounds else (None, None)


_KEEP_VALUES = ("aten.view", "aten._to_copy", "aten.to.", "aten.reshape", "aten.clone",
                "aten.unsqueeze", "aten.alias", "aten.detach", "aten.contiguous")  # fmt: skip


def _users_through_views(node: torch.fx.Node) -> Iterator[torch.fx.Node]:
    for user in node.users:
        yield user
        if any(name in str(user.target) for name in _KEEP_VALUES):
            yield from _users_through_views(user)


def _operator_libraries(program: torch.export.ExportedProgram) -> tuple[str, ...]:
    found = set()
    for node in program.graph.nodes:
        if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
            found.add(node.target.namespace)
    return tuple(sorted(found - _BUILT_IN_OPERATORS))


# ---------------------------------------------------------------------------- failures


_REASONS: tuple[tuple[str, str, str], ...] = (
    (
        r"data-dependent|GuardOnDataDependent|Could not guard|unbacked|_local_scalar_dense",
        "its control flow depends on the values of a tensor",
        "write the branch with torch.where or torch.cond, or tell torch.export what holds with "
        "torch._check; `torch.export` explains the line with TORCH_LOGS=+dynamic",
    ),
    (
        r"[Cc]onstraint|specialized",
        "its code fixes a dimension that should vary",
        "leave that --dynamic out",
    ),
    (
        r"Unsupported|not supported|NotImplementedError|no fake impl|fake tensor",
        "it uses an operation that torch.export does not know",
        "register the operation with torch.library.custom_op and a fake implementation, or move "
        "it out of forward",
    ),
    (
        r"",
        "torch.export raised",
        "make the line of the error plain tensor code, or serve the Python model itself with "
        "another server",
    ),
)


def _cannot_export(model: FlatModel, error: Exception) -> ModelError:
    text = f"{type(error).__name__}: {error}"
    reason, way_out = next(
        (reason, way_out) for pattern, reason, way_out in _REASONS if re.search(pattern, text)
    )
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    place = _user_line(error)
    return ModelError(
        f"{type(model.model).__name__} cannot be exported: {reason}"
        f"{f' at {place}' if place else ''}\n  {type(error).__name__}: {first}",
        hint=way_out,
    )


def _user_line(error: BaseException) -> str:
    """Return ``file.py:12``: the innermost line outside of torch and torchgauge."""
    own = (str(Path(torch.__file__ or "").parent), str(Path(__file__).parents[2]))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((*own, "<")) and "torch/nn" not in frame.filename:
            return f"{Path(frame.filename).name}:{frame.lineno}"
    return ""
