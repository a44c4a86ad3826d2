"""What one machine's CPU takes for operators, as measured there: the device file of a CPU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from statistics import median
from typing import Any, Final

import msgspec

from torchgauge.devices.cpu_file import REMEDY
from torchgauge.errors import DeviceError
from torchgauge.estimate.time.cpu.caches import MODULE, PYTHON, VIEW, Caches
from torchgauge.estimate.time.cpu.surface import Positive, Roof, Surface
from torchgauge.estimate.time.cpu.work import CpuWork
from torchgauge.estimate.time.kernels.kinds import Kind

_SCHEMA: Final = 4
_UNLIKE_OTHERS: Final = ("cumsum", "bernoulli_", "native_dropout")
"""One element after the other, or with random numbers: no measure for operators not timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuName:
    """What times depend on besides the operators: they hold for one of these alone."""

    processor: str
    threads: int
    torch_version: str

    def __str__(self) -> str:
        threads = f"{self.threads} thread" + ("s" if self.threads != 1 else "")
        return f"{self.processor}, {threads}, torch {self.torch_version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overheads:
    """What a step takes besides its operators, in microseconds."""

    module_us: float
    """Entering and leaving a module's forward."""
    op_us: float
    """An operator called from a model, beyond the bare operator that was timed."""
    view_us: float
    """An operator that moves nothing."""
    python_us: float
    """A call of a Python function, with what it does itself."""
    gradient_us: float
    """An operator of the forward that notes what the backward needs."""
    backward_us: float
    """An operator that the backward runs, beyond the bare operator that was timed."""
    page_us: float
    """The first touch of 4 KiB that come from the system, beyond that of memory in use."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A machine's surfaces by name, and everything else that was measured on it."""

    cpu: CpuName
    measured_on: str
    """The day, as ``2026-11-24``."""
    roof: Roof
    overheads: Overheads
    caches: Caches
    dtypes: Mapping[str, Mapping[str, Positive]]
    """How many times the float32 time products take in another dtype: by dtype, then by
    ``"matmul"`` and ``"convolution"``."""
    error: Positive
    """Relative error of whole steps: four of five networks timed for it stay within."""
    surfaces: Mapping[str, Surface]
    kinds: Mapping[str, str]
    """The kind of each surface's operator."""

    def surface_of(self, work: CpuWork) -> Surface | None:
        """Return the surface for an operator, else that of its plain form, ``None`` for neither."""
        plain = work.surface.partition(".")[0]
        for name in (work.surface, plain, plain.rstrip("_")):
            found = self.surfaces.get(name)
            if found is not None and len(found.scales) == len(work.sizes):
                return found
        return None

    @cached_property
    def _by_kind(self) -> Mapping[str, tuple[Surface, ...]]:
        found: dict[str, list[Surface]] = {}
        for name, surface in self.surfaces.items():
            if len(surface.scales) == 1 and name not in _UNLIKE_OTHERS:
                found.setdefault(self.kinds[name], []).append(surface)
        return {kind: tuple(group) for kind, group in found.items()}

    def typical_ratio(self, kind: Kind, elements: float) -> float:
        """Return the median over the operators of a kind, of all where there is none."""
        group = self._by_kind.get(kind) or self._by_kind.get(Kind.ELEMENTWISE, ())
        return median(surface.ratio((elements,)) for surface in group) if group else 1.0

    def to_json(self) -> str:
        """Return the file's text."""
        content = msgspec.to_builtins(self)
        kinds = content.pop("kinds")
        for name, surface in content["surfaces"].items():
            surface.update({key: _rounded(value) for key, value in surface.items()})
            surface["kind"] = kinds[name]
        return json.dumps({"schema_version": _SCHEMA, **content}, indent=1)


def _rounded(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}")


@lru_cache(maxsize=4)
def from_json(text: str, source: str) -> Calibration:
    """Read a calibration.

    Raises:
        DeviceError: the text is not one, or of another version of the format.
    """
    try:
        content = msgspec.json.decode(text)
        if content["schema_version"] != _SCHEMA:
            raise DeviceError(f"{source} is of another version of torchgauge", hint=REMEDY)
        kinds = {name: surface["kind"] for name, surface in content["surfaces"].items()}
        found = msgspec.convert({**content, "kinds": kinds}, Calibration)
        _check(found)
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise DeviceError(
            f"{source} is not a calibration of a CPU: {error!r}", hint=REMEDY
        ) from error
    return found


def _check(found: Calibration) -> None:
    """Raise ``ValueError`` where the numbers do not belong together."""
    caches = found.caches
    if not caches.distances or list(caches.distances) != sorted(set(caches.distances)):
        raise ValueError("distances: they do not rise")
    if {len(curve) for curve in (caches.code, caches.read, caches.written)} != {
        len(caches.distances)
    }:
        raise ValueError("caches: not one number for each distance")
    missing = {MODULE, VIEW, PYTHON, Kind.ELEMENTWISE} - caches.code_us.keys()
    if missing:
        raise ValueError(f"code_us: nothing for {', '.join(sorted(missing))}")
    for name, surface in found.surfaces.items():
        axes = len(surface.scales)
        is_whole = (
            surface.points
            and all(len(point) == axes for point in surface.points)
            and len(surface.weights) == len(surface.points)
            and (len(surface.mean) == axes + 1 or (axes == 1 and not surface.mean))
        )
        if not is_whole:
            raise ValueError(f"{name}: points, weights and scales do not belong together")
