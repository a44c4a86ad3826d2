"""Other dtypes for inputs that were made from a size, where the guessed one does not run.

A size says nothing of the dtype. The first layer with weights decides (an embedding wants whole
numbers), unless the argument's name does. Where the forward refuses that guess, or never looks
anything up with the whole numbers, the others are tried, without data, before anything is run for
real.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import torch

from torchgauge.facts.guess import Guess
from torchgauge.facts.trace import TensorSpec, Trace
from torchgauge.trace.inputs.plan import INTEGER_NAMES, InputPlan, InputTensor

_OF_DTYPES = re.compile(
    r"\b(d?type|ints?|int(8|16|32|64)|integers?|integral|longs?|long ?tensor|bool(ean)?|byte|"
    r"ind(ex|ices)|long int)\b",
    re.IGNORECASE,
)
"""What an error says that comes from a dtype."""
_MOST = 4
"""Inputs that are tried one by one."""
_LOOKING_UP = frozenset({
    "embedding", "_embedding_bag", "_embedding_bag_forward_only", "index", "_unsafe_index",
    "gather", "index_select", "take", "scatter", "scatter_", "index_add", "index_add_",
    "index_put", "index_put_", "index_copy", "scatter_add", "scatter_add_", "bincount",
})  # fmt: skip


def other_plans(plan: InputPlan, error: BaseException | None) -> Iterator[InputPlan]:
    """Yield the plan with other dtypes for what it guessed, the likelier first."""
    guessed = [item for item in plan.tensors_to_make() if item.is_guess and not item.ones]
    whole = [item for item in guessed if not item.dtype.is_floating_point]
    if not speaks_of_dtypes(error):  # then a name is right
        whole = [item for item in whole if item.name not in INTEGER_NAMES]
    if whole:
        floating = plan.floating_dtype
        yield _read(plan, {item.name: floating for item in whole}, error)
    floats = [item.name for item in guessed if item.dtype.is_floating_point]
    if not floats or not speaks_of_dtypes(error):
        return
    for dtype in (torch.int64, torch.bool):
        for name in floats[:_MOST] if len(floats) > 1 else ():
            yield _read(plan, {name: dtype}, error)
        yield _read(plan, dict.fromkeys(floats, dtype), error)


def speaks_of_dtypes(error: BaseException | None) -> bool:
    """Return whether an error may come from a dtype."""
    return error is not None and bool(_OF_DTYPES.search(str(error)))


def has_doubtful(plan: InputPlan) -> bool:
    """Return whether inputs are of whole numbers on a guess that a run may refute."""
    return any(map(_is_doubtful, plan.tensors_to_make()))


def looks_nothing_up(plan: InputPlan, trace: Trace) -> bool:
    """Return whether whole numbers that were guessed are an index of nothing in a run."""
    names = {item.name for item in plan.tensors_to_make() if _is_doubtful(item)}
    if not names:
        return False
    positions = {str(i) for i, item in enumerate(plan.args) if getattr(item, "name", "") in names}
    derived = {s.index for s in trace.storages if s.op < 0 and s.label in positions | names}
    for op in trace.ops:
        if derived.isdisjoint(op.reads):
            continue
        if op.name.split(".")[1] in _LOOKING_UP and not derived.isdisjoint(op.reads[1:]):
            return False
        for spec, index in zip(op.outputs, op.writes, strict=False):
            if isinstance(spec, TensorSpec) and "int" in spec.dtype:
                derived.add(index)
    return True


def _is_doubtful(item: InputTensor) -> bool:
    """Return whether an input is of whole numbers only because a layer of the model suggests so."""
    is_whole = not (item.dtype.is_floating_point or item.ones)
    return item.is_guess and is_whole and item.name not in INTEGER_NAMES


def _read(
    plan: InputPlan, dtypes: dict[str, torch.dtype], error: BaseException | None
) -> InputPlan:
    before = {item.name: item.dtype for item in plan.tensors_to_make()}
    notes = [
        Guess(
            f"input {name} was read as {_name(dtype)}, because "
            + (
                "nothing is looked up with it"
                if error is None
                else f"the model does not run on {_name(before[name])}"
            )
        )
        for name, dtype in dtypes.items()
    ]
    return replace(plan.with_dtypes(dtypes), assumptions=(*plan.assumptions, *notes))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
