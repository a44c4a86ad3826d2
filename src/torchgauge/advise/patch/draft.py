"""A change written into the source, not yet checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from torchgauge.advise.patch.attention import fuse_attention
from torchgauge.advise.patch.constructors import changed_by, edits_of, replace
from torchgauge.advise.patch.fold import fold
from torchgauge.advise.patch.pooling import pool
from torchgauge.advise.patch.removal import drop_dead, drop_uncalled
from torchgauge.advise.patch.repairs import add_activation, leave_out_softmax, register
from torchgauge.advise.patch.source.files import Files
from torchgauge.advise.patch.source.refusal import NoPatch
from torchgauge.advise.patch.source.sites import Sites
from torchgauge.advise.patch.tie import tie, tie_again
from torchgauge.advise.patch.verify import Finish
from torchgauge.advise.subject import Subject
from torchgauge.changes.change import Change
from torchgauge.facts.loop.advice import Fault, Suggestion

Writer = Callable[[Subject, Sites, tuple[str, ...], Mapping[str, Any]], Finish | None]

_WRITERS: Final[dict[str, Writer]] = {
    "attention": fuse_attention,
    "dead-output": drop_dead,
    "fold-batchnorm": fold,
    "global-pooling": pool,
    "never-called": drop_uncalled,
    "untied-copy": tie,
}
_REPAIRS: Final[dict[str, Callable[[Subject, Sites, tuple[str, ...]], None]]] = {
    "double-softmax": leave_out_softmax,
    "hidden-modules": register,
    "missing-activation": add_activation,
    "untied-copy": tie_again,
}


class Draft:
    """The files of one patch; several changes can be written into them, one after the other."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.files = Files()
        self.finish: Finish | None = None
        """What has to be called once the weights are there."""
        self._sites = Sites(subject.model, self.files, subject.request.spec)

    def write(self, change: Change | Suggestion | Fault) -> None:
        """Write a change.

        Raises:
            NoPatch: it cannot be written honestly.
        """
        if isinstance(change, Fault):
            repair = _REPAIRS.get(change.rule)
            if repair is None:
                raise NoPatch("you have to choose what goes there")
            repair(self._subject, self._sites, change.where)
        elif (writer := _WRITERS.get(change.rule)) is not None:
            finish = writer(self._subject, self._sites, change.where, change.settings)
            self.finish = finish or self.finish
        elif (made := edits_of(change.rule)) is not None:
            where = changed_by(change.rule, change.where)
            replace(self._sites, where, change.settings, made)
        else:
            raise NoPatch("no patch is written for this rule")
        self.files.settle()
        self._sites.forget()
