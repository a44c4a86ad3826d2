"""What an operator reads and writes."""

from __future__ import annotations

from typing import Final

from torchgauge.estimate.arguments import given_tensors
from torchgauge.estimate.time.kernels.kinds import Kind
from torchgauge.estimate.time.kernels.work import Work
from torchgauge.facts.trace import OpRecord, TensorSpec

FEW_BYTES: Final = 16_384
"""A kernel that moves no more is a launch and nothing else."""


def traffic(op: OpRecord, kind: Kind, reads: float = 1.0) -> Work:
    """Return a kernel that reads every argument so many times, and writes every result."""
    given = given_tensors(op)
    read = sum(tensor.nbytes for tensor in given)
    written = sum(tensor.nbytes for tensor in op.outputs)
    return Work(
        kind=Kind.SCALAR if read + written <= FEW_BYTES else kind,
        dtype=op.outputs[0].dtype if op.outputs else "float32",
        elements=max((tensor.numel for tensor in (*given, *op.outputs)), default=0),
        read_bytes=reads * read,
        written_bytes=float(written),
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
