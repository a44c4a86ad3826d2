"""``report.view()``: a frame in a cell, a file and the browser elsewhere."""

from __future__ import annotations

import html
import re
import webbrowser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from fake_shell import Shell, running_in

import report_builder as build
from torchgauge.errors import UsageError
from torchgauge.notebook.views import framed
from torchgauge.web.page import report_html


def test_a_cell_gets_the_page_in_a_frame_without_an_origin(monkeypatch):
    report = build.transformer(2)
    with running_in(Shell(), monkeypatch) as shell:
        assert report.view(height=480) is None
    (bundle,) = shell.published
    assert bundle["text/plain"] == repr(report)
    frame = bundle["text/html"]
    found = re.fullmatch(r'<iframe ([^>]*) srcdoc="([^"]*)"></iframe>', frame)
    assert found is not None
    assert 'sandbox="allow-scripts allow-downloads"' in found[1]
    assert "height:480px" in found[1] and "src=" not in found[1]
    assert html.unescape(found[2]) == report_html(report)


def test_a_hostile_page_stays_inside():
    frame = framed('"></iframe><script>alert(1)</script>', height=300)
    assert frame.count("<") == 2 and "<script" not in frame


def test_elsewhere_the_browser_opens_a_file(monkeypatch, tmp_path, capsys):
    opened: list[str] = []
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    report = build.transformer(2)
    report.view()
    path = Path(unquote(urlsplit(opened[0]).path))
    assert path.parent == tmp_path and path.read_text(encoding="utf-8") == report_html(report)
    assert path.stat().st_mode & 0o077 == 0  # nobody else reads what a model is
    assert capsys.readouterr().out == ""


def test_without_a_browser_the_file_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    build.transformer(2).view()
    (path,) = tmp_path.iterdir()
    assert capsys.readouterr().out == f"no browser was found; the page is in {path}\n"


def test_advice_is_viewed_as_the_page_of_its_report(monkeypatch):
    from torch import nn

    import torchgauge as tg
    from torchgauge.web.page import answer_html

    advice = tg.advise(nn.Linear(8, 2), (4, 8), rules=("global-pooling",))
    with running_in(Shell(), monkeypatch) as shell:
        assert advice.view(height=480) is None
    (bundle,) = shell.published
    assert bundle["text/plain"] == repr(advice)
    page = html.unescape(bundle["text/html"])
    assert answer_html(advice) in page and '"advice":{"advice":{' in page


def test_a_frame_that_shows_nothing_is_refused():
    with pytest.raises(UsageError, match="height=100 shows too little"):
        build.transformer(2).view(height=100)
