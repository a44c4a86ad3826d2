"""The memory of a program on a device, from traces of it: nothing is allocated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from torchgauge.analyze import analyze_model
from torchgauge.deploy.export.signature import BATCH, Signature
from torchgauge.deploy.memory_table import MemoryLine, MemoryTable, line_over
from torchgauge.errors import UsageError
from torchgauge.facts.report import Report
from torchgauge.facts.scenario import Scenario
from torchgauge.request import Inputs, Request

_BATCHES = (4, 16, 64)
"""Far apart: what decides the peak of a small batch need not decide that of a large one."""
_SHORTEST = 16


def predict_memory(
    model: torch.nn.Module,
    signature: Signature,
    scenario: Scenario,
    make: Callable[[Mapping[str, int]], Sequence[torch.Tensor]],
    on_progress: Callable[[str], None] | None = None,
) -> MemoryTable:
    """Return the table of one device; ``make`` returns inputs of the sizes it is given.

    Assumes: the peak is no more than a line in the batch for given other sizes, and does not
    shrink when one of those grows.
    """
    lines: list[MemoryLine] = []
    parameter_bytes = 0
    for limits in length_limits(signature):
        if on_progress is not None:
            on_progress(" ".join(("memory on", scenario.device, _text(limits))))
        peaks = {}
        milliseconds = {}
        for batch in _batches(signature):
            report = _report(model, make({BATCH: batch, **limits}), scenario)
            assert report.memory is not None
            peaks[batch] = peak_bytes(report)
            if report.time is not None:
                milliseconds[batch] = report.time.total_ms
            parameter_bytes = report.memory.parameter_bytes + report.memory.buffer_bytes
        lines.append(line_over(limits, peaks, milliseconds))
    return MemoryTable(device=scenario.device, parameter_bytes=parameter_bytes, lines=tuple(lines))


def predict_milliseconds(
    model: torch.nn.Module, scenario: Scenario, tensors: Sequence[torch.Tensor]
) -> float:
    """Return the predicted time of one forward of these inputs.

    Raises:
        UsageError: no time can be predicted for the device.
    """
    report = _report(model, tensors, scenario)
    if report.time is None:
        raise UsageError(
            f"no time can be predicted for {scenario.device}",
            hint="name a GPU that torchgauge devices lists: --device T4",
        )
    return report.time.total_ms


def peak_bytes(report: Report) -> int:
    """Return what the device shows as used, or what is allocated where there is no device."""
    memory = report.memory
    assert memory is not None
    return memory.peak_allocated_bytes if memory.device_bytes is None else memory.device_bytes


def length_limits(signature: Signature) -> list[dict[str, int]]:
    """Return the upper bounds for which there is a line: powers of two up to the largest sizes."""
    names = [name for name in signature.dimensions if name != BATCH]
    if not names:
        return [{}]
    most = {name: signature.dimensions[name].maximum or _SHORTEST for name in names}
    steps, size = [], _SHORTEST
    while size < max(most.values()):
        steps.append(size)
        size *= 2
    limits = [{name: min(size, most[name]) for name in names} for size in (*steps, size)]
    return [
        {name: max(size, signature.dimensions[name].minimum) for name, size in limit.items()}
        for limit in limits
    ]


def _batches(signature: Signature) -> tuple[int, ...]:
    """Return the batch sizes to trace; one where the batch is fixed."""
    if BATCH not in signature.dimensions:
        return (1,)
    sizes = signature.dimensions[BATCH]
    if sizes.maximum is not None and sizes.maximum < _BATCHES[-1]:
        return tuple(sorted({max(sizes.minimum, 1), sizes.maximum}))
    return _BATCHES


def _report(model: torch.nn.Module, tensors: Sequence[torch.Tensor], scenario: Scenario) -> Report:
    request = Request(model=model, inputs=Inputs(data=tuple(tensors)), scenario=scenario)
    return analyze_model(request)


def _text(limits: Mapping[str, int]) -> str:
    return ", ".join(f"up to {name} {size}" for name, size in limits.items())
