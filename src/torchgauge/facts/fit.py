"""The answer to "will it fit?": plain data, made by ``torchgauge.fit``, shown by ``render.fit``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final

from torchgauge.facts.answer import Answer, Saved
from torchgauge.facts.codec.shape import Shape
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.trace import NotCounted
from torchgauge.shown import Shown
from torchgauge.units import format_bytes, format_integer, format_rate


class Verdict(StrEnum):
    """Whether a step runs in the memory of a device, over the interval of what it takes."""

    FITS = "fits"
    """The caching allocator has room for all that it would take without a limit."""
    FRAGMENTED = "fits-fragmented"
    """Only because the allocator gives cached memory back and asks again, which costs time."""
    TOO_CLOSE = "too-close-to-call"
    """It runs at one end of the interval of its memory and fails at the other."""
    DOES_NOT_FIT = "does-not-fit"

    @property
    def runs(self) -> bool:
        """Return whether the step runs over the whole interval of its memory."""
        return self in (Verdict.FITS, Verdict.FRAGMENTED)


class Part(StrEnum):
    """The parts of what a device shows as used, in the order in which they are shown."""

    PARAMETERS = "parameters"
    """And buffers."""
    GRADIENTS = "gradients"
    OPTIMIZER_STATES = "optimizer states"
    ACTIVATIONS = "activations"
    """Made in the forward or the loss and kept for the backward."""
    INPUTS = "inputs"
    OUTPUTS = "outputs"
    """What an inference returns; the cache of a model that generates."""
    TEMPORARIES = "temporaries and workspaces"
    ALLOCATOR = "allocator"
    """Rounding, and memory that it holds beyond what is allocated at the peak."""
    CONTEXT = "CUDA context"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFit:
    """A step on one device. Bytes; the allocator's figures are those without a limit."""

    device: str
    verdict: Verdict
    usable_bytes: int
    """Memory that the driver reports."""
    context_bytes: int
    allocated_bytes: int
    """Most that is allocated at once."""
    reserved_bytes: int
    """Most that the caching allocator would hold."""
    minimum_bytes: int | None = None
    """The smallest limit of the allocator under which the step runs; ``None``: not looked for."""
    warnings: tuple[str, ...] = ()
    fits: bool
    """Whether the step runs if it takes what is predicted."""
    device_interval: tuple[int, int]
    """Between which bytes ``device_bytes`` lies in four of five cases."""
    other_programs_bytes: int = 0
    """What the scenario leaves to a desktop and other processes."""

    json: ClassVar = Shape(more=("device_bytes", "headroom_bytes"))

    @property
    def device_bytes(self) -> int:
        """Return what the device would show as used."""
        return self.reserved_bytes + self.context_bytes

    @property
    def headroom_bytes(self) -> int:
        """Return what is left of the memory, negative where it is not enough."""
        return self.usable_bytes - self.other_programs_bytes - self.device_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFree:
    """A GPU of this machine, and whether the step fits into what is free on it now."""

    index: int
    name: str
    total_bytes: int
    free_bytes: int | None
    fits_now: bool | None
    """``None`` where that is not known, or nobody asked about the GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One size that was traced."""

    size: int
    device_bytes: int
    verdict: Verdict
    fits: bool
    """Whether it runs if it takes what is predicted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Largest:
    """The largest batch (or context) that runs; found by tracing, not by a formula."""

    runs: int | None
    """By prediction; ``None`` when not even the smallest does."""
    safe: int | None = None
    """The largest that runs over the whole interval of its memory."""
    full_speed: int | None
    """The largest safe multiple of 8 that runs without the allocator giving memory back."""
    unit: int = 1
    """Only multiples of it were looked at: 1, or more where the answer is above a thousand."""
    tried: tuple[Tried, ...] = ()
    """In order of size."""
    is_bound: bool = True
    """Whether the next larger was traced and does not run; else larger ones were not looked at."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Another way to run the same step, traced."""

    name: str
    changes: tuple[str, ...]
    """What is different, one thing each, for people."""
    device_bytes: int
    saved_bytes: int
    """Against the step that was asked about; negative where it takes more."""
    verdict: Verdict
    extra_flops: int
    """Matmul-like FLOPs per step of the same effective batch, more than in the step itself."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotTried:
    """An alternative that makes no sense here, or that failed, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheFit:
    """Keys and values of a language model that generates."""

    kind: str
    """``"dynamic"`` or ``"static"``."""
    context: int
    """Tokens in the cache when the last one has been generated."""
    cache_bytes: int
    bytes_per_token: float
    """Of one sequence."""
    prefill_peak_bytes: int
    """Most bytes of tensors alive while the prompt is read, parameters included."""
    decode_peak_bytes: int
    """The same while the last token is made."""
    largest_context: Largest | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class FitReport(Answer):
    """Whether a step fits, how large it may get, and what would make it fit or free memory."""

    tool_version: str
    torch_version: str
    model_name: str
    model_spec: str | None
    scenario: Scenario
    """With the first device."""
    parameter_dtypes: tuple[str, ...] = ()
    """Of the model as it ran, the one of most elements first."""
    batch_size: int | None
    inputs: tuple[str, ...]
    """As text: ``"input_ids [1, 2048] int64"``."""
    devices: tuple[DeviceFit, ...]
    breakdown: Mapping[Part, int]
    """Of what the first device would show; it sums to its ``device_bytes``."""
    peak_at: str
    """Where the peak is: phase, module and operator."""
    total_flops: int
    """Matmul-like FLOPs of the step."""
    local: tuple[LocalFree, ...] = ()
    largest_batch: Largest | None = None
    """On the first device; ``None`` where it was not looked for."""
    alternatives: tuple[Alternative, ...] = ()
    """For the first device, the one that takes least first."""
    not_tried: tuple[NotTried, ...] = ()
    cache: CacheFit | None = None
    traces: int = 1
    """How many steps were traced for this answer."""
    not_counted: tuple[NotCounted, ...] = ()
    """Work that ``total_flops`` lacks; memory is complete all the same."""
    assumptions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    json: ClassVar = Shape(
        names=(
            "schema_version", "tool", "torch_version", "model", "scenario", "parameter_dtypes",
            "batch_size", "inputs", "fits", "devices", "breakdown", "peak_at", "total_flops",
            "local_gpus", "largest_batch", "alternatives", "not_tried", "cache", "traces",
            "not_counted", "assumptions", "guesses", "warnings",
        ),
        sources={"local_gpus": "local"},
        derived=("fits",),
    )  # fmt: skip

    def __str__(self) -> str:
        """Return the verdict in one line; ``torchgauge.show`` prints the whole answer."""
        about = f"{self.model_name}, {self.scenario.mode}"
        if len(self.devices) > 1:
            count = sum(device.verdict.runs for device in self.devices)
            return f"{about}: fits on {count} of {len(self.devices)} devices"
        device, batch = self.devices[0], self.largest_batch
        parts = [
            f"{str(device.verdict).replace('-', ' ')} on {device.device}",
            f"{format_bytes(device.device_bytes)} needed of {format_bytes(device.usable_bytes)}",
        ]
        if batch is not None and batch.runs is not None:
            parts.append(f"largest batch {format_integer(batch.runs)}")
        return f"{about}: {', '.join(parts)} (torchgauge.show prints all)"

    @property
    def verdict(self) -> Verdict:
        """Return the verdict of the first device."""
        return self.devices[0].verdict

    @property
    def fits(self) -> bool:
        """Return whether the predicted bytes run on every device that was asked about."""
        return all(device.fits for device in self.devices)

    @property
    def fits_somewhere(self) -> bool:
        """Return whether the step runs on one of the devices."""
        return any(device.fits for device in self.devices)


KNEE_SHARE: Final = 0.9
"""Of the best throughput, from which on a larger batch is hardly worth its memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPoint:
    """One batch size on one device."""

    batch: int
    step_ms: float
    device_bytes: int
    verdict: Verdict
    bound_by: str
    """``"compute"``, ``"memory"`` or ``"launch"``: what decides most of the step."""

    json: ClassVar = Shape(more=("samples_per_second",))

    @property
    def samples_per_second(self) -> float:
        """Return the throughput."""
        return self.batch / self.step_ms * 1e3 if self.step_ms else 0.0


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BatchCurve(Shown, Saved):
    """The sizes that were traced, the smallest first; those that do not fit come last."""

    model_name: str
    device: str
    scenario: Scenario
    error: float
    """Relative error of the predicted times: ±0.2 is ±20 %."""
    points: tuple[BatchPoint, ...]
    parameter_dtypes: tuple[str, ...] = ()
    """Of the model as it ran, the one of most elements first."""

    json: ClassVar = Shape(
        names=(
            "model_name", "device", "mode", "precision", "scenario", "parameter_dtypes", "error",
            "knee", "points",
        ),
        sources={"knee": "knee_batch"},
        derived=("mode", "precision", "knee"),
    )  # fmt: skip

    def __str__(self) -> str:
        """Return the best batch size in one line."""
        about = f"{self.model_name}, {self.mode} on {self.device}"
        if self.knee is None:
            return f"{about}: none of {len(self.points)} batch sizes fits"
        rate = format_rate(self.knee.samples_per_second)
        return f"{about}: {rate} samples/s at batch {self.knee.batch}, the knee of the curve"

    @property
    def mode(self) -> str:
        """Return what is run: inference or training."""
        return str(self.scenario.mode)

    @property
    def precision(self) -> str:
        """Return what the model is cast to."""
        return str(self.scenario.precision)

    @property
    def knee(self) -> BatchPoint | None:
        """Return the smallest batch with ``KNEE_SHARE`` of the best throughput that fits."""
        fitting = [point for point in self.points if point.verdict is Verdict.FITS]
        best = max((point.samples_per_second for point in fitting), default=0.0)
        return next((p for p in fitting if p.samples_per_second >= KNEE_SHARE * best), None)

    @property
    def knee_batch(self) -> int | None:
        """Return the batch size of the knee."""
        return None if self.knee is None else self.knee.batch
