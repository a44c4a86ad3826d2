"""Arguments that a user gives by name: those of the forward, told apart from a scenario's."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import nn

from torchgauge.errors import ScenarioError, UsageError
from torchgauge.facts.scenario import OPTIMIZERS, Precision, Scenario
from torchgauge.trace.inspect.wrappers import unwrap

_FIELDS = frozenset(field.name for field in fields(Scenario))
_OURS = {"dtype": "dtypes", "input_dtype": "dtypes", "input_shape": "input_size",
         "data": "input_data", "inputs": "input_data", "batch": "batch_size"}  # fmt: skip
"""What users write for an argument of ``analyze``."""
_PLAIN = (str, bool, int, float, type(None))
_OTHER_WORDS = {"train": "training", "eval": "inference"} | {
    f"torch.{precision.parameter_dtype}": str(precision)
    for precision in (Precision.FP32, Precision.BF16, Precision.FP16)
}
"""What users write for a value of a scenario."""


def check_keywords(
    model: Any, forward_kwargs: Mapping[str, Any], *, scenario: Any = None, loss: Any = None
) -> tuple[str, ...]:
    """Refuse what belongs into a scenario; return a note on what goes to the forward all the same.

    A forward that names such an argument gets it. One that takes any (``**kwargs``) does not: the
    argument would be lost in it.

    Raises:
        UsageError: says how the scenario is written.
    """
    if scenario is not None and not isinstance(scenario, Scenario):
        given = scenario if isinstance(scenario, Mapping) else {"mode": scenario}
        raise UsageError(
            f"scenario={_text(scenario)} is not a Scenario",
            hint=_written({name: value for name, value in given.items() if name in _FIELDS}),
        )
    if loss is not None and not callable(loss):
        raise UsageError(
            f"loss={_text(loss)} is not a function",
            hint=f"{_written({'loss': loss})}, or a function from the output to a scalar",
        )
    if isinstance(model, type):  # refused elsewhere, with better words
        return ()
    named = _named_by_forward(model)
    for name in forward_kwargs.keys() & _OURS.keys() - named:
        value = forward_kwargs[name]
        is_dtype = _OURS[name] == "dtypes"
        said = str(value).removeprefix("torch.") if is_dtype else _text(value)
        written = f'["{said}"]' if is_dtype else said
        raise UsageError(
            f"{name}={said}: {type(model).__name__}.forward has no such argument",
            hint=f"write {_OURS[name]}={written}",
        )
    asked = {name: value for name, value in forward_kwargs.items() if name in _FIELDS}
    taken = {name for name in asked if name in named}
    meant = {name: value for name, value in asked.items() if name not in taken}
    if meant:
        listed = ", ".join(f"{name}={_text(value)}" for name, value in meant.items())
        raise UsageError(
            f"{listed}: what is run is said by a scenario; "
            f"{type(model).__name__}.forward has no such argument",
            hint=f"{_written(meant)}; an argument of the forward goes into input_data={{…}}",
        )
    return tuple(
        f"{name}={_text(asked[name])} went to the model's forward, which has an argument of that "
        f"name; the scenario's is scenario=tg.Scenario({name}=…)"
        for name in asked
    )


def _named_by_forward(model: Any) -> frozenset[str]:
    if isinstance(model, nn.Module):
        model = unwrap(model)
    schema = getattr(getattr(model, "forward", None), "schema", None)
    if schema is not None:  # a scripted one
        return frozenset(argument.name for argument in schema.arguments)
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (AttributeError, TypeError, ValueError):
        return frozenset()
    return frozenset(
        p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    )


def _written(given: Mapping[str, Any]) -> str:
    """Write the scenario that was meant; what has a meaning in training alone says so."""
    given = {name: _meant(value) for name, value in given.items()}
    try:
        Scenario(**given)
    except (ScenarioError, TypeError):
        given = {"mode": "training", **given}
    listed = ", ".join(f"{name}={_text(value)}" for name, value in given.items())
    return f"write scenario=tg.Scenario({listed})"


def _meant(value: Any) -> Any:
    """Return the word of a scenario for what a user wrote; an optimizer by its class."""
    word = value if isinstance(value, _PLAIN) else _OTHER_WORDS.get(str(value))
    kind = value.__name__ if isinstance(value, type) else type(value).__name__
    if word is None and kind.lower() in OPTIMIZERS:
        word = kind.lower()
    return _OTHER_WORDS.get(word, word) if isinstance(word, str) else word


def _text(value: Any) -> str:
    if isinstance(value, _PLAIN) and value is not None and len(repr(value)) <= 40:
        return repr(value).replace("'", '"')
    return "…"
