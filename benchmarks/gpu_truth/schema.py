"""What a record holds, and how it is written and read: one ``.json.xz`` file per case.

A figure that could not be measured is ``None``, never a guess: a CPU has no caching allocator, so
its history, its reserved bytes and its smallest cap are ``None`` there.
"""

from __future__ import annotations

import json
import lzma
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from benchmarks.gpu_truth.trace_codec import Interned, decode_trace, encode_trace
from torchgauge.facts.trace import Trace

SCHEMA_VERSION = 1
SUFFIX = ".json.xz"
LIMIT_BYTES = 2_000_000
"""Most that one record may take on disk."""


class Status(StrEnum):
    """How a case ended."""

    OK = "ok"
    OUT_OF_MEMORY = "out_of_memory"
    UNSUPPORTED = "unsupported"
    """A library, a kernel or a feature of the device is missing."""
    ERROR = "error"
    CRASH = "crash"
    """The process died; nothing but the case is known."""
    TIMEOUT = "timeout"


class RecordError(Exception):
    """A file that is no record of a known version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The machine and the versions that a record was made with."""

    torch: str
    python: str
    device: str
    """``cpu`` or ``cuda``."""
    device_name: str
    properties: dict[str, Any]
    cuda: str | None = None
    cudnn: int | None = None
    driver: str | None = None
    context_bytes: int | None = None
    """Device memory taken by the CUDA context alone, after the first small allocation."""
    allocator: str | None = None
    """The allocator's settings from the environment, ``None`` for the defaults."""
    libraries: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseMemory:
    """Memory at the end of one phase of one step, and its peaks inside that phase."""

    step: int
    phase: str
    """``load`` (model and inputs), ``forward``, ``loss``, ``backward``, ``optimizer``."""
    allocated_bytes: int | None
    reserved_bytes: int | None
    peak_allocated_bytes: int | None
    peak_reserved_bytes: int | None
    peak_requested_bytes: int | None
    """Without the allocator's rounding."""
    device_bytes: int | None
    """In use on the whole device at the end of the phase, context and other processes included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpMeasure:
    """What one op of the trace did to memory, and how long its kernels ran."""

    allocated_bytes: int | None = None
    """Allocated minus freed by the op itself."""
    transient_bytes: int | None = None
    """Highest point inside the op above the larger of before and after."""
    time_us: float | None = None
    """Warm median: sum of the kernels on a GPU, wall clock on a CPU."""
    kernels: tuple[tuple[str, float], ...] = ()
    """Name and microseconds of each kernel, on a GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorHistory:
    """Everything that the caching allocator did in the memory pass, in order."""

    segments: tuple[tuple[int, int, int, tuple[tuple[int, bool], ...]], ...]
    """At the start: address, bytes, stream, and ``(bytes, in use)`` of every block."""
    events: tuple[tuple[str, int, int, int], ...]
    """Action, address, bytes, stream. Addresses are relative to the lowest one."""
    marks: tuple[tuple[int, str, int], ...]
    """Step, phase, number of events when it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapSearch:
    """The smallest cap on the allocator under which the steps still ran."""

    smallest_ok_bytes: int | None
    largest_failed_bytes: int | None
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseTime:
    """Wall-clock time of a phase of the bare step, warm, synchronized at its ends."""

    phase: str
    median_ms: float
    lowest_ms: float
    highest_ms: float
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroPoint:
    """One shape of a kernel family."""

    shape: dict[str, Any]
    status: Status
    message: str = ""
    trace: Trace | None = None
    measures: tuple[OpMeasure, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Everything known of one case."""

    case: dict[str, Any]
    """The fields of ``cases.Case``; ``id`` names the file."""
    status: Status
    environment: Environment
    message: str = ""
    built_from: str = ""
    """The source that the model was built from; another than asked for where that was absent."""
    trace: Trace | None = None
    measures: tuple[OpMeasure, ...] = ()
    """One per op of the trace."""
    phases: tuple[PhaseMemory, ...] = ()
    history: AllocatorHistory | None = None
    times: tuple[PhaseTime, ...] = ()
    cap: CapSearch | None = None
    points: tuple[MicroPoint, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    """What the recording took."""

    @property
    def id(self) -> str:
        """Return the name of the case, which is the name of its file."""
        return str(self.case["id"])

    @property
    def peak_allocated_bytes(self) -> int | None:
        """Return the highest allocated peak of the steps, ``None`` if unknown."""
        known = [p.peak_allocated_bytes for p in self.phases if p.phase != "load"]
        return max((peak for peak in known if peak is not None), default=None)

    @property
    def peak_reserved_bytes(self) -> int | None:
        """Return the highest reserved peak of the steps, ``None`` if unknown."""
        known = [p.peak_reserved_bytes for p in self.phases if p.phase != "load"]
        return max((peak for peak in known if peak is not None), default=None)


# ------------------------------------------------------------------------------ files


def record_path(folder: Path, case_id: str) -> Path:
    """Return where the record of a case lies."""
    return folder / f"{case_id}{SUFFIX}"


def write_record(folder: Path, record: Record) -> Path:
    """Write a record whole or not at all.

    A record over the limit is written without its allocator history, which is the largest part,
    with a note that says so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = _packed(record)
    if len(data) > LIMIT_BYTES:
        data = _packed(record, without=("history",))
    if len(data) > LIMIT_BYTES:
        data = _packed(record, without=("history", "trace", "measures", "points"))
    path = record_path(folder, record.id)
    waiting = path.with_name(f".{path.name}.{os.getpid()}")
    waiting.write_bytes(data)
    waiting.replace(path)
    return path


def read_record(path: Path) -> Record:
    """Read one record.

    Raises:
        RecordError: for a file that is damaged or of an unknown version.
    """
    try:
        data = json.loads(lzma.decompress(path.read_bytes()))
    except (lzma.LZMAError, EOFError, ValueError) as error:
        raise RecordError(f"{path.name}: not a record ({error})") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise RecordError(f"{path.name}: schema version {version}, not {SCHEMA_VERSION}")
    return _decode(data)


def read_all(folder: Path) -> Iterator[Record]:
    """Yield every record below a folder, in order of path."""
    for path in sorted(folder.rglob(f"*{SUFFIX}")):
        if not path.name.startswith("."):
            yield read_record(path)


def count(folder: Path) -> int:
    """Return how many records lie below a folder, without reading them."""
    return sum(not path.name.startswith(".") for path in folder.rglob(f"*{SUFFIX}"))


def _packed(record: Record, without: tuple[str, ...] = ()) -> bytes:
    text = json.dumps(_encode(record, without), separators=(",", ":"))
    return lzma.compress(text.encode(), preset=6)


def _encode(record: Record, without: tuple[str, ...]) -> dict[str, Any]:
    left_out = tuple(f"{name} left out: the record would be over the limit" for name in without)
    plain = {
        name: getattr(record, name)
        for name in ("case", "status", "message", "built_from", "seconds")
    }
    return {
        "schema_version": SCHEMA_VERSION,
        **plain,
        "notes": [*record.notes, *left_out],
        "environment": asdict(record.environment),
        "run": None if "trace" in without else _encode_run(record.trace, record.measures),
        "phases": [asdict(phase) for phase in record.phases],
        "history": _encode_history(None if "history" in without else record.history),
        "times": [asdict(time) for time in record.times],
        "cap": asdict(record.cap) if record.cap else None,
        "points": []
        if "points" in without
        else [
            {
                "shape": point.shape,
                "status": point.status,
                "message": point.message,
                "run": _encode_run(point.trace, point.measures),
            }
            for point in record.points
        ],
    }


def _decode(data: dict[str, Any]) -> Record:
    trace, measures = _decode_run(data["run"])
    points = []
    for point in data["points"]:
        inner, inner_measures = _decode_run(point["run"])
        points.append(
            MicroPoint(
                shape=point["shape"],
                status=Status(point["status"]),
                message=point["message"],
                trace=inner,
                measures=inner_measures,
            )
        )
    return Record(
        case=data["case"],
        status=Status(data["status"]),
        message=data["message"],
        built_from=data["built_from"],
        seconds=data["seconds"],
        notes=tuple(data["notes"]),
        environment=Environment(**data["environment"]),
        trace=trace,
        measures=measures,
        phases=tuple(PhaseMemory(**phase) for phase in data["phases"]),
        history=_decode_history(data["history"]),
        times=tuple(PhaseTime(**time) for time in data["times"]),
        cap=CapSearch(**data["cap"]) if data["cap"] else None,
        points=tuple(points),
    )


def _encode_run(trace: Trace | None, measures: tuple[OpMeasure, ...]) -> dict[str, Any] | None:
    if trace is None:
        return None
    names = Interned()
    return {
        "trace": encode_trace(trace),
        "allocated": [measure.allocated_bytes for measure in measures],
        "transient": [measure.transient_bytes for measure in measures],
        "time_us": [measure.time_us for measure in measures],
        "kernels": [
            [[names.add(name), round(us, 3)] for name, us in measure.kernels]
            for measure in measures
        ],
        "kernel_names": names.values,
    }


def _decode_run(data: dict[str, Any] | None) -> tuple[Trace | None, tuple[OpMeasure, ...]]:
    if data is None:
        return None, ()
    names = data["kernel_names"]
    columns = (data["allocated"], data["transient"], data["time_us"], data["kernels"])
    measures = tuple(
        OpMeasure(
            allocated_bytes=allocated,
            transient_bytes=transient,
            time_us=time_us,
            kernels=tuple((names[index], us) for index, us in kernels),
        )
        for allocated, transient, time_us, kernels in zip(*columns, strict=True)
    )
    return decode_trace(data["trace"]), measures


def _encode_history(history: AllocatorHistory | None) -> dict[str, Any] | None:
    if history is None:
        return None
    actions = Interned()
    return {
        "segments": history.segments,
        "action": [actions.add(event[0]) for event in history.events],
        "address": [event[1] for event in history.events],
        "bytes": [event[2] for event in history.events],
        "stream": [event[3] for event in history.events],
        "actions": actions.values,
        "marks": history.marks,
    }


def _decode_history(data: dict[str, Any] | None) -> AllocatorHistory | None:
    if data is None:
        return None
    columns = (data["action"], data["address"], data["bytes"], data["stream"])
    return AllocatorHistory(
        segments=tuple(
            (address, size, stream, tuple((block, bool(used)) for block, used in blocks))
            for address, size, stream, blocks in data["segments"]
        ),
        events=tuple(
            (data["actions"][action], address, size, stream)
            for action, address, size, stream in zip(*columns, strict=True)
        ),
        marks=tuple((step, phase, events) for step, phase, events in data["marks"]),
    )
