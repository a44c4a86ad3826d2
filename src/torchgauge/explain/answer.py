"""A figure, with or without a report → its explanation."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from math import fsum

from torchgauge.errors import ScenarioError, UsageError
from torchgauge.estimate.compute.registry import find_flop_formula, short_name
from torchgauge.explain.figures import FigureKind, figure_named
from torchgauge.explain.parts import PARTS, Step, merged
from torchgauge.facts.explanation import Contribution, Explanation, Rule
from torchgauge.facts.report import Report
from torchgauge.models.suggest import did_you_mean
from torchgauge.target import calibrated, target_of
from torchgauge.version import __version__

_OF_OPERATORS = ("macs", "flops")
_NEEDED = {
    "device_bytes": ("memory is on a GPU alone", "name one: --device T4"),
    "time": (
        "no time can be predicted for {device}",
        "name a GPU: --device T4; for this CPU, torchgauge measure --calibrate",
    ),
    "saved_activations": ("an inference saves nothing for a backward", "add --mode training"),
}
"""By figure: why a report may not hold it, and what brings it."""


def explain_figure(name: str) -> Explanation:
    """Return what a figure is, for any model.

    Raises:
        UsageError: there is no such figure.
    """
    return _without_model(figure_named(name))


def explain_report(report: Report, name: str, *, module: str | None = None) -> Explanation:
    """Return how a figure of a report came about; the parts sum to the figure.

    Args:
        report: with its trace, as ``analyze`` returns it.
        name: a name in ``FIGURES``.
        module: path of a module: what of the figure is its own and below it.

    Raises:
        UsageError: there is no such figure or module, or the report has no trace.
        ScenarioError: the figure is not one of this scenario.
    """
    figure = figure_named(name)
    trace = report.trace
    if trace is None:
        raise UsageError(
            "this report has no trace: it was loaded, measured or unpickled",
            hint="explain the model itself, or a trace that report.trace.save(…) wrote",
        )
    whole = _value(report, figure)
    if module is not None and module not in report.modules:
        hint = did_you_mean(module, report.modules, otherwise="the table of summary has the paths")
        raise UsageError(f"there is no module {module!r}", hint=hint)
    target = calibrated(target_of(report.scenario, report.torch_version), trace)
    found = merged(PARTS[figure.name](Step(report=report, trace=trace, target=target)))
    value: float = whole
    if module:
        found = tuple(part for part in found if _is_below(part.module, module))
        value = fsum(part.value for part in found)
    return Explanation(
        tool_version=__version__,
        figure=figure.name,
        place=figure.place,
        unit=figure.unit,
        definition=figure.definition,
        model=report.model,
        scenario=report.scenario,
        module=module or None,
        value=value,
        contributions=found,
        rules=(*figure.rules, *_formulas(figure, report, found)),
        assumptions=tuple(report.assumptions),
        not_counted=tuple(_gaps(figure, report)),
    )


def _without_model(figure: FigureKind) -> Explanation:
    return Explanation(
        tool_version=__version__,
        figure=figure.name,
        place=figure.place,
        unit=figure.unit,
        definition=figure.definition,
        rules=figure.rules,
    )


def _value(report: Report, figure: FigureKind) -> float:
    part, _, name = figure.place.partition(".")
    holder = getattr(report, part)
    if holder is None and part == "memory":
        raise UsageError(f"{figure.name} needs a run, and there was no input",
                         hint="add --input-size 3,224,224")  # fmt: skip
    value: float | None = getattr(holder, name, None)
    is_missing = value is None or (figure.name == "saved_activations" and not value)
    if is_missing and figure.name in _NEEDED:
        why, hint = _NEEDED[figure.name]
        raise ScenarioError(
            f"{figure.name}: {why.format(device=report.scenario.device)}", hint=hint
        )
    assert value is not None
    return value


def _is_below(path: str, module: str) -> bool:
    return path == module or path.startswith(f"{module}.")


def _gaps(figure: FigureKind, report: Report) -> Iterator[str]:
    if figure.name in _OF_OPERATORS:
        for gap in report.not_counted:
            yield f"{gap.op} ({gap.calls} ×): {gap.why}"


def _formulas(
    figure: FigureKind, report: Report, parts: tuple[Contribution, ...]
) -> Iterator[Rule]:
    """Yield the formula of each operator that contributes, with where it comes from."""
    if figure.name not in _OF_OPERATORS:
        return
    assert report.trace is not None
    wanted = dict.fromkeys(part.name for part in parts)
    overloads = {short_name(op.name): op.name for op in reversed(report.trace.ops)}
    for name in wanted:
        formula = find_flop_formula(overloads[name])
        if formula is None:  # a product with a sparse tensor
            yield Rule(name=name, formula="stored elements × columns, 2 FLOPs each", source="")
            continue
        text = " ".join((inspect.getdoc(formula) or "registered by the user").split())
        yield Rule(name=name, formula=text.replace("``", ""), source=formula.__module__)
