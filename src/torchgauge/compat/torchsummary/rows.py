"""The rows of the table: one per call of a layer, in the order in which calls end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from torchgauge.compat.running import ModelRun
from torchgauge.compat.torchsummary.runs import SummaryRun
from torchgauge.facts.trace import ModuleCall, NamedValue, ParameterInfo

_WITHOUT_ROW = (nn.Sequential, nn.ModuleList)
"""Containers that torchsummary leaves out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line: ``Conv2d-1``, the shape as text, the parameters that no earlier row has shown."""

    name: str
    output_shape: str
    params: int


def rows_of(run: SummaryRun, batch_size: int, *, with_root: bool) -> tuple[Row, ...]:
    """Return the rows; their parameters sum to the model's.

    Without ``with_root`` the model itself has a row only if it is the only layer, or owns
    parameters that no other row carries.
    """
    completed = run.rows.completed_calls
    layers = [call for call in completed if call.path and _has_row(run.rows, call.path)]
    owners = _owners(run.rows, {call.path for call in layers})
    needs_root = bool(owners.get("")) or not layers
    if needs_root or (with_root and _has_row(run.rows, "")):
        layers = [call for call in completed if not call.path or _has_row(run.rows, call.path)]
    return tuple(_rows(run, layers, owners, batch_size))


def _rows(
    run: SummaryRun,
    calls: list[ModuleCall],
    owners: dict[str, tuple[ParameterInfo, ...]],
    batch_size: int,
) -> Iterator[Row]:
    types = run.rows.types
    shown: set[str] = set()
    texts: dict[tuple[Any, ...], str] = {}
    for number, call in enumerate(calls, 1):
        params, path = 0, call.path
        for item in owners.get(path, ()):
            name = item.shared_with or item.name
            if name not in shown:
                shown.add(name)
                params += item.numel
        is_tensor = call.index in run.tensor_calls
        key = is_tensor, *map(id, call.outputs)  # equal values are one object
        text = texts.get(key)
        if text is None:
            text = texts[key] = shape_text(
                call.outputs, batch_size, is_tensor=is_tensor, dims_known=run.is_named
            )
        yield Row(name=f"{types[path]}-{number}", output_shape=text, params=params)


def _has_row(run: ModelRun, path: str) -> bool:
    return not isinstance(run.modules[path], _WITHOUT_ROW)


def _owners(run: ModelRun, with_row: set[str]) -> dict[str, tuple[ParameterInfo, ...]]:
    """Return the parameters by the path whose row shows them.

    A module without a row leaves its parameters to the nearest one around it that has one, at
    last to the model itself.
    """
    found: dict[str, tuple[ParameterInfo, ...]] = {}
    for path, parameters in run.own_parameters.items():
        owner = path
        while owner and owner not in with_row:
            owner = owner.rpartition(".")[0]
        found[owner] = (*found.get(owner, ()), *parameters)
    return {path: parameters for path, parameters in found.items() if parameters}


def shape_text(
    values: tuple[NamedValue, ...], batch_size: int, *, is_tensor: bool, dims_known: bool
) -> str:
    """Return what a call gave as text: ``[-1, 8]``, or a list of such lists.

    The tensors of a structure are listed flat in its own order; what is not a tensor is left out,
    and named when there is nothing else (``None``).
    """
    tensors = [value for value in values if value.tensor is not None]
    if not tensors:
        return ", ".join(value.text for value in values) or "None"
    shapes = [_shape(value, batch_size, dims_known) for value in tensors]
    return str(shapes[0] if is_tensor else shapes)


def _shape(value: NamedValue, batch_size: int, dims_known: bool) -> list[int]:
    """Return a shape with ``batch_size`` where a dimension grows with the batch.

    Of a run for which that is not known, the first dimension is taken, as torchsummary does.
    """
    assert value.tensor is not None
    batch = {dim for dim, _ in value.batch_dims} if dims_known else {0}
    return [batch_size if dim in batch else size for dim, size in enumerate(value.tensor.shape)]
