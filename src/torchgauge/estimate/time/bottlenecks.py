"""Which operators are worth speeding up: what each takes, and what it would take at the roof.

The roof is the datasheet's: peak rate of the arithmetic, peak bandwidth, no waiting (S. Williams
et al., "Roofline: An Insightful Visual Performance Model", CACM 2009). Nothing reaches it; as a
bound it says what tuning an operator can gain at most.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from torchgauge.estimate.time.prediction import KernelRun, Prediction
from torchgauge.facts.time import Bottleneck
from torchgauge.facts.trace import Phase, Trace

_MOST = 10
_MILLISECONDS = 1e3


@dataclass(slots=True)
class _Sum:
    ops: set[int] = field(default_factory=set)
    roof: float = 0.0
    compute: float = 0.0
    memory: float = 0.0
    launch: float = 0.0

    @property
    def time(self) -> float:
        return self.compute + self.memory + self.launch

    def add(self, kernel: KernelRun) -> None:
        self.ops.add(kernel.op)
        self.roof += kernel.roof_seconds
        running = kernel.seconds - kernel.launch_seconds
        if kernel.is_compute_bound:
            self.compute += running
        else:
            self.memory += running
        waited = sum(seconds for _, seconds in kernel.waits)  # the Python of other modules
        self.launch += kernel.launch_seconds + kernel.idle - waited


def bottlenecks(trace: Trace, prediction: Prediction) -> tuple[Bottleneck, ...]:
    """Return the operators, by module and phase, that would gain most at the roof."""
    sums: defaultdict[tuple[str, str, Phase], _Sum] = defaultdict(_Sum)
    for kernel in prediction.kernels:
        path = trace.calls[kernel.call].path if kernel.call >= 0 else ""
        name = kernel.name.rpartition(".")[0] if kernel.name.count(".") > 1 else kernel.name
        sums[name, path, kernel.phase].add(kernel)
    found = [
        Bottleneck(
            op=op,
            module=module,
            phase=phase,
            calls=len(total.ops),
            time_ms=total.time * _MILLISECONDS,
            roof_ms=total.roof * _MILLISECONDS,
            bound_by=max(("compute", "memory", "launch"), key=lambda what: getattr(total, what)),
        )
        for (op, module, phase), total in sums.items()
    ]
    found.sort(key=lambda item: (-item.gain_ms, item.module, item.op))
    return tuple(item for item in found[:_MOST] if item.gain_ms > 0)
