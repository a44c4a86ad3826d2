"""How a rule reads the operands of an operator."""

from __future__ import annotations

from itertools import zip_longest
from math import prod

from torchgauge.estimate.arguments import tensor as tensor
from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.facts.trace import Layout, OpRecord, TensorSpec

FLOAT = 4
INDEX = 8
RESULT, ONE = -1, -2
HALF = ("float16", "bfloat16")


def up(value: int, multiple: int) -> int:
    """Return the value rounded up to a multiple."""
    return -(-value // multiple) * multiple


def layout(op: OpRecord, position: int) -> Layout:
    """Return the layout of a tensor among the arguments, contiguous where none was recorded."""
    return op.layouts[position] if position < len(op.layouts) else Layout.CONTIGUOUS


def itemsize(spec: TensorSpec) -> int:
    """Return the bytes of an element, 0 where there is none."""
    return spec.nbytes // spec.numel if spec.numel else 0


def broadcast(*specs: TensorSpec) -> int:
    """Return how many elements tensors have together when they are broadcast."""
    sizes = zip_longest(*(reversed(spec.shape) for spec in specs), fillvalue=1)
    return prod(0 if 0 in column else max(column) for column in sizes)


def copy_bytes(op: OpRecord, position: int, wanted: Layout = Layout.CONTIGUOUS) -> int:
    """Return the bytes of an argument's copy in a layout, 0 where it has that layout or is none."""
    if position >= len(op.args) or not isinstance(op.args[position], TensorSpec):
        return 0
    place = sum(isinstance(value, TensorSpec) for value in op.args[:position])
    return 0 if wanted in layout(op, place) else tensor(op, position).nbytes


def contiguous(op: OpRecord, platform: Platform, *positions: int) -> tuple[int, ...]:
    """Contiguous copies of the arguments at these positions."""
    return tuple(copy_bytes(op, position) for position in positions)


def suggested(order: Layout) -> Layout:
    """Return the order that an image asks for."""
    last = Layout.SUGGESTS_CHANNELS_LAST in order
    return Layout.CHANNELS_LAST if last else Layout.CONTIGUOUS


def as_suggested(op: OpRecord, platform: Platform, position: int, *copied: int) -> tuple[int, ...]:
    """Arguments (the first, unless named) not in the order that the one at a position asks for."""
    wanted = suggested(layout(op, position))
    return tuple(copy_bytes(op, place, wanted) for place in copied or (0,))


def elements(op: OpRecord, platform: Platform, *pairs: int) -> tuple[int, ...]:
    """Tensors of as many elements as an argument, whose position is given, or as the result (-1).

    After each position the bytes of an element, 0 for its own; position -2 is one element.
    """
    found = []
    for position, width in zip(pairs[::2], pairs[1::2], strict=True):
        if position == ONE:
            found.append(width)
            continue
        spec = op.outputs[0] if position == RESULT else tensor(op, position)
        found.append(spec.numel * (width or itemsize(spec)))
    return tuple(found)
