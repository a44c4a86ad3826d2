"""Which operators are worth speeding up: what each takes, and what it would take at the roof.

The roof is the datasheet's: peak rate of the arithmetic, peak bandwidth, no waiting (S. Williams
et al., "Roofline: An Insightful Visual Performance Model", CACM 2009). Nothing reaches it; as a
bound it says what tuning an operator can gain at most.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from torchgauge.estimate.compute.registry import short_name
from torchgauge.estimate.time.prediction import KernelRun, Prediction
from torchgauge.facts.time import Bottleneck
from torchgauge.facts.trace import Phase, Trace

_MOST = 10
_MILLISECONDS = 1e3


def bottlenecks(trace: Trace, prediction: Prediction) -> tuple[Bottleneck, ...]:
    """Return the operators, by module and phase, that would gain most at the roof."""
    groups: defaultdict[tuple[str, str, Phase], list[KernelRun]] = defaultdict(list)
    for kernel in prediction.kernels:
        path = trace.calls[kernel.call].path if kernel.call >= 0 else ""
        groups[short_name(kernel.name), path, kernel.phase].append(kernel)
    found = [
        Bottleneck(
            op=op,
            module=module,
            phase=phase,
            calls=len({kernel.op for kernel in kernels}),
            time_ms=sum(spent.values()) * _MILLISECONDS,
            roof_ms=sum(kernel.roof_seconds for kernel in kernels) * _MILLISECONDS,
            bound_by=max(spent, key=spent.__getitem__),
        )
        for (op, module, phase), kernels in groups.items()
        if (spent := _spent(kernels))
    ]
    found.sort(key=lambda item: (-item.gain_ms, item.module, item.op))
    return tuple(item for item in found[:_MOST] if item.gain_ms > 0)


def _spent(kernels: Iterable[KernelRun]) -> dict[str, float]:
    """Return the seconds by what they go to; launches without the Python of other modules."""
    spent = {"compute": 0.0, "memory": 0.0, "launch": 0.0}
    for kernel in kernels:
        spent[kernel.bound_by] += kernel.seconds - kernel.launch_seconds
        waited = sum(seconds for _, seconds in kernel.waits)
        spent["launch"] += kernel.launch_seconds + kernel.idle - waited
    return spent
