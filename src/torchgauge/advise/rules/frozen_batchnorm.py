"""Frozen batch norms whose statistics go on moving."""

from __future__ import annotations

from collections.abc import Iterator

from torch.nn.modules.batchnorm import _BatchNorm

from torchgauge.advise.flow import is_forward
from torchgauge.advise.rules.only_finds import OnlyFinds
from torchgauge.advise.subject import Subject
from torchgauge.facts.loop.advice import Fault
from torchgauge.units import format_number_of

_TRAINING_ARGUMENT = 5
"""Position of ``training`` in ``native_batch_norm`` and ``cudnn_batch_norm``."""


class FrozenBatchNorm(OnlyFinds):
    """Find norms whose factors need no gradient, while they still learn statistics."""

    name = "frozen-batchnorm"
    about = "batch norms with frozen factors that still update their statistics"

    def look(self, subject: Subject) -> Iterator[Fault | str]:
        """Yield one fault for all norms."""
        if not subject.report.scenario.is_training:
            yield "at inference the statistics are fixed"
            return
        learning = {
            subject.path_of(op)
            for op in subject.trace.ops
            if "batch_norm" in op.name and is_forward(op) and _learns(op.args)
        }
        norms = tuple(
            path
            for path, module in subject.modules.items()
            if path in learning and isinstance(module, _BatchNorm) and _is_frozen(module)
        )
        if norms:
            yield self.fault(
                subject,
                norms,
                text=f"{format_number_of(len(norms), 'frozen batch norm')} in train mode",
                why="the factors are frozen; the running mean and variance still change",
                remedy="call .eval() on them after each model.train()",
            )


def _learns(args: tuple[object, ...]) -> bool:
    return len(args) > _TRAINING_ARGUMENT and args[_TRAINING_ARGUMENT] is True


def _is_frozen(norm: _BatchNorm) -> bool:
    tensors = norm.weight, norm.bias
    return norm.track_running_stats and all(
        tensor is not None and not tensor.requires_grad for tensor in tensors
    )
