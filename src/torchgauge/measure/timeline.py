"""A real step as the profiler saw it, with phases and modules by their names."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from torchgauge.facts.pictures.timeline import Timeline
from torchgauge.measure.marks import MARK, NODE, CallMarks, mark, profiled
from torchgauge.measure.step import RealStep

_ANNOTATION = "user_annotation"
_MEMORY = "[memory]"
_DROPPED = frozenset(["PyTorch Profiler (0)", "Iteration Start: PyTorch Profiler",
                      "Record Window End"])  # fmt: skip
"""What the profiler says of itself."""
_KEPT_PROPERTIES = ("deviceProperties", "cuda_runtime_version", "cuda_driver_version")


def measured_timeline(
    step: RealStep, marks: CallMarks, types: Mapping[str, str], model_name: str, device: str
) -> Timeline:
    """Run a step once under the profiler, after another that warms up.

    ``step`` was built with ``marks.wrap``; ``types`` are the classes of modules by path. The
    profiler and the marks cost time: the timeline shows order and shares, not the undisturbed
    step.
    """
    step.run(lambda phase: None)
    marks.clear()
    document = _export(step)
    begin, events = _without_marks(document["traceEvents"], marks, types)
    names = {"model_name": model_name, "device": device, "source": "measured"}
    properties = {name: document[name] for name in _KEPT_PROPERTIES if name in document}
    return Timeline(
        **names, events=sorted(events, key=lambda event: event.get("ts", begin)),
        properties=properties,
    )  # fmt: skip


def _export(step: RealStep) -> dict[str, Any]:
    with profiled(step, memory=True) as profiler:
        mark("begin")
        step.run(mark)
    with tempfile.TemporaryDirectory(prefix="torchgauge-") as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _without_marks(
    events: Iterable[dict[str, Any]], marks: CallMarks, types: Mapping[str, str]
) -> tuple[float, list[dict[str, Any]]]:
    """Return when the step began, in microseconds, and its events with marks turned to names."""
    found: list[dict[str, Any]] = []
    ends: list[dict[str, Any]] = []
    for event in events:
        name = str(event.get("name", ""))
        if name in _DROPPED:
            continue
        if name == _MEMORY:
            found.append(_counter(event))
        elif name.startswith(NODE):
            found.append(_node(event, marks))
        elif not name.startswith(MARK):
            found.append(event)
        elif name[len(MARK) :].isdigit():
            path = marks.paths[int(name[len(MARK) :])]
            found.append(_named(event, path, types))
        elif event.get("ph") == "X":
            ends.append(event)
    ends.sort(key=lambda event: float(event["ts"]))
    begin = float(ends[0]["ts"]) if ends else 0.0
    found.extend(_phases(ends))
    return begin, found


def _named(event: dict[str, Any], path: str, types: Mapping[str, str]) -> dict[str, Any]:
    label = f"{path} ({types.get(path, '')})" if path else types.get(path, "model")
    args = {**event.get("args", {}), "module": path}
    return {**event, "name": label, "cat": _ANNOTATION, "args": args}


def _node(event: dict[str, Any], marks: CallMarks) -> dict[str, Any]:
    """Say whose forward a part of the backward belongs to."""
    args = event.get("args", {})
    call = marks.call_of_node(args.get("Sequence number", -1))
    if call < 0:
        return event
    return {**event, "args": {**args, "module": marks.paths[call]}}


def _counter(event: dict[str, Any]) -> dict[str, Any]:
    """Turn a note about memory into a point of a track.

    On the CPU the profiler counts from the start of the step; on a GPU it is all that PyTorch's
    allocator has handed out.
    """
    args = event["args"]
    on_cpu = args.get("Device Type", 0) == 0
    track = "Memory since the step began (bytes)" if on_cpu else "Memory allocated (bytes)"
    return {
        "ph": "C",
        "name": track,
        "pid": event["pid"],
        "ts": event["ts"],
        "args": {"bytes": args["Total Allocated"]},
    }


def _phases(ends: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a slice from each mark to the next, and one over all of them."""
    if len(ends) < 2:
        return
    for before, end in pairwise(ends):
        yield _slice(end["name"][len(MARK) :], before, end)
    yield _slice("ProfilerStep#0", ends[0], ends[-1])


def _slice(name: str, before: Mapping[str, Any], end: Mapping[str, Any]) -> dict[str, Any]:
    start = float(before["ts"]) + float(before["dur"])
    return {
        "ph": "X",
        "cat": _ANNOTATION,
        "name": name,
        "pid": end["pid"],
        "tid": end["tid"],
        "ts": start,
        "dur": float(end["ts"]) - start,
        "args": {},
    }
