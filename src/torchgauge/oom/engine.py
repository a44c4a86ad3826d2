"""Message + request → explanation: trace the step, replay it, find the place, try changes."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from math import isclose

from torchgauge.analyze import analyze_model
from torchgauge.devices import all_devices
from torchgauge.errors import UsageError
from torchgauge.estimate.memory.device import Gpu, loop_of
from torchgauge.estimate.memory.loop import Loop
from torchgauge.estimate.memory.pipeline import alive_at
from torchgauge.estimate.memory.roles import largest_alive, where
from torchgauge.facts.loop.oom import FailedAllocation, OomExplanation, OomMessage, Outside
from torchgauge.facts.query import has_run
from torchgauge.facts.report import Report
from torchgauge.facts.trace import Role, Trace
from torchgauge.oom.message import read_message
from torchgauge.oom.places import Place, Places, find_places
from torchgauge.oom.remedies import remedies_of
from torchgauge.oom.variants import matching_variants
from torchgauge.request import Request
from torchgauge.target import target_of
from torchgauge.units import format_bytes
from torchgauge.version import __version__

_SAME_GPU = 0.05
"""How far the memory of the message's GPU may lie from the device's, as a share."""


def explain_message(request: Request, text: str, *, changes: bool = True) -> OomExplanation:
    """Return where a step ran out of memory; see ``torchgauge.explain_oom``.

    Raises:
        TorchGaugeError: no such error in the text, no GPU is named, or what ``analyze`` raises.
    """
    message = read_message(text)
    if request.scenario.device == "cpu":
        raise UsageError(
            "the error is of a GPU, and the scenario runs on the CPU", hint=_naming(message)
        )
    request.tell("trace 1: the step that failed")
    report = analyze_model(request)
    if not has_run(report) or report.memory is None:
        raise UsageError(
            "an explanation needs a step that runs, and no input was given",
            hint="add a size: (3, 224, 224), --input-size 3,224,224",
        )
    trace, gpu = report.trace, target_of(request.scenario).gpu
    assert trace is not None and gpu is not None and report.memory.minimum_bytes is not None
    loop = loop_of(trace, gpu)
    places = find_places(trace, loop, gpu.settings, message)
    answer = _answer(request, report, gpu, message, places)
    if not places.found:
        others, traces = matching_variants(request, report, message) if changes else ((), 0)
        return replace(answer, others=others, traces=1 + traces)
    answer = _placed(answer, trace, loop, places.found[0])
    if not changes or answer.available_bytes is None:
        return answer
    remedies, traces = remedies_of(request, report, loop, gpu, answer)
    return replace(answer, remedies=remedies, traces=1 + traces)


def _naming(message: OomMessage) -> str:
    """Return how to name the GPU, with those that have as much memory as the message says."""
    capacity = message.capacity
    found = [] if capacity is None else [
        device.name
        for device in all_devices()
        if isclose(device.usable_memory_bytes or 0, capacity.middle, rel_tol=0.01)
    ]  # fmt: skip
    some = f" ({', '.join(found[:3])} …)" if len(found) > 3 else f" ({', '.join(found)})"
    return f"name the GPU: --device NAME, device=NAME{some if found else ''}"


def _answer(
    request: Request, report: Report, gpu: Gpu, message: OomMessage, places: Places
) -> OomExplanation:
    memory, available = report.memory, message.available
    assert memory is not None
    limits = [stated.middle for stated in (available, message.allowed) if stated is not None]
    return OomExplanation(
        tool_version=__version__,
        torch_version=report.torch_version,
        model_name=report.model_name,
        model_spec=request.spec,
        scenario=report.scenario,
        batch_size=report.batch_size,
        message=message,
        found=None,
        places=len(places.found),
        reason=places.reason,
        outside=_outside(message, gpu),
        available_bytes=min(limits, default=None),
        minimum_bytes=memory.minimum_bytes or 0,
        peak_reserved_bytes=memory.peak_reserved_bytes or 0,
        assumptions=report.assumptions,
        warnings=(*report.warnings, *_doubts(message, gpu)),
    )


def _outside(message: OomMessage, gpu: Gpu) -> Outside | None:
    available = message.available
    if message.capacity is None or available is None:
        return None
    nbytes = max(message.capacity.middle - available.middle, 0)
    least, most = gpu.contexts
    return Outside(
        nbytes=nbytes,
        expected_least=least,
        expected_most=most,
        other_programs_bytes=max(nbytes - most, 0),
    )


def _doubts(message: OomMessage, gpu: Gpu) -> tuple[str, ...]:
    capacity, usable = message.capacity, gpu.usable_bytes
    found = []
    if capacity and usable and not isclose(capacity.middle, usable, rel_tol=_SAME_GPU):
        found.append(
            f"the message is of a GPU with {format_bytes(capacity.middle)}, "
            f"the device that was named has {format_bytes(usable)}"
        )
    if message.messages > 1:
        found.append(f"the text holds {message.messages} such errors; the first is explained")
    if message.private is not None:
        found.append("part of the memory is in pools of CUDA graphs, which are not simulated")
    return tuple(found)


def _placed(answer: OomExplanation, trace: Trace, loop: Loop, place: Place) -> OomExplanation:
    """Return the answer with the place, and what was alive there."""
    before = place.event - 1
    roles, alive = alive_at(trace, loop, before, place.allocated_bytes)
    return replace(
        answer,
        found=_failed(trace, loop, place),
        at_failure=roles,
        alive=largest_alive(trace, alive),
    )


def _failed(trace: Trace, loop: Loop, place: Place) -> FailedAllocation:
    op, storage = loop.origins[place.event], loop.storages[place.event]
    phase, module, name = where(trace, op)
    tensor = next(iter(largest_alive(trace, [storage])), None) if storage >= 0 else None
    return FailedAllocation(
        step=bisect_right(loop.starts, place.event),
        phase=phase if op >= 0 else None,
        module=module or (tensor.module if tensor else ""),
        op=name,
        role=tensor.role if tensor else Role.WORKSPACE,
        label=tensor.label if tensor else "",
        shape=tensor.shape if tensor else None,
        dtype=tensor.dtype if tensor else "",
        code=tensor.code if tensor else "",
        requested_bytes=loop.events[place.event][2],
        segment_bytes=place.segment_bytes,
        allocated_bytes=place.allocated_bytes,
        is_exact=place.is_exact,
    )
