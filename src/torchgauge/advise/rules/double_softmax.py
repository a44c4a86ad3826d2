"""A loss that takes logits and gets probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from torchgauge.advise.flow import is_forward, source_of
from torchgauge.advise.rules.only_finds import OnlyFinds, named
from torchgauge.advise.subject import Subject
from torchgauge.facts.loop.advice import Fault

_WRONG: Final = {
    "aten._log_softmax": (("aten._softmax", "aten.sigmoid"), "cross_entropy takes logits"),
    "aten.nll_loss_forward": (("aten._softmax",), "nll_loss takes logarithms of probabilities"),
    "aten.nll_loss2d_forward": (("aten._softmax",), "nll_loss takes logarithms of probabilities"),
    "aten.binary_cross_entropy_with_logits": (
        ("aten._softmax", "aten.sigmoid"),
        "binary_cross_entropy_with_logits takes logits",
    ),
}
"""What may not come right before an operator, and why."""


class DoubleSoftmax(OnlyFinds):
    """Find ``softmax`` and ``sigmoid`` right before a loss that does the same again."""

    name = "double-softmax"
    about = "softmax or sigmoid before a loss that takes logits"

    def look(self, subject: Subject) -> Iterator[Fault | str]:
        """Yield each loss with its activation."""
        if not any(_base(op.name) in _WRONG for op in subject.trace.ops):
            yield "the step has no loss that takes logits; --loss names one"
            return
        for op in subject.trace.ops:
            wrong, why = _WRONG.get(_base(op.name), ((), ""))
            if not wrong or not op.reads or not is_forward(op):
                continue
            source = source_of(subject, op, op.reads[0])
            if source is None or _base(source.op.name).removesuffix("_") not in wrong:
                continue
            path = subject.path_of(source.op)
            activation = _base(source.op.name).removeprefix("aten.").strip("_")
            yield self.fault(
                subject,
                (path,),
                text=f"{activation} of {named(path)} goes into a loss that takes logits",
                why=f"{why}: applied twice, gradients are small and probabilities near equal",
                remedy=f"return what goes into the {activation}, and keep it for inference",
            )


def _base(name: str) -> str:
    return name.rpartition(".")[0]
