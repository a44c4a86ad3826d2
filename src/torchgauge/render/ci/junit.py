"""A check as JUnit XML: a suite for each model, a test case for each limit.

Source: the XML Schema that Jenkins' xUnit plugin publishes: a ``testsuite`` has name, tests,
failures and errors; a ``testcase`` has name and classname.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from torchgauge.facts.loop.check import CheckReport, LimitCheck, ModelCheck, Outcome
from torchgauge.language import translated
from torchgauge.render.ci.findings import details_of, one_line
from torchgauge.render.pages.loop.check import name_of, sentence


def render(report: CheckReport) -> str:
    """Return the XML."""
    root = ET.Element("testsuites", name="torchgauge")
    suites = [_suite(report, model) for model in report.models]
    root.extend(suites)
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in suites)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode")


def _suite(report: CheckReport, model: ModelCheck) -> ET.Element:
    suite = ET.Element("testsuite", name=one_line(model.name), file=one_line(report.config))
    if model.error:
        case = _case(model, "analysis")
        message = translated(one_line(model.error))
        text = "\n".join((model.error, *([translated(f"try: {model.hint}")] if model.hint else [])))
        _add(case, "error", message, text)
        suite.append(case)
    for limit in model.limits:
        case = _case(model, name_of(limit))
        if limit.outcome is not Outcome.OK:
            kind = "failure" if limit.outcome is Outcome.OVER else "error"
            _add(case, kind, translated(one_line(sentence(limit))), _text(report, limit))
        suite.append(case)
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", str(len(suite.findall("testcase/error"))))
    return suite


def _case(model: ModelCheck, name: str) -> ET.Element:
    classname = one_line(f"torchgauge.{model.name}")
    return ET.Element("testcase", classname=classname, name=one_line(name))


def _add(case: ET.Element, kind: str, message: str, text: str) -> None:
    found = ET.SubElement(case, kind, message=message, type=kind)
    found.text = "\n".join(one_line(line) for line in text.splitlines())


def _text(report: CheckReport, limit: LimitCheck) -> str:
    place = f"{report.config}:{limit.line}"
    return "\n".join((*map(translated, (sentence(limit), *details_of(limit))), place))
