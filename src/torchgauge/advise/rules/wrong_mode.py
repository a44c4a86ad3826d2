"""Dropout and batch norm in the mode of the other phase.

A batch norm in eval mode while the model trains is left alone: that is how one is frozen.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from torchgauge.advise.rules.only_finds import OnlyFinds, named
from torchgauge.advise.subject import Subject
from torchgauge.facts.loop.advice import Fault
from torchgauge.units import format_number_of

_RANDOM = ("aten.native_dropout.", "aten.bernoulli", "aten._fused_dropout.")


class WrongMode(OnlyFinds):
    """Find modules that train at inference, or the other way round."""

    name = "wrong-mode"
    about = "dropout or batch norm in train mode at inference, dropout in eval mode in training"

    def look(self, subject: Subject) -> Iterator[Fault | str]:
        """Yield one fault for each kind."""
        if subject.report.scenario.is_training:
            yield from self._in_training(subject)
        else:
            yield from self._at_inference(subject)

    def _at_inference(self, subject: Subject) -> Iterator[Fault]:
        if not subject.model.training:  # otherwise the trace has put all of it in eval mode
            for kind, word, does in (
                (_DropoutNd, "dropout", "it drops other elements in each call"),
                (_BatchNorm, "batch norm", "outputs depend on what else is in the batch"),
            ):
                wrong = tuple(
                    path
                    for path, module in subject.modules.items()
                    if isinstance(module, kind) and module.training and path in subject.calls
                    and getattr(module, "p", 1.0) > 0
                    and getattr(module, "track_running_stats", True)
                )  # fmt: skip
                if wrong:
                    yield self.fault(
                        subject,
                        wrong,
                        text=f"{format_number_of(len(wrong), word)} in train mode at inference",
                        why=does,
                        remedy="call model.eval() before inference",
                    )
        paths = {
            subject.path_of(op)
            for op in subject.trace.ops
            if op.name.startswith(_RANDOM)
            and not isinstance(subject.modules.get(subject.path_of(op)), _DropoutNd)
        }
        for path in sorted(paths):
            yield self.fault(
                subject,
                (path,),
                text=f"{named(path)} drops elements at inference",
                why="a functional dropout does not know the mode of the module",
                remedy="pass training=self.training, or dropout_p=0.0 unless self.training",
            )

    def _in_training(self, subject: Subject) -> Iterator[Fault | str]:
        if not subject.model.training:
            yield "the model came in eval mode; a training step puts all of it in train mode"
            return
        wrong = tuple(
            path
            for path, module in subject.modules.items()
            if isinstance(module, _DropoutNd) and not module.training and module.p > 0
            and path in subject.calls and _is_trained(subject, path)
        )  # fmt: skip
        if wrong:
            yield self.fault(
                subject,
                wrong,
                text=f"{format_number_of(len(wrong), 'dropout')} in eval mode in training",
                why="it does nothing, while the layers around it are trained",
                remedy="call model.train() before training",
            )


def _is_trained(subject: Subject, path: str) -> bool:
    """Return whether the module that holds another is itself trained."""
    owner: nn.Module = subject.modules[path.rpartition(".")[0]]
    return owner.training and any(tensor.requires_grad for tensor in owner.parameters())
