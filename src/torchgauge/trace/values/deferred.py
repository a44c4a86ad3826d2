"""Which values are deferred: masks and indices that follow from known values and are too many."""

from __future__ import annotations

from typing import Any

import torch

from torchgauge.trace.inspect.geometry import covers_storage
from torchgauge.trace.inspect.irregular import is_irregular
from torchgauge.trace.operators.op_facts import OpCall
from torchgauge.trace.values.limits import WORKED_OUT_LIMIT
from torchgauge.trace.values.origins import Origins
from torchgauge.trace.values.recipes import Place, Recipe, Result
from torchgauge.trace.values.values import ValueStore


def recipe_of(values: ValueStore, call: OpCall, output: Any) -> tuple[Recipe, Origins] | None:
    """Return what gives the values of an operator's output, ``None`` where they are not known.

    Only whole numbers and truths decide shapes. It has to be asked before an operator that writes
    to its argument is noted to have done so.
    """
    func, facts, args, kwargs, tensors = call
    if not isinstance(output, torch.Tensor) or func.namespace != "aten" or is_irregular(output):
        return None
    is_whole = not (output.is_floating_point() or output.is_complex())
    if not is_whole or output.numel() > WORKED_OUT_LIMIT:
        return None
    if any(isinstance(value, torch.Tensor) for value in kwargs.values()) or not covers_storage(
        output
    ):
        return None
    try:
        parts = _parts(values, args)
    except LookupError:
        return None
    if "device" in kwargs:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    place, nbytes = Place.of(output), output.untyped_storage().nbytes()
    made = Result(func, parts, kwargs, place, nbytes, is_written=facts.is_mutating)
    return made, values.origins_of(*tensors)


def _parts(values: ValueStore, value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        part = values.part_of(value)
        if part is None:
            raise LookupError
        return part
    if isinstance(value, (list, tuple)):
        return type(value)(_parts(values, item) for item in value)
    return value
