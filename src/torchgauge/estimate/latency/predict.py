"""A step's time on a GPU, from its trace: per kernel, per call, per phase.

Assumes: the step is one of many, data is on the device, nothing else runs there; Python and
dispatch take what they take on a desktop processor of about 2022.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from torchgauge.estimate.latency.device_model import DeviceModel
from torchgauge.estimate.latency.fusion import fused
from torchgauge.estimate.latency.kernels import kernels_of
from torchgauge.estimate.latency.kinds import Kind
from torchgauge.estimate.latency.steady import is_first_step_only, is_on_host
from torchgauge.estimate.latency.timeline import Issue, KernelRun, dispatch_seconds, run
from torchgauge.report.model import Phase, Trace


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The predicted timeline of a step."""

    model: DeviceModel
    kernels: tuple[KernelRun, ...]
    """In the order in which they run."""
    cpu_seconds: float
    """What Python and dispatch take in all."""
    compiled: bool = False

    @cached_property
    def total_seconds(self) -> float:
        """Return the time of the step: until the GPU has done all, and the CPU too."""
        last = self.kernels[-1].end if self.kernels else 0.0
        return max(last, self.cpu_seconds)

    def phase_seconds(self) -> dict[Phase, float]:
        """Return the time by phase; they sum to the total.

        A phase lasts from the end of the kernels before it to the end of its own.
        """
        found: defaultdict[Phase, float] = defaultdict(float)
        for kernel in self.kernels:
            found[kernel.phase] += kernel.idle + kernel.seconds
        if self.kernels:
            found[self.kernels[-1].phase] += self.total_seconds - self.kernels[-1].end
        return dict(found)

    def call_seconds(self, calls: int) -> tuple[list[float], list[float], float]:
        """Return the time of each call by itself, forward and backward, and that outside of all.

        They sum to the total; sub-modules are not included.
        """
        forward, backward = [0.0] * calls, [0.0] * calls
        outside = self.total_seconds - (self.kernels[-1].end if self.kernels else 0.0)
        for kernel in self.kernels:
            spent = kernel.idle + kernel.seconds
            if kernel.call < 0 or kernel.phase is Phase.OPTIMIZER:
                outside += spent
            elif kernel.phase is Phase.BACKWARD:
                backward[kernel.call] += spent
            else:
                forward[kernel.call] += spent
        return forward, backward, outside

    def bound_by(self) -> dict[str, float]:
        """Return the shares of the step that arithmetic, memory and launches decide; they sum to 1.

        A kernel is bound by the longer of the two; its beginning and end, and the time in which
        the GPU waits for the CPU, are launches.
        """
        total = self.total_seconds
        if not total:
            return {"compute": 0.0, "memory": 0.0, "launch": 0.0}
        compute = sum(k.seconds - k.launch_seconds for k in self.kernels if k.is_compute_bound)
        memory = sum(k.seconds - k.launch_seconds for k in self.kernels if not k.is_compute_bound)
        return {
            "compute": compute / total,
            "memory": memory / total,
            "launch": max(0.0, 1.0 - (compute + memory) / total),
        }

    @property
    def error(self) -> float:
        """Return the relative error that four of five published measurements stay within.

        It is wider where no measurement of the device, of such kernels, or of what else bounds the
        step, was at hand: the mean over the step, by time.
        """
        c = self.model.coefficients
        shares = self.bound_by()
        if not sum(shares.values()):
            return c["error.launch"]
        known = f"{self.model.device.name}.bandwidth" in c
        measured = c["error.known_device" if known else "error.other_device"]
        new = sum(k.seconds for k in self.kernels if _is_unmeasured(k)) / self.total_seconds
        kernels = max(0.0, 1.0 - shares["launch"] - new)
        return (
            kernels * measured
            + new * c["error.other_kernels"]
            + ((1.0 - kernels - new) * c["error.launch"])
        )

    @property
    def flops(self) -> float:
        """Return the FLOPs of products, padding not counted."""
        return sum(kernel.flops for kernel in self.kernels)


_PRODUCTS = (Kind.MATMUL, Kind.CONVOLUTION, Kind.DEPTHWISE, Kind.ATTENTION)
_HALF = ("float16", "bfloat16")


def _is_unmeasured(kernel: KernelRun) -> bool:
    """Return whether no set of measurements holds such kernels.

    Those are convolutions in float32, and products of 8-bit numbers or of float64.
    """
    if kernel.kind in (Kind.CONVOLUTION, Kind.DEPTHWISE):
        return kernel.dtype not in _HALF
    return kernel.kind in _PRODUCTS and kernel.dtype not in (*_HALF, "float32")


def predict(trace: Trace, model: DeviceModel, *, compiled: bool = False) -> Prediction:
    """Return the timeline of a trace's step on a device.

    Args:
        trace: recorded on that device's virtual kernels, or on ones like them.
        model: the device and its coefficients.
        compiled: as ``torch.compile`` runs it: element-wise chains fused, few launches.
    """
    c = model.coefficients
    issues = list(fused(trace, c) if compiled else _eager(trace, model))
    return Prediction(
        model=model,
        kernels=tuple(run(issues, model)),
        cpu_seconds=sum(issue.dispatch_seconds for issue in issues),
        compiled=compiled,
    )


def _eager(trace: Trace, model: DeviceModel) -> Iterator[Issue]:
    entered = Counter(call.first_op for call in trace.calls)
    for op in trace.ops:
        if is_first_step_only(trace, op):
            continue
        works = () if is_on_host(trace, op) else kernels_of(op)
        seconds = dispatch_seconds(op, works, entered[op.index], model.coefficients)
        yield Issue(op=op, works=works, dispatch_seconds=seconds)
