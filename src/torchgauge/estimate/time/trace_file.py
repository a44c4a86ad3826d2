"""A predicted step as a trace file: what the CPU issues, what the GPU runs, the memory in use.

The layout is that of PyTorch's profiler, so that its readers (Perfetto, Holistic Trace Analysis)
take both: operators and launches on the thread of a process, kernels on a stream of device 0, each
kernel tied to its launch by ``correlation``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, Final

from torchgauge.estimate.time.prediction import KernelRun, Prediction
from torchgauge.facts.memory import MemoryEstimate
from torchgauge.facts.pictures.timeline import Timeline, TraceEvent
from torchgauge.facts.trace import Phase, Trace

_CPU: Final = {"pid": 1, "tid": 1}
_GPU: Final = {"pid": 0, "tid": 7}
_GPU_MODULES: Final = {"pid": 0, "tid": 8}
_LAUNCH_SHARE: Final = 0.5
"""Of a launch event in the time of its operator; it is drawn, no figure depends on it."""
_MICROSECONDS: Final = 1e6


def predicted_timeline(trace: Trace, prediction: Prediction, memory: MemoryEstimate) -> Timeline:
    """Lay a predicted step out in time, with what it allocates."""
    gpu = prediction.gpu
    events = [*_names(gpu.name if gpu is not None else None)]
    events += _phases(prediction)
    events += _modules(trace, prediction)
    events += _operators(trace, prediction)
    properties: dict[str, Any] = {}
    if gpu is not None:
        events += _kernels(trace, prediction)
        events += _modules_on_gpu(trace, prediction)
        known = {"totalGlobalMem": gpu.memory_bytes, "numSms": gpu.sm_count}
        properties["deviceProperties"] = [{"id": 0, "name": gpu.name, **known}]
    events += _memory(trace, prediction, memory)
    return Timeline(
        source="predicted",
        model_name=trace.model_name,
        device=prediction.name,
        events=events,
        properties=properties,
    )


def _slice(
    name: str, category: str, where: Mapping[str, int], start: float, end: float, **args: Any
) -> TraceEvent:
    return {
        "ph": "X",
        "cat": category,
        "name": name,
        **where,
        "ts": start * _MICROSECONDS,
        "dur": max(0.0, end - start) * _MICROSECONDS,
        "args": args,
    }


def _names(gpu: str | None) -> Iterator[TraceEvent]:
    rows = [(_CPU, "python (predicted)", "operators")]
    if gpu is not None:
        rows.append((_GPU, f"{gpu} (predicted)", "stream 7"))
        rows.append((_GPU_MODULES, f"{gpu} (predicted)", "modules"))
    for where, process, thread in rows:
        for kind, name in (("process_name", process), ("thread_name", thread)):
            yield {"ph": "M", "name": kind, **where, "args": {"name": name}}


# ---------------------------------------------------------------------------- the CPU


def _phases(prediction: Prediction) -> Iterator[TraceEvent]:
    """Yield a slice per phase on the CPU, and one over the step on both."""
    begin = 0.0
    for phase, kernels in groupby(prediction.kernels, key=lambda kernel: kernel.phase):
        *_, last = kernels
        yield _slice(phase, "user_annotation", _CPU, begin, last.issued)
        begin = last.issued
    total = prediction.total_seconds
    yield _slice("ProfilerStep#0", "user_annotation", _CPU, 0.0, total)


def _modules(trace: Trace, prediction: Prediction) -> Iterator[TraceEvent]:
    """Yield the calls of modules, from the issue of their first operator to that of their last."""
    issued = _issued(trace, prediction)
    types = {info.path: info.type for info in trace.modules}
    for call in trace.calls:
        start, end = issued[call.first_op], issued[call.end_op]
        if end > start:
            yield _slice(
                _label(call.path, types), "user_annotation", _CPU, start, end, module=call.path
            )


def _issued(trace: Trace, prediction: Prediction) -> list[float]:
    """Return when the CPU comes to each operator, in seconds; one more for the end."""
    after = {kernel.op: kernel.issued for kernel in prediction.kernels}
    times, now = [0.0], 0.0
    for op in range(len(trace.ops)):
        now = max(now, after.get(op, now))
        times.append(now)
    return times


def _operators(trace: Trace, prediction: Prediction) -> Iterator[TraceEvent]:
    before = 0.0
    for op, kernels in groupby(prediction.kernels, key=lambda kernel: kernel.op):
        name = trace.ops[op].name
        *_, last = kernels
        packet = name.rpartition(".")[0].replace(".", "::", 1)
        yield _slice(packet, "cpu_op", _CPU, before, last.issued, **{"External id": op + 1})
        before = last.issued


# ---------------------------------------------------------------------------- the GPU


def _kernels(trace: Trace, prediction: Prediction) -> Iterator[TraceEvent]:
    before = 0.0
    for number, kernel in enumerate(prediction.kernels, 1):
        begin = before + (kernel.issued - before) * _LAUNCH_SHARE
        links = {"correlation": number, "External id": kernel.op + 1}
        yield _slice("cudaLaunchKernel", "cuda_runtime", _CPU, begin, kernel.issued, **links)
        yield _slice(
            f"{kernel.kind} {kernel.name}",
            "kernel",
            _GPU,
            kernel.start,
            kernel.end,
            device=0,
            stream=7,
            module=_path(trace, kernel),
            flops=kernel.flops,
            bytes=kernel.nbytes,
            bound_by=kernel.bound_by,
            waited_us=kernel.idle * _MICROSECONDS,
            **links,
        )
        before = kernel.issued


def _modules_on_gpu(trace: Trace, prediction: Prediction) -> Iterator[TraceEvent]:
    """Yield whose kernels run, forward and backward, as slices over neighbours."""
    types = {info.path: info.type for info in trace.modules}

    def owner(kernel: KernelRun) -> tuple[str, Phase]:
        return _path(trace, kernel), kernel.phase

    for (path, phase), group in groupby(prediction.kernels, key=owner):
        kernels = list(group)
        if kernels[0].call >= 0:
            yield _slice(
                _label(path, types),
                "gpu_user_annotation",
                _GPU_MODULES,
                kernels[0].start,
                kernels[-1].end,
                module=path,
                phase=phase,
            )


def _path(trace: Trace, kernel: KernelRun) -> str:
    return trace.calls[kernel.call].path if kernel.call >= 0 else ""


def _label(path: str, types: Mapping[str, str]) -> str:
    return f"{path} ({types.get(path, '')})" if path else types.get("", "model")


def _memory(trace: Trace, prediction: Prediction, memory: MemoryEstimate) -> Iterator[TraceEvent]:
    """Yield the allocated bytes when the CPU comes to an operator: there the allocator works."""
    issued, now = _issued(trace, prediction), 0.0
    for point in memory.timeline:  # what lives on from the step before goes at no operator: -1
        now = max(now, issued[min(max(point.op, 0), len(issued) - 1)])
        yield {
            "ph": "C",
            "name": "Memory allocated (bytes)",
            "pid": (_CPU if prediction.gpu is None else _GPU)["pid"],
            "ts": now * _MICROSECONDS,
            "args": {"bytes": point.live_bytes},
        }
