"""A suggestion, made again on a model."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from torchgauge.advise.rules import rule_of
from torchgauge.changes.change import Change, rewritten
from torchgauge.checkpoints.apply import installed
from torchgauge.errors import UsageError
from torchgauge.facts.loop.advice import Suggestion


def apply(suggestion: Suggestion, model: nn.Module) -> nn.Module:
    """Return a changed copy of a model; see ``Suggestion.apply``."""
    change = change_of(suggestion)
    if places := change.scenario.get("checkpointed"):
        return installed(places, model)
    if not change.changes_model:
        raise UsageError(
            f"{suggestion.text!r} changes how the model runs, not the model",
            hint="; ".join(suggestion.snippet) or "analyse it again with that scenario",
        )
    return rewritten(change, model, rule_of(suggestion.rule), shares_tensors=False)


def changed_copy(suggestions: Iterable[Suggestion], model: nn.Module) -> nn.Module:
    """Return a copy of a model with several changes, one after another; it shares its tensors.

    Raises:
        UsageError: one of them cannot be made after those before it.
    """
    for suggestion in suggestions:
        model = rewritten(change_of(suggestion), model, rule_of(suggestion.rule))
    return model


def change_of(suggestion: Suggestion) -> Change:
    """Return the change that a suggestion was made of."""
    return Change(
        rule=suggestion.rule,
        text=suggestion.text,
        why=suggestion.why,
        where=suggestion.where,
        settings=suggestion.settings,
        scenario=suggestion.scenario,
        batch=suggestion.batch,
        accuracy=suggestion.accuracy,
        keeps_state=suggestion.keeps_state,
    )
