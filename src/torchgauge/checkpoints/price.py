"""What running an operator again costs: FLOPs, or predicted time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TypeAlias

from torchgauge.errors import UsageError
from torchgauge.estimate.compute.flops import op_cost
from torchgauge.facts.loop.checkpoints import Least
from torchgauge.facts.report import Report
from torchgauge.facts.trace import OpRecord
from torchgauge.reports import prediction_of
from torchgauge.target import calibrated, target_of

Price: TypeAlias = Callable[[OpRecord], tuple[float, int]]
"""Returns what an operator costs, in what is to be least and in FLOPs."""


def price_of(report: Report, asked: Least | None) -> tuple[Price, Least]:
    """Return what running an operator again costs, and in what that is counted.

    An element-wise operation counts as one FLOP: of plans with equal products the one with less
    other work is cheaper.

    Raises:
        UsageError: time is asked for and cannot be predicted.
    """
    seconds: defaultdict[int, float] = defaultdict(float)
    if asked is not Least.FLOPS and report.trace is not None:
        target = calibrated(target_of(report.scenario), report.trace)
        prediction = prediction_of(report.trace, target)
        for kernel in prediction.kernels if prediction is not None else ():
            seconds[kernel.op] += kernel.seconds + kernel.idle
        if asked is Least.TIME and not seconds:
            raise UsageError(
                f"no time can be predicted for {report.scenario.device}",
                hint="name a GPU (--device T4), or plan for the least FLOPs",
            )

    def price(op: OpRecord) -> tuple[float, int]:
        cost = op_cost(op)
        flops = 0 if cost is None else cost.flops
        if seconds:
            return seconds[op.index], flops
        return flops + (0 if cost is None else cost.elementwise), flops

    return price, Least.TIME if seconds else Least.FLOPS
