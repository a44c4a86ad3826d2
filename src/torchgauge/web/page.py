"""Answers as one HTML file that asks nothing of any server.

The file holds the page's program, the data, and the static page for readers without scripts. Data
never becomes markup: ``<`` is escaped in the JSON, and the program makes text nodes alone. The
policy in the file lets no other script run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from torchgauge.facts.loop.advice import Advice
from torchgauge.facts.report import Report
from torchgauge.language import ENGLISH, current
from torchgauge.render.formats.html import HtmlFormat
from torchgauge.render.page import Page
from torchgauge.render.pages import page_of
from torchgauge.render.pages.report import report_page
from torchgauge.web.data import page_data
from torchgauge.web.lean import lean

_CONNECT = "connect-src 'self'", "connect-src 'none'"


def report_html(*reports: Report, **options: Any) -> str:
    """Return one report as a page, or two as a comparison; ``options`` are those of ``page_data``.

    Raises:
        DeviceError: a device is not known.
        ScenarioError: a device runs other kernels than the step was traced with.
    """
    report = reports[-1]
    title = f"{report.model_name} · torchgauge"
    language = None if current() == ENGLISH else current()  # else the browser's
    data = page_data(*reports, **{"language": language, **options})
    advice: Advice | None = options.get("advice")
    page = report_page(report) if advice is None else page_of(advice)
    return filled(data, title=title, static=_static(page))


def answer_html(answer: object) -> str:
    """Return the page of any answer: of a report and of advice the interactive one, else a static.

    Raises:
        UsageError: it has no page.
    """
    if isinstance(answer, Report):
        return report_html(answer)
    if isinstance(answer, Advice) and answer.report is not None:
        return report_html(answer.report, advice=answer)
    return HtmlFormat().render(page_of(answer))


def filled(data: Mapping[str, Any], *, title: str, static: str = "") -> str:
    """Return the page with its data; only a live one may talk to the server that it came from."""
    page = _template() if data["live"] else _template().replace(*_CONNECT, 1)
    text = json.dumps(lean(data), separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    head, rest = page.split("<!--title-->", 1)
    if data["language"]:
        head = head.replace('<html lang="en">', f'<html lang="{data["language"]}">', 1)
    before, rest = rest.split("<!--static-->", 1)
    middle, end = rest.split("<!--data-->", 1)
    return "".join([head, escape(title), before, static, middle, text.replace("<", "\\u003c"), end])


def _static(page: Page) -> str:
    """Return the static page without its head: what is read where no script runs."""
    whole = HtmlFormat().render(page)
    style = whole[whole.index("<style>") : whole.index("</head>")]
    return style + whole[whole.index("<main>") : whole.index("</main>")] + "</main>"


@cache
def _template() -> str:
    return files("torchgauge.web").joinpath("app.html").read_text(encoding="utf-8")
