"""The one change that a summary names: chosen by what it promises, then measured.

A summary has no time for all rules, nor for a second trace of its own length. A change of one layer
is measured on that layer alone, whose share of the parameters and MACs takes the place of the old
one's. A change of how the step runs needs the whole step: it is looked for where the start of a
process takes longer than that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from torch import nn

from torchgauge.advise.figures import best_gain, figures_of, side_by_side, suggested
from torchgauge.advise.rules import rule_of
from torchgauge.advise.subject import Subject, input_of, output_of
from torchgauge.analyze import analyze_model
from torchgauge.changes.change import Change, applied
from torchgauge.facts.fit import Verdict
from torchgauge.facts.loop.advice import Accuracy, Suggestion
from torchgauge.facts.report import Report
from torchgauge.facts.trace import Execution
from torchgauge.request import Inputs, Request
from torchgauge.trace.isolate.isolation import random_state_kept

_OF_A_LAYER: Final = "global-pooling"
_OF_THE_STEP: Final = "scenario"
_MOST_OPERATORS: Final = 1_500
"""Of a step that is traced twice: half a second. A count, so that each machine shows the same."""
_LEAST_GAIN: Final = {Accuracy.NONE: 0.1, Accuracy.SMALL: 0.1, Accuracy.RETRAIN: 0.3}
"""Share of a figure that a change must save to be worth a line of every summary."""


def best_suggestion(
    request: Request, report: Report, *, may_trace: bool = True
) -> Suggestion | None:
    """Return the best change that can be measured at once; ``None`` for no such change.

    Args:
        request: what was analysed, with its model.
        report: what came of it.
        may_trace: whether there is time to trace the step once more.
    """
    trace = report.trace
    is_simulated = report.execution is Execution.SIMULATED
    if trace is None or not trace.calls or report.failure is not None or not is_simulated:
        return None
    if not isinstance(request.model, nn.Module):
        return None
    subject = Subject(request=request, report=report)
    try:
        with random_state_kept():  # a new layer draws its weights
            found = _of_a_layer(subject, with_code=may_trace)
            if found is None and may_trace and len(trace.ops) <= _MOST_OPERATORS:
                found = _of_the_step(subject)
            return found
    except Exception:  # a model that cannot be looked at: the summary is what was asked for
        return None


def _changes(rule: str, subject: Subject) -> Iterator[Change]:
    for item in rule_of(rule).look(subject):
        if isinstance(item, Change):
            yield item


def _worth_showing(
    change: Change,
    subject: Subject,
    before: Mapping[str, float],
    after: Mapping[str, float],
    *,
    with_code: bool = True,
) -> Suggestion | None:
    if best_gain(before, after) < _LEAST_GAIN[change.accuracy]:
        return None
    return suggested(change, subject, side_by_side(before, after), with_code=with_code)


# ---------------------------------------------------------------------------- one layer


def _of_a_layer(subject: Subject, *, with_code: bool) -> Suggestion | None:
    """Return the largest change of a single layer."""
    modules = subject.report.modules
    for change in sorted(
        _changes(_OF_A_LAYER, subject), key=lambda item: -modules[item.where[0]].params
    ):
        figures = _with_layer(subject, change)
        if figures is not None:
            before = {name: figures_of(subject.report)[name] for name in figures}
            return _worth_showing(change, subject, before, figures, with_code=with_code)
    return None


def _with_layer(subject: Subject, change: Change) -> dict[str, float] | None:
    """Return the totals with a changed layer; ``None`` where they do not follow from it alone."""
    (path,) = change.where
    old, call = subject.report.modules[path], subject.only_call(path)
    given, returned = (input_of(call), output_of(call)) if call else (None, None)
    if given is None or returned is None or _is_shared(subject.report, path):
        return None
    request = Request(
        model=_changed_layer(subject, change),
        inputs=Inputs(size=given.shape, dtypes=[given.dtype], as_given=True),
        real_run=False,
    )
    new = analyze_model(request)
    outputs = [value.tensor.shape for value in new.outputs if value.tensor is not None]
    if outputs != [returned.shape]:
        return None
    totals = subject.report.totals
    return {
        "totals.params": totals.params - old.params + new.totals.params,
        "totals.param_bytes": totals.param_bytes - old.param_bytes + new.totals.param_bytes,
        "totals.forward_macs": totals.forward_macs - old.macs + new.totals.forward_macs,
    }


def _is_shared(report: Report, path: str) -> bool:
    """Return whether a layer, or a parameter of it, is also found elsewhere."""
    own = report.modules[path]
    if own.shared_with is not None or own.params != own.own_params:
        return True
    return any(
        module.shared_with == path
        or any((item.shared_with or "").startswith(f"{path}.") for item in module.own_parameters)
        for module in report.modules.values()
    )


def _changed_layer(subject: Subject, change: Change) -> nn.Module:
    """Return what a change puts in the place of a layer; the model is neither copied nor changed.

    The rule gets a model that holds the layer at its path and nothing else.
    """
    (path,) = change.where
    root = parent = nn.Module()
    *above, name = path.split(".")
    for part in above:
        below = nn.Module()
        parent.add_module(part, below)
        parent = below
    parent.add_module(name, subject.modules[path])
    rule_of(change.rule).rewrite(root, change)
    return root.get_submodule(path)


# ---------------------------------------------------------------------------- the whole step


def _of_the_step(subject: Subject) -> Suggestion | None:
    """Return the change of how the step runs that promises most, traced."""
    promised = [
        (_promise(change, subject.report), change) for change in _changes(_OF_THE_STEP, subject)
    ]
    most, change = max(promised, key=lambda item: item[0], default=(0.0, None))
    if change is None or most <= 0.0:
        return None
    request = applied(change, replace(subject.request, real_run=False), rule_of(change.rule))
    after = figures_of(analyze_model(request))
    return _worth_showing(change, subject, figures_of(subject.report), after)


def _promise(change: Change, report: Report) -> float:
    """Return what a change may save; 0.0 for what is not worth a line of every summary.

    A step that does not fit needs memory first.
    """
    if "precision" in change.scenario:
        return 0.6
    memory = report.memory
    if "checkpointing" in change.scenario and memory is not None:
        return 0.0 if memory.verdict in (None, Verdict.FITS) else 0.8
    return 0.0
