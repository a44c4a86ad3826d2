"""A step on the clock: the CPU issues operators one by one, the GPU runs their kernels in order.

Large kernels keep the GPU behind the CPU, and the step takes as long as the kernels. Small ones
leave it waiting for the next launch, and the step takes as long as Python and dispatch: a small
model at batch 1 is bound by that, whatever the GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from torchgauge.estimate.arguments import argument, given_tensors
from torchgauge.estimate.time.gpu.cost import KernelTime, kernel_time
from torchgauge.estimate.time.gpu.device_model import DeviceModel
from torchgauge.estimate.time.kernels.kinds import Kind
from torchgauge.estimate.time.kernels.operators import kernels_of
from torchgauge.estimate.time.kernels.traffic import moved
from torchgauge.estimate.time.kernels.work import Work
from torchgauge.estimate.time.prediction import KernelRun
from torchgauge.facts.trace import Layout, OpRecord, Phase

_MICROSECOND = 1e-6


def kernels_on_gpu(op: OpRecord) -> tuple[Work, ...]:
    """Return an operator's kernels, with copies of operands and biases in kernels of their own.

    Source: PyTorch, ``aten/src/ATen/native/Convolution.cpp`` (``_convolution``: ``output.add_``
    after ``cudnn_convolution``; the kernel of depthwise convolutions adds it itself),
    ``cudnn/ConvShared.cpp`` (``cudnn_convolution``), ``cuda/layer_norm_kernel.cu`` and
    ``cuda/SoftMax.cu`` (``contiguous``).
    """
    works = kernels_of(op)
    if op.layouts and works and op.name.startswith(_ORDERED):
        wanted = Layout.CHANNELS_LAST if works[0].is_channels_last else Layout.CONTIGUOUS
        if wanted not in op.layouts[0]:
            works = (moved(given_tensors(op)[0], Kind.COPY), *works)
    if not op.name.startswith("aten.convolution.") or argument(op, 2, "bias") is None:
        return works
    if works[-1].kind is not Kind.CONVOLUTION:
        return works
    return (*works, moved(op.outputs[0], Kind.BROADCAST))


_ORDERED: Final = (
    "aten.convolution.", "aten.native_layer_norm.", "aten._softmax.", "aten._log_softmax.",
)  # fmt: skip
"""Operators that copy an input that lies in another order than their kernel's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """What the CPU does in one go: an operator, or several that were fused into one kernel."""

    op: OpRecord
    works: tuple[Work, ...]
    dispatch_seconds: float


def run(issues: Iterable[Issue], model: DeviceModel) -> Iterator[KernelRun]:
    """Yield the kernels of a step in order, with their times."""
    cpu = gpu = 0.0
    launch_latency = model.coefficients["launch.latency_us"] * _MICROSECOND
    known: dict[Work, tuple[KernelTime, float, float]] = {}
    for issue in issues:
        cpu += issue.dispatch_seconds
        for work in issue.works:
            times = known.get(work)
            if times is None:
                times = known[work] = _times(work, model)
            time, roof, error = times
            ready = cpu + launch_latency
            start = max(gpu, ready)
            yield KernelRun(
                op=issue.op.index,
                name=issue.op.name,
                kind=work.kind,
                dtype=work.dtype,
                call=issue.op.call,
                phase=issue.op.phase,
                issued=cpu,
                start=start,
                end=start + time.total,
                idle=start - gpu,
                compute_seconds=time.compute,
                memory_seconds=time.memory,
                launch_seconds=time.launch,
                roof_seconds=roof,
                error=error,
                flops=work.flops,
                nbytes=work.nbytes,
            )
            gpu = start + time.total


def _times(work: Work, model: DeviceModel) -> tuple[KernelTime, float, float]:
    """Return a kernel's time, the least that the datasheet allows, and the error to expect."""
    time = kernel_time(work.kind, work, model.rates(work), model.coefficients)
    return time, model.roof_seconds(work), model.error_of(work)


def dispatch_seconds(
    op: OpRecord, works: tuple[Work, ...], entered: int, c: Mapping[str, float]
) -> float:
    """Return how long the CPU needs for an operator: Python, dispatch, one launch per kernel.

    ``entered`` modules' forwards begin with it.
    """
    microseconds = entered * c["dispatch.module_us"]
    if not works:
        return (microseconds + c["dispatch.view_us"]) * _MICROSECOND
    per_op = c["dispatch.backward_us" if op.phase is Phase.BACKWARD else "dispatch.op_us"]
    further = (len(works) - 1) * c["dispatch.launch_us"]
    return (microseconds + per_op + further) * _MICROSECOND
