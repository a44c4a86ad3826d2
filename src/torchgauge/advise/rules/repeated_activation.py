"""An activation of what has just been through it: the second changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from torch import nn

from torchgauge.advise.flow import entry, source_of
from torchgauge.advise.subject import Subject, in_code, put
from torchgauge.changes.change import Change
from torchgauge.units import format_number_of

_NOTHING_TO_DO: Final[dict[type[nn.Module], tuple[type[nn.Module], ...]]] = {
    nn.ReLU: (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Softmax, nn.Hardsigmoid),
    nn.ReLU6: (nn.ReLU6, nn.Sigmoid, nn.Softmax, nn.Hardsigmoid),
}
"""After which modules an activation returns what it gets."""


class RepeatedActivation:
    """Find activations whose input they cannot change."""

    name = "repeated-activation"
    about = "activations of what an activation has just returned, such as ReLU after ReLU"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield one change for all of them."""
        found = tuple(
            path
            for path, module in subject.of_type(*_NOTHING_TO_DO)
            if _does_nothing(subject, path, module)
        )
        if not found:
            yield "every activation can change its input"
            return
        count = format_number_of(len(found), "activation")
        yield Change(
            rule=self.name,
            text=f"leave out {count} that changes nothing"
            if len(found) == 1
            else f"leave out {count} that change nothing",
            why="its input already lies in the range that it returns",
            where=found,
            snippet=tuple(f"{in_code(path)} = nn.Identity()" for path in found[:3]),
        )

    def rewrite(self, model: nn.Module, change: Change) -> None:
        """Put the identity into their places."""
        for path in change.where:
            if type(model.get_submodule(path)) not in _NOTHING_TO_DO:
                raise ValueError(f"{path} is not an activation")
            put(model, path, nn.Identity())


def _does_nothing(subject: Subject, path: str, module: nn.Module) -> bool:
    call = subject.only_call(path)
    found = None if call is None else entry(subject, call)
    source = None if found is None else source_of(subject, *found, through_dropout=False)
    if source is None:
        return False
    before = subject.modules.get(subject.path_of(source.op))
    return type(before) in _NOTHING_TO_DO.get(type(module), ())
