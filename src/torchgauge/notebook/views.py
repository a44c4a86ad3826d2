"""``report.view()``: the interactive page, in the cell of a notebook or in the browser."""

from __future__ import annotations

import webbrowser
from html import escape
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

from torchgauge.errors import UsageError
from torchgauge.facts.loop.advice import Advice
from torchgauge.facts.report import Report
from torchgauge.render.shell import notebook_shell
from torchgauge.web.page import answer_html

SMALLEST: Final = 200


def view(answer: Report | Advice, *, height: int) -> None:
    """Show the page of a report or of advice; see ``Report.view``."""
    if height < SMALLEST:
        raise UsageError(f"height={height} shows too little", hint=f"use {SMALLEST} or more")
    page, shell = answer_html(answer), notebook_shell()
    if shell is not None:
        bundle = {"text/plain": repr(answer), "text/html": framed(page, height=height)}
        shell.display_pub.publish(data=bundle, metadata={})
        return
    path = _written(page)
    if not webbrowser.open(path.as_uri()):
        print(f"no browser was found; the page is in {path}")


def framed(page: str, *, height: int) -> str:
    """Return a whole document as a frame that can reach neither the notebook nor its server.

    ``sandbox`` without ``allow-same-origin`` gives the page an origin of its own: it runs its
    program and saves files when asked, and sees no cookie and no other part of the notebook.
    """
    style = f"width:100%;height:{height}px;border:1px solid rgba(128,128,128,.3)"
    return (
        f'<iframe title="torchgauge" sandbox="allow-scripts allow-downloads" style="{style}" '
        f'srcdoc="{escape(page)}"></iframe>'
    )


def _written(page: str) -> Path:
    """Return a new file with a page; it stays for as long as the system keeps such files."""
    with NamedTemporaryFile(
        "w", encoding="utf-8", prefix="torchgauge-", suffix=".html", delete=False
    ) as file:
        file.write(page)
    return Path(file.name)
