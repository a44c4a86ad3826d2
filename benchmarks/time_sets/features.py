"""The kernels of cases as arrays: what a fit evaluates a thousand times without a trace."""

from __future__ import annotations

import hashlib
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import torch

import torchgauge as tg
from benchmarks.time_sets.cases import TimeCase
from benchmarks.time_sets.tracing import trace_of
from torchgauge.devices import Device, find_device
from torchgauge.devices.device import Arithmetic
from torchgauge.estimate.memory.lifetimes import live_bytes
from torchgauge.estimate.memory.pipeline import estimate_memory
from torchgauge.estimate.memory.workspaces import Platform, workspaces_for
from torchgauge.estimate.time.gpu.fusion import fused
from torchgauge.estimate.time.gpu.rates import arithmetic_of
from torchgauge.estimate.time.gpu.timeline import kernels_on_gpu
from torchgauge.estimate.time.kernels.kinds import Kind
from torchgauge.estimate.time.kernels.work import Work
from torchgauge.facts.scenario import Precision
from torchgauge.facts.trace import Trace

_NUMBERS = tuple(
    item.name
    for item in fields(Work)
    if item.name not in ("kind", "dtype", "is_convolution", "is_portable")
)


APART = ", compiled"
"""What the compiled steps of a set are called that has eager ones too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """All of a case that its predicted time depends on."""

    works: tuple[tuple[Work, int], ...]
    """Different kernels, and how often each runs."""
    fresh_bytes: float
    """Memory that the step asks the driver for, where the loop empties the cache."""


def features_of(case: TimeCase, cache_directory: Path | None) -> Features:
    """Return the kernels of a case, from the directory if it has them."""
    name = hashlib.sha256(f"{case.key} {case.compiled} {_sources()}".encode()).hexdigest()[:24]
    path = cache_directory / f"kernels-{name}.pickle" if cache_directory else None
    if path is not None and path.is_file():
        kept: Features = pickle.loads(path.read_bytes())
        return kept
    found = features(trace_of(case, cache_directory), case)
    if path is not None:
        path.write_bytes(pickle.dumps(found))
    return found


def features(trace: Trace, case: TimeCase) -> Features:
    """Count the kernels of a trace."""
    counted: Counter[Work] = Counter()
    if case.compiled:
        for issue in fused(trace, {"dispatch.compiled_us": 0.0}):
            counted.update(issue.works)
    else:
        for op in trace.ops:
            counted.update(kernels_on_gpu(op))
    return Features(
        works=tuple(counted.items()),
        fresh_bytes=fresh_bytes(trace) if case.empties_cache else 0.0,
    )


def fresh_bytes(trace: Trace) -> float:
    """Return what a step needs at most beside the parameters, which stay."""
    target = Platform(type="cuda", compute_capability=(8, 0), torch_release="2.1")
    memory = estimate_memory(trace, live_bytes(trace, workspaces_for(target)))
    return float(memory.peak_allocated_bytes - memory.parameter_bytes - memory.buffer_bytes)


@cache
def _sources() -> str:
    digest = hashlib.sha256()
    folder = Path(tg.__file__).parent / "estimate" / "time"
    for path in sorted((*(folder / "kernels").glob("*.py"), *(folder / "gpu").glob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All kernels of one kind in a set: parallel arrays, equal kernels of several cases once."""

    kind: Kind
    case: torch.Tensor
    count: torch.Tensor
    which: torch.Tensor
    """Which of the different kernels that is: an index into ``work`` and ``rate``."""
    work: SimpleNamespace
    rate: torch.Tensor
    """Which of the table's ``rates`` each kernel has."""


Rate = tuple[Device, Arithmetic, bool]
"""A device, what it multiplies in, and whether by instructions that others have too."""


class Table:
    """A set of cases as arrays."""

    def __init__(self, cases: Sequence[TimeCase], found: Iterable[Features]) -> None:
        features = list(found)
        self.cases = list(cases)
        self.seconds = torch.tensor([case.measured_ms / 1e3 for case in cases])
        self.fresh_gib = torch.tensor([item.fresh_bytes / 2**30 for item in features])
        self.is_compiled = cases[0].compiled
        self.device_names = sorted({case.gpu for case in cases})
        self.rates: list[Rate] = []
        self.groups = tuple(self._groups(features))

    def _groups(self, found: Sequence[Features]) -> Iterator[Group]:
        by_kind: dict[Kind, list[tuple[int, int, Work]]] = {}
        for index, item in enumerate(found):
            for work, count in item.works:
                by_kind.setdefault(work.kind, []).append((index, count, work))
        places: dict[Rate, int] = {}
        for kind, entries in by_kind.items():
            different: dict[tuple[Work, int], int] = {}
            which = []
            for index, _, work in entries:
                rate = places.setdefault(_rate(self.cases[index], work), len(places))
                which.append(different.setdefault((work, rate), len(different)))
            columns = {name: torch.tensor([float(getattr(work, name)) for work, _ in different])
                       for name in _NUMBERS}  # fmt: skip
            columns["nbytes"] = columns["read_bytes"] + columns["written_bytes"]
            yield Group(
                kind=kind,
                case=torch.tensor([index for index, _, _ in entries]),
                count=torch.tensor([float(count) for _, count, _ in entries]),
                which=torch.tensor(which),
                work=SimpleNamespace(**columns),
                rate=torch.tensor([rate for _, rate in different]),
            )
        self.rates = list(places)


def _rate(case: TimeCase, work: Work) -> Rate:
    tf32 = case.scenario.precision is Precision.TF32
    alike = Work(
        kind=work.kind,
        dtype=work.dtype,
        is_convolution=work.is_convolution,
        is_portable=work.is_portable,
    )
    return _rate_of(case.gpu, tf32, alike)


@cache
def _rate_of(gpu: str, tf32: bool, alike: Work) -> Rate:
    device = find_device(gpu)
    return device, arithmetic_of(alike, device, tf32_matmul=tf32), alike.is_portable
