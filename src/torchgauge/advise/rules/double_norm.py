"""Two norms of one kind with nothing between them."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from torchgauge.advise.flow import call_before
from torchgauge.advise.rules.only_finds import OnlyFinds
from torchgauge.advise.subject import Subject
from torchgauge.facts.loop.advice import Fault

_NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class DoubleNorm(OnlyFinds):
    """Find norms that read what a norm of the same kind wrote."""

    name = "double-norm"
    about = "two norms of one kind in one module with nothing between them"

    def look(self, subject: Subject) -> Iterator[Fault | str]:
        """Yield each pair."""
        for path, norm in subject.modules.items():
            if not isinstance(norm, _NORMS):
                continue
            call = subject.only_call(path)
            found = None if call is None else call_before(subject, call)
            if found is None or type(found[1]) is not type(norm):
                continue
            first_path = found[0]
            if first_path.rpartition(".")[0] != path.rpartition(".")[0]:
                yield f"{path} follows {first_path}, which ends another module"
                continue
            yield self.fault(
                subject,
                (first_path, path),
                text=f"{path} normalises what {first_path} has just normalised",
                why="the second norm undoes the factors of the first",
                remedy=f"remove {first_path}",
            )
