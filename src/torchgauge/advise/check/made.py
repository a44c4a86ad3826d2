"""Advice with what each change does on the user's own data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from torchgauge.advise.check.run import CHECK, Check, CheckTask, Measured, never_trained
from torchgauge.apart import run_apart
from torchgauge.errors import TorchGaugeError, UsageError
from torchgauge.facts.loop.advice import Accuracy, Advice, Checked, DataCheck, Suggestion
from torchgauge.models.requests import build_for
from torchgauge.models.sources.python_source import load
from torchgauge.request import Request

LIMIT_S: Final = 60.0
"""How long the data are run by default, in seconds."""
_BUILD_S: Final = 300.0
"""What a process gets besides, to import torch and build the model."""
_RETRAIN: Final = "before retraining"


def with_check(
    advice: Advice,
    request: Request,
    data: Any,
    *,
    metric: Callable[[Any, Any], Any] | str | None = None,
    limit_s: float = LIMIT_S,
) -> Advice:
    """Return the advice with a measure of each change and each step, before and after.

    A model and data that are named run in a process of their own; objects run in this one.

    Args:
        advice: of the model of the request.
        request: what was asked, with its model.
        data: ``"data.py:loader"``, an iterable of ``(inputs, targets)`` or dicts, or a function
            that returns one.
        metric: a function of outputs and targets, or ``"file.py:function"``; see ``chosen_metric``.
        limit_s: after which no further batch is run, in seconds.

    Raises:
        UsageError: the data or the metric cannot be used, or take too long.
    """
    if limit_s <= 0:
        raise UsageError(
            "the time for the check is not positive", hint="give a number of seconds above 0"
        )
    paths = _paths(advice)
    wanted = [(item,) for item in advice.suggestions] + paths
    by_key = {_key(changes): changes for changes in wanted if _can_differ(changes)}
    changes = tuple(by_key.values())
    request.tell("running the model and its changed copies on your data")
    is_named = isinstance(data, str) and (metric is None or isinstance(metric, str))
    if is_named and request.spec is not None:
        found = _apart(request, changes, data, metric, limit_s)
    else:
        found = _here(request, changes, data, metric, limit_s)
    checks = {key: _checked(by_key[key], found, index) for index, key in enumerate(by_key)}
    return replace(
        advice,
        suggestions=tuple(
            replace(item, check=checks.get(_key((item,)))) for item in advice.suggestions
        ),
        path=tuple(
            replace(step, check=checks.get(_key(path)))
            for step, path in zip(advice.path, paths, strict=True)
        ),
        data_check=DataCheck(
            data=data if isinstance(data, str) else type(data).__name__,
            metric=found.metric,
            before=found.before,
            samples=found.samples,
            is_complete=found.is_complete,
            seconds=found.seconds,
            weights=found.weights,
        ),
    )


def _paths(advice: Advice) -> list[tuple[Suggestion, ...]]:
    """Return for each step of the path all changes up to it."""
    steps = advice.path_changes
    if not steps:
        return [()] * len(advice.path)
    return [steps[: count + 1] for count in range(len(steps))]


def _key(changes: tuple[Suggestion, ...]) -> tuple[str, ...]:
    return tuple(item.text for item in changes)


def _can_differ(changes: tuple[Suggestion, ...]) -> bool:
    """Return whether there is anything to measure: not where only the way of running changes."""
    return any(item.changes_model or "precision" in item.scenario for item in changes)


def _apart(
    request: Request, changes: tuple[tuple[Suggestion, ...], ...], data: str, metric: Any,
    limit_s: float,
) -> Measured:  # fmt: skip
    bare = replace(request, model=None, on_progress=None, loss=None)
    task = CheckTask(request=bare, changes=changes, data=data, metric=metric, limit_s=limit_s)
    (found,) = run_apart(CHECK, [task], limit_s=2 * limit_s + _BUILD_S)
    if isinstance(found, TorchGaugeError):
        raise found
    assert isinstance(found, Measured)
    return found


def _here(
    request: Request, changes: tuple[tuple[Suggestion, ...], ...], data: Any, metric: Any,
    limit_s: float,
) -> Measured:  # fmt: skip
    model = request.model
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        if request.spec is None:
            raise UsageError(
                "the model has no weights, so nothing can be measured",
                hint="give a model that is not on the meta device",
            )
        model = build_for(request, with_weights=True).model
    check = Check(
        loader=load(data) if isinstance(data, str) else data,
        name=data if isinstance(data, str) else type(data).__name__,
        metric=load(metric) if isinstance(metric, str) else metric,
        limit_s=limit_s,
        weights=never_trained(model),
    )
    return check.run(model, changes)


def _checked(changes: tuple[Suggestion, ...], found: Measured, index: int) -> Checked:
    retrains = any(item.accuracy is Accuracy.RETRAIN for item in changes)
    note = found.why[index] or (_RETRAIN if retrains else "")
    return Checked(before=found.before, after=found.after[index], note=note)
