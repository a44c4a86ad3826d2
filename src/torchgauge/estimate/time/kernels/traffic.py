"""What an operator reads and writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from torchgauge.estimate.time.kernels.kinds import Kind
from torchgauge.estimate.time.kernels.work import Work
from torchgauge.facts.trace import ArgumentValue, OpRecord, TensorSpec

FEW_BYTES: Final = 16_384
"""A kernel that moves no more is a launch and nothing else."""


def tensors(value: ArgumentValue) -> Iterator[TensorSpec]:
    """Yield the tensors in an argument, those of lists too."""
    if isinstance(value, TensorSpec):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from tensors(item)


def given_tensors(op: OpRecord) -> list[TensorSpec]:
    """Return the tensor arguments, in order."""
    found = [tensor for value in op.args for tensor in tensors(value)]
    found += [tensor for _, value in op.kwargs for tensor in tensors(value)]
    return found


def traffic(op: OpRecord, kind: Kind, passes: tuple[float, float] = (1.0, 1.0)) -> Work:
    """Return a kernel that reads every argument and writes every result so many times."""
    given = given_tensors(op)
    read = sum(tensor.nbytes for tensor in given)
    written = sum(tensor.nbytes for tensor in op.outputs)
    return Work(
        kind=Kind.SCALAR if read + written <= FEW_BYTES else kind,
        dtype=op.outputs[0].dtype if op.outputs else "float32",
        elements=max((tensor.numel for tensor in (*given, *op.outputs)), default=0),
        read_bytes=passes[0] * read,
        written_bytes=passes[1] * written,
    )


def moved(tensor: TensorSpec, kind: Kind) -> Work:
    """Return a kernel that reads a tensor and writes as much."""
    return Work(
        kind=Kind.SCALAR if 2 * tensor.nbytes <= FEW_BYTES else kind,
        dtype=tensor.dtype,
        elements=tensor.numel,
        read_bytes=tensor.nbytes,
        written_bytes=tensor.nbytes,
    )
