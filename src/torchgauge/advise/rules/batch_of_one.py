"""Batch norms that take their statistics from one sample."""

from __future__ import annotations

from collections.abc import Iterator

from torch.nn.modules.batchnorm import _BatchNorm

from torchgauge.advise.rules.only_finds import OnlyFinds
from torchgauge.advise.subject import Subject
from torchgauge.facts.loop.advice import Fault
from torchgauge.units import format_number_of


class BatchOfOne(OnlyFinds):
    """Find batch norms in a training step of one sample, where that is what was asked for."""

    name = "batch-of-one"
    about = "batch norms trained with a batch of one sample"

    def look(self, subject: Subject) -> Iterator[Fault | str]:
        """Yield one fault for all norms."""
        if not subject.report.scenario.is_training:
            yield "at inference the statistics are fixed"
            return
        if subject.report.batch_size != 1:
            yield "the batch has more than one sample"
            return
        if not _is_asked_for(subject):
            yield "batch 1 is only the example's: no batch size was given"
            return
        norms = tuple(
            path
            for path, module in subject.modules.items()
            if isinstance(module, _BatchNorm) and module.training and path in subject.calls
        )
        if norms:
            yield self.fault(
                subject,
                norms,
                text=f"{format_number_of(len(norms), 'batch norm')} trained with a batch of one",
                why="mean and variance come from a single sample; at inference they come from all",
                remedy="use a larger batch, SyncBatchNorm over several GPUs, or GroupNorm",
            )


def _is_asked_for(subject: Subject) -> bool:
    inputs = subject.request.inputs
    if inputs.batch_size is not None or inputs.data is not None or inputs.as_given:
        return True
    first = next((value.tensor for value in subject.trace.inputs if value.tensor), None)
    size = inputs.size
    return first is not None and isinstance(size, tuple) and size == first.shape
