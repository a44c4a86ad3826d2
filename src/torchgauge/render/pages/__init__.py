"""Answers → ``Page``: each answer describes itself here once, for every format.

``page_of`` finds the page by the type of the answer, so that no page loads another's answers.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from torchgauge.errors import UsageError
from torchgauge.render.page import Page

_PAGES: Final = {
    "torchgauge.devices.catalog:Devices": "torchgauge.render.pages.devices:catalog_page",
    "torchgauge.devices.device:Device": "torchgauge.render.pages.devices:device_page",
    "torchgauge.environment.findings:Diagnosis": "torchgauge.environment.page:doctor_page",
    "torchgauge.facts.explanation:Explanation": (
        "torchgauge.render.pages.explanation:explanation_page"
    ),
    "torchgauge.facts.fit:BatchCurve": "torchgauge.render.pages.curve:curve_page",
    "torchgauge.facts.fit:FitReport": "torchgauge.render.pages.fit:fit_page",
    "torchgauge.facts.loop.advice:Advice": "torchgauge.render.pages.loop.advice:advice_page",
    "torchgauge.facts.loop.check:CheckReport": "torchgauge.render.pages.loop.check:check_page",
    "torchgauge.facts.loop.checkpoints:CheckpointPlan": (
        "torchgauge.render.pages.loop.checkpoints:checkpoints_page"
    ),
    "torchgauge.facts.loop.comparison:Comparison": (
        "torchgauge.render.pages.loop.comparison:comparison_page"
    ),
    "torchgauge.facts.loop.history:History": "torchgauge.render.pages.loop.history:history_page",
    "torchgauge.facts.loop.oom:OomExplanation": "torchgauge.render.pages.loop.oom:oom_page",
    "torchgauge.facts.report:Report": "torchgauge.render.pages.report:report_page",
    "torchgauge.facts.time:TimeComparison": "torchgauge.render.pages.times:times_page",
    "torchgauge.measure.calibration.run:Calibrated": (
        "torchgauge.render.pages.times:calibration_page"
    ),
}
_INSTEAD: Final = {"torchgauge.facts.trace:Trace": "torchgauge.reports:estimate_trace"}
"""What is shown in place of an answer: of a trace its report."""
_WITH_TREE: Final = "torchgauge.facts.report:Report"


def page_of(answer: object, **tree: Any) -> Page:
    """Return the page of an answer.

    Args:
        answer: what a public function returned.
        **tree: ``depth``, ``columns`` and ``expand`` of a report's table of modules.

    Raises:
        UsageError: there is no page for it, or no table of modules on it.
    """
    answer = instead_of(answer)
    name = _place(answer, _PAGES)
    if name is None:
        raise UsageError(
            f"a {type(answer).__name__} cannot be shown",
            hint="pass what analyze, measure, fits, compare, advise or load returned",
        )
    if name == _WITH_TREE:
        page: Page = _at(_PAGES[name])(answer, **tree)
        return page
    if any(value is not None and value is not False for value in tree.values()):
        raise UsageError("depth, columns and expand are of a report's table", hint="leave them out")
    page = _at(_PAGES[name])(answer)
    return page


def instead_of(answer: object) -> object:
    """Return what is shown of an answer: the report of a trace, else the answer itself."""
    name = _place(answer, _INSTEAD)
    return answer if name is None else _at(_INSTEAD[name])(answer, None)


def _place(answer: object, table: dict[str, str]) -> str | None:
    """Return the first class of an answer, its own or a base, that a table has."""
    names = (f"{kind.__module__}:{kind.__qualname__}" for kind in type(answer).__mro__)
    return next((name for name in names if name in table), None)


def _at(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
