"""Two linear layers with nothing between them: together they are one linear layer.

A narrow layer in the middle is left alone: it is a factorisation, which is made on purpose.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from torchgauge.advise.flow import call_before
from torchgauge.advise.rules.only_finds import OnlyFinds
from torchgauge.advise.subject import Subject
from torchgauge.facts.loop.advice import Fault


def _activates(subject: Subject, path: str) -> bool:
    """Return whether the operator of a layer applies an activation too, as on torch's fast path."""
    call = subject.only_call(path)
    ops = () if call is None else subject.trace.ops[call.first_op : call.end_op]
    return any(op.name.startswith("aten._addmm_activation.") for op in ops)


class MissingActivation(OnlyFinds):
    """Find linear layers that read what another one wrote."""

    name = "missing-activation"
    about = "two linear layers of one module with no activation between them"

    def look(self, subject: Subject) -> Iterator[Fault | str]:
        """Yield each pair."""
        for path, layer in subject.of_type(nn.Linear):
            call = subject.only_call(path)
            found = None if call is None else call_before(subject, call)
            if found is None:
                continue
            first_path, first = found
            if not isinstance(first, nn.Linear) or _activates(subject, first_path):
                continue
            if first_path.rpartition(".")[0] != path.rpartition(".")[0]:
                yield f"{path} follows {first_path}, which belongs to another module"
                continue
            if first.out_features < min(first.in_features, layer.out_features):
                yield f"{path} follows {first_path}, which is narrow: a factorisation"
                continue
            yield self.fault(
                subject,
                (first_path, path),
                text=f"nothing stands between {first_path} and {path}",
                why="two linear layers in a row compute what one can",
                remedy="put an activation between them, or make them one layer",
            )
