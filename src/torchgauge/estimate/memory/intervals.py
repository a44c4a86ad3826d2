"""Between which bytes a step may lie, by the kind of its kernels.

Parameters, gradients and states are known exactly. What else the allocator holds was compared with
published measurements: four of five lie between two shares of the prediction
(``devices.tables.MEMORY_INTERVALS``). Errors are skewed, so the ends differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from torchgauge.devices.tables import MEMORY_INTERVALS, rows
from torchgauge.estimate.memory.roles import bytes_by_role
from torchgauge.estimate.memory.workspaces import Platform
from torchgauge.estimate.memory.workspaces.operands import HALF, tensor
from torchgauge.facts.trace import OpRecord, Role, Trace

LARGE: Final = 0.05
"""Share of the memory from which on a convolution's input and output can decide the peak: its
workspace may be several times as large."""
_EXACT = (Role.PARAMETER, Role.BUFFER, Role.GRADIENT, Role.OPTIMIZER_STATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The bytes that are known exactly, and between which shares of the others the truth lies."""

    kind: str
    lower: float
    upper: float
    figures: int
    """Published ones of this kind; 0 where there are none, and the widest interval stands in."""
    exact_bytes: int = 0

    def around(self, nbytes: int) -> tuple[int, int]:
        """Return the least and the most bytes; ``nbytes`` lies between them."""
        exact = min(self.exact_bytes, nbytes)
        low, high = (exact + round((nbytes - exact) * end) for end in (self.lower, self.upper))
        return low, high

    def limits(self, least: int, most: int) -> tuple[int, int]:
        """Return the predictions whose most bytes are ``least``, and whose least are ``most``."""
        ends = ((least, self.upper), (most, self.lower))
        safe, last = (
            min(size, self.exact_bytes) + int(max(size - self.exact_bytes, 0) / end)
            for size, end in ends
        )
        return safe, last

    @property
    def assumption(self) -> str:
        """Return what the interval rests on."""
        if not self.figures:
            return f"memory interval: the widest, for want of published figures of {self.kind}"
        figures = f"{self.figures} published figures of {self.kind}"
        return f"memory interval: holds four of five of {figures}"


@cache
def spreads() -> Mapping[str, Spread]:
    """Return the intervals by kind."""
    return {
        row["kind"]: Spread(
            kind=row["kind"], lower=float(row["lower"]), upper=float(row["upper"]),
            figures=int(row["figures"]),
        )
        for row in rows(MEMORY_INTERVALS)
    }  # fmt: skip


def spread_of(trace: Trace, platform: Platform, reserved_bytes: int) -> Spread:
    """Return between which bytes a step lies that is predicted to take ``reserved_bytes``."""
    known, kind = spreads(), kind_of(trace, platform, reserved_bytes)
    widest = Spread(
        kind=kind,
        lower=min((item.lower for item in known.values()), default=1.0),
        upper=max((item.upper for item in known.values()), default=1.0),
        figures=0,
    )
    return replace(known.get(kind, widest), exact_bytes=exact_bytes(trace))


def exact_bytes(trace: Trace) -> int:
    """Return the bytes of a step that no kernel decides about."""
    sums = bytes_by_role(trace.storages)
    return sum(sums[role] for role in _EXACT)


def kind_of(trace: Trace, platform: Platform, reserved_bytes: int) -> str:
    """Return what decides how well the memory of a step is known."""
    found = [op for op in trace.ops if op.name == "aten.convolution.default" and op.outputs]
    if not found:
        return "steps without convolutions"
    is_large = max(map(_copied_bytes, found)) > LARGE * reserved_bytes
    conditions = (
        (platform.cudnn_benchmark, "cudnn.benchmark"),
        (platform.compute_capability < (8, 0), "GPUs before Ampere"),
        (platform.channels_last, "channels last"),
        (any(tensor(op, 0).dtype in HALF for op in found), "16 bits"),
    )
    size = "large convolutions" if is_large else "small convolutions"
    return ", ".join((size, *(text for is_so, text in conditions if is_so)))


def _copied_bytes(op: OpRecord) -> int:
    """Return the bytes of input and output of a convolution whose plan cuDNN chooses."""
    source, weight, groups = tensor(op, 0), tensor(op, 1), op.args[8]
    is_depthwise = groups != 1 and groups == source.shape[1]
    if is_depthwise or max(weight.shape[2:], default=1) == 1:
        return 0
    return source.nbytes + op.outputs[0].nbytes
