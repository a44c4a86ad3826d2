"""What one machine's CPU takes for operators, as measured there: the device file of a CPU."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass, fields
from functools import cached_property, lru_cache
from math import inf
from statistics import median
from typing import Any, Final

from torchgauge.errors import DeviceError
from torchgauge.estimate.time.cpu.caches import MODULE, PYTHON, VIEW, Caches
from torchgauge.estimate.time.cpu.surface import Roof, Surface
from torchgauge.estimate.time.cpu.work import CpuWork
from torchgauge.estimate.time.kernels.kinds import Kind

_SCHEMA: Final = 4
_UNLIKE_OTHERS: Final = ("cumsum", "bernoulli_", "native_dropout")
"""One element after the other, or with random numbers: no measure for operators not timed."""
_HINT: Final = "torchgauge measure --calibrate makes it anew"


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
    dtypes: Mapping[str, Mapping[str, float]]
    """How many times the float32 time products take in another dtype: by dtype, then by
    ``"matmul"`` and ``"convolution"``."""
    error: float
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
        content = {
            "schema_version": _SCHEMA,
            **{f.name: getattr(self, f.name) for f in fields(self) if f.name not in _PARTS},
            **{
                name: asdict(getattr(self, name)) for name in ("cpu", "roof", "overheads", "caches")
            },
            "surfaces": {
                name: {"kind": self.kinds[name], **_rounded(asdict(surface))}
                for name, surface in self.surfaces.items()
            },
        }
        return json.dumps(content, indent=1)


_PARTS: Final = ("cpu", "roof", "overheads", "caches", "surfaces", "kinds")


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    def short(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [short(item) for item in value]
        return float(f"{value:.6g}")

    return {name: short(value) for name, value in values.items()}


@lru_cache(maxsize=4)
def from_json(text: str, source: str) -> Calibration:
    """Read a calibration.

    Raises:
        DeviceError: the text is not one, or of another version of the format.
    """
    try:
        content = json.loads(text)
        if content["schema_version"] != _SCHEMA:
            raise DeviceError(f"{source} is of another version of torchgauge", hint=_HINT)
        surfaces = {
            name: Surface(
                points=tuple(tuple(point) for point in surface["points"]),
                mean=tuple(surface["mean"]),
                scales=tuple(surface["scales"]),
                weights=tuple(surface["weights"]),
                error=surface["error"],
            )
            for name, surface in content["surfaces"].items()
        }
        found = Calibration(
            cpu=CpuName(**content["cpu"]),
            measured_on=content["measured_on"],
            roof=Roof(**content["roof"]),
            overheads=Overheads(**content["overheads"]),
            caches=_caches(content["caches"]),
            dtypes=content["dtypes"],
            error=content["error"],
            surfaces=surfaces,
            kinds={name: surface["kind"] for name, surface in content["surfaces"].items()},
        )
        _check(found)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DeviceError(
            f"{source} is not a calibration of a CPU: {error!r}", hint=_HINT
        ) from error
    return found


def _caches(content: Mapping[str, Any]) -> Caches:
    curves = {name: tuple(content[name]) for name in ("distances", "code", "read", "written")}
    return Caches(**curves, code_us=content["code_us"])


def _check(found: Calibration) -> None:
    """Find out whether predictions can be made with it.

    Raises:
        ValueError: something is not a number, or not as many as there should be.
    """
    if type(found.cpu.threads) is not int:
        raise ValueError("the number of threads is none")
    _check_numbers("roof", astuple(found.roof), above=0.0)
    _check_numbers("overheads", astuple(found.overheads))
    _check_numbers("error", (found.error,), above=0.0)
    _check_caches(found.caches)
    for name, groups in found.dtypes.items():
        _check_numbers(name, groups.values(), above=0.0)
    for name, surface in found.surfaces.items():
        axes = len(surface.scales)
        _check_numbers(name, surface.scales, above=0.0)
        _check_numbers(name, (*surface.mean, *surface.weights, surface.error))
        for point in surface.points:
            _check_numbers(name, point)
        is_whole = (
            surface.points
            and all(len(point) == axes for point in surface.points)
            and len(surface.weights) == len(surface.points)
            and (len(surface.mean) == axes + 1 or (axes == 1 and not surface.mean))
        )
        if not is_whole:
            raise ValueError(f"{name}: points, weights and scales do not belong together")


def _check_caches(found: Caches) -> None:
    _check_numbers("distances", found.distances, above=0.0)
    if not found.distances or list(found.distances) != sorted(set(found.distances)):
        raise ValueError("distances: they do not rise")
    for name, values in (("code", found.code), ("read", found.read), ("written", found.written)):
        _check_numbers(name, values)
        if len(values) != len(found.distances):
            raise ValueError(f"{name}: not one for each distance")
    _check_numbers("code_us", found.code_us.values())
    missing = {MODULE, VIEW, PYTHON, Kind.ELEMENTWISE} - found.code_us.keys()
    if missing:
        raise ValueError(f"code_us: nothing for {', '.join(sorted(missing))}")


def _check_numbers(what: str, values: Iterable[Any], above: float = -inf) -> None:
    for value in values:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not above < value < inf:
            raise ValueError(f"{what}: {value!r}")
