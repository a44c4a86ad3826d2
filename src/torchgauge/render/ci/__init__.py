"""A check of budgets as CI services read it: annotations, code quality, JUnit, SARIF.

These are programs' formats of one answer, so they take the answer and not its page. What a person
reads in them is in the language that is spoken; what programs go by, such as names, stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from torchgauge.facts.loop.check import CheckReport

_WRITERS: Mapping[str, str] = {
    "github": "torchgauge.render.ci.github",
    "gitlab": "torchgauge.render.ci.gitlab",
    "junit": "torchgauge.render.ci.junit",
    "sarif": "torchgauge.render.ci.sarif",
}
CI_FORMATS = tuple(_WRITERS)
"""The names that ``ci_text`` takes."""


def ci_text(name: str, report: CheckReport) -> str:
    """Return a check in one of ``CI_FORMATS``."""
    render: Callable[[CheckReport], str] = import_module(_WRITERS[name]).render
    return render(report)
