"""A change to a model or to how it runs: what, where, why, what it costs, and how it is made.

A change is plain data, so that it can be saved with an answer and made later, on the model or on
another copy of it. What it does to a model is done by the rule that it names.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from torchgauge.changes.inputs import Ran, with_batch
from torchgauge.changes.shadow import computed
from torchgauge.errors import UsageError
from torchgauge.facts.loop.advice import Accuracy
from torchgauge.request import Request, changed

if TYPE_CHECKING:
    from torch import nn

_NEEDS_VALUES = "needs_values"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One idea that fits this model. It is nothing yet but an idea: whoever asks traces it."""

    rule: str
    text: str
    """What to do, in one line that begins with a verb."""
    why: str
    label: str = ""
    """What is different afterwards, as a noun: ``"precision bf16-autocast"``."""
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
    follows: bool = False
    """Whether it depends on the goal and on all other changes: it is made anew on top of them."""

    @property
    def changes_model(self) -> bool:
        """Return whether it touches the model, and not only how it runs."""
        return not self.scenario and self.batch is None

    @property
    def name(self) -> str:
        """Return what is different afterwards in a few words; without them, the rule's name."""
        return self.label or self.rule


def in_shape(change: Change) -> Change:
    """Return a change whose new layers have the right shapes and need no values of the model's.

    That is enough to trace it. A rule that computes weights, which may take a minute, looks at
    ``needs_values``.
    """
    return replace(change, settings={**change.settings, _NEEDS_VALUES: False})


def needs_values(change: Change) -> bool:
    """Return whether the weights that a rule computes will be used."""
    return bool(change.settings.get(_NEEDS_VALUES, True))


class Rewriter(Protocol):
    """What makes a change in a model."""

    def rewrite(self, model: nn.Module, change: Change) -> nn.Module | None:
        """Change a copy of the model in place, or return another module to take its place.

        The copy may share its tensors with the model: make new ones, never write into them.

        Raises:
            UsageError: the model is not the one that the change was found in.
        """


def applied(
    change: Change, request: Request, rewriter: Rewriter | None = None, ran: Ran | None = None
) -> Request:
    """Return the request with a changed copy of its model, or with another scenario or batch.

    The request that is given, and its model, stay as they are.

    Args:
        change: what to do.
        request: the step that it is done to.
        rewriter: the rule of a change that touches the model.
        ran: what a run of the request said of its inputs; a change of the batch may need it.

    Raises:
        TorchGaugeError: the change cannot be made.
    """
    if change.changes_model:
        assert rewriter is not None, f"{change.rule} changes the model"
        return replace(request, model=rewritten(change, request.model, rewriter))
    if change.batch is not None:
        request = replace(request, inputs=with_batch(request.inputs, change.batch, ran))
    return replace(request, scenario=changed(request.scenario, change.scenario))


def rewritten(
    change: Change, model: nn.Module, rewriter: Rewriter, *, shares_tensors: bool = True
) -> nn.Module:
    """Return a changed copy of a model.

    With ``shares_tensors`` it holds the parameters and buffers of the model itself, so that a copy
    costs nothing; nothing may then write into them.

    Raises:
        UsageError: the model cannot be copied, or is not the one that the change was found in.
    """
    tensors = (*model.parameters(), *model.buffers()) if shares_tensors else ()
    shared = {id(tensor): tensor for tensor in tensors} | computed(model)
    try:
        made: nn.Module = copy.deepcopy(model, shared)
    except Exception as error:  # whatever the model's own __deepcopy__ raises
        raise UsageError(
            f"the model cannot be copied: {type(error).__name__}: {error}",
            hint="advise on the part that can be copied",
        ) from error
    try:
        return rewriter.rewrite(made, change) or made
    except Exception as error:  # a rule meets another model than the one that it looked at
        raise UsageError(
            f"{change.rule} cannot be applied to this {type(model).__name__}: {error}",
            hint="apply it to the model that the advice is about",
        ) from error
