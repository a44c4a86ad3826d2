"""A change to a model or to how it runs: what, where, why, what it costs, and how it is made.

A change is plain data, so that it can be saved with the advice and made later, on the model or on
another copy of it: ``applied`` leads it to the rule that knows how.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from torch import nn

from torchgauge.advise.subject import Subject
from torchgauge.errors import UsageError
from torchgauge.facts.loop.advice import Accuracy, Fault
from torchgauge.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One idea that fits this model. It is nothing yet but an idea: the engine tries it."""

    rule: str
    text: str
    """What to do, in one line that begins with a verb."""
    why: str
    where: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the rule's ``rewrite`` needs to know, as plain data."""
    scenario: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the scenario that change; such a change touches no model."""
    batch: int | None = None
    """Another batch size."""
    accuracy: Accuracy = Accuracy.NONE
    cost: str = ""
    source: str = ""
    snippet: tuple[str, ...] = ()
    axis: str = ""
    """Two changes of the same axis exclude each other; ``""`` for none."""
    keeps_state: bool = True
    """Whether a ``state_dict`` of before still loads."""
    keeps_outputs: bool = True
    """Whether a step returns as many tensors as before, of the same shapes."""

    @property
    def changes_model(self) -> bool:
        """Return whether it touches the model, and not only how it runs."""
        return not self.scenario and self.batch is None


class Rule(Protocol):
    """One kind of advice; ``look`` finds, ``rewrite`` makes."""

    name: str
    about: str
    """What it looks for, in one line."""

    def look(self, subject: Subject) -> Iterable[Change | Fault | str]:
        """Yield what there is to do or to repair; a text says why there is nothing."""

    def rewrite(self, model: nn.Module, change: Change) -> nn.Module | None:
        """Change a copy of the model in place, or return another module to take its place.

        The copy may share its tensors with the model: make new ones, never write into them.

        Raises:
            UsageError: the model is not the one that the change was found in.
        """


def applied(change: Change, request: Request, rule: Rule) -> Request:
    """Return the request with a changed copy of its model, or with another scenario.

    The request that is given, and its model, stay as they are.

    Raises:
        TorchGaugeError: the change cannot be made.
    """
    if change.changes_model:
        return replace(request, model=rewritten(change, request.model, rule))
    if change.scenario:
        request = replace(request, scenario=replace(request.scenario, **change.scenario))
    return request if change.batch is None else with_batch(request, change.batch)


def rewritten(
    change: Change, model: nn.Module, rule: Rule, *, shares_tensors: bool = True
) -> nn.Module:
    """Return a changed copy of a model.

    With ``shares_tensors`` it holds the parameters and buffers of the model itself, so that a copy
    costs nothing; nothing may then write into them.

    Raises:
        UsageError: the model cannot be copied, or is not the one that the change was found in.
    """
    tensors = (*model.parameters(), *model.buffers()) if shares_tensors else ()
    try:
        made: nn.Module = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    except Exception as error:  # whatever the model's own __deepcopy__ raises
        raise UsageError(
            f"the model cannot be copied: {type(error).__name__}: {error}",
            hint="advise on the part that can be copied",
        ) from error
    try:
        return rule.rewrite(made, change) or made
    except Exception as error:  # a rule meets another model than the one that it looked at
        raise UsageError(
            f"{change.rule} cannot be applied to this {type(model).__name__}: {error}",
            hint="apply it to the model that the advice is about",
        ) from error


def with_batch(request: Request, batch: int) -> Request:
    """Return the request with another batch size.

    Raises:
        UsageError: the inputs are given as data, or do not say which dimension is the batch.
    """
    inputs = request.inputs
    if inputs.batch_size is not None:
        return replace(request, inputs=replace(inputs, batch_size=batch))
    size = inputs.size
    if inputs.data is None and isinstance(size, tuple) and size and isinstance(size[0], int):
        return replace(request, inputs=replace(inputs, size=(batch, *size[1:]), as_given=True))
    raise UsageError("the inputs do not say which dimension is the batch", hint="add batch_size=…")
