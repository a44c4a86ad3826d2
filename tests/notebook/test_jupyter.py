"""A notebook for real: run in JupyterLab, opened without trust, exported, in Chromium."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lab import environment, lab, run_all

import report_builder as build
from torchgauge.notebook.views import framed
from torchgauge.web.page import report_html

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

FAILING = """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(11, 2)

    def forward(self, x):
        return self.fc(self.conv(x).flatten(1))

tg.analyze(Net(), (3, 8, 8))"""
CELLS = {
    "import": "import torchgauge as tg\nfrom torch import nn\n"
    "layers = [nn.Sequential(nn.Linear(64 + n, 65 + n), nn.ReLU()) for n in range(16)]\n"
    "net = nn.Sequential(*layers)",
    "summary": "tg.summary(net, (64,), mode='training', optimizer='adamw', device='T4')",
    "kept": "report = tg.summary(net, (64,))\nreport",
    "again": "report",
    "twice": "tg.summary(net, (64,))\ndisplay(report)",
    "extension": "%load_ext torchgauge",
    "gauge": "%gauge net (64,) mode=training device=T4",
    "failing": FAILING,
    "traceback": "%tb",
    "wrong": "%gauge nett (64,)",
    "captured": "%%capture taken\ntg.summary(net, (64,))",
    "taken": "sum(bool(output.data) for output in taken.outputs), taken.stdout",
    "fits": "tg.fits(net, (64,), device='T4', mode='training')",
    "device": "tg.devices.find_device('T4')",
    "view": "report.view(height=480)",
}
FAILS = ("failing", "traceback", "wrong")


def write_notebook(path: Path) -> None:
    cells = [
        {
            "cell_type": "code", "id": name, "source": source, "outputs": [],
            "execution_count": None,
            "metadata": {"tags": ["raises-exception"] if name in FAILS else []},
        }
        for name, source in CELLS.items()
    ]  # fmt: skip
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = {
        "cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5,
    }  # fmt: skip
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def executed(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A notebook that nbconvert has run."""
    path = tmp_path_factory.mktemp("executed") / "run.ipynb"
    write_notebook(path)
    command = [
        sys.executable, "-m", "nbconvert", "--execute", "--inplace", "--to", "notebook", path.name
    ]  # fmt: skip
    subprocess.run(command, cwd=path.parent, env=environment(home), check=True, timeout=240)
    return path


@pytest.fixture(scope="module")
def outputs(executed: Path) -> dict[str, list[dict[str, Any]]]:
    cells = json.loads(executed.read_text())["cells"]
    return {cell["id"]: cell["outputs"] for cell in cells}


def kinds(outputs: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    return [(item["output_type"], sorted(item.get("data", {}))) for item in outputs]


BOTH = ["text/html", "text/plain"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("summary", [("display_data", BOTH)]),
        ("kept", [("display_data", BOTH)]),
        ("again", [("execute_result", BOTH)]),
        ("twice", [("display_data", BOTH), ("display_data", BOTH)]),
        ("gauge", [("display_data", BOTH)]),
        ("fits", [("execute_result", BOTH)]),
        ("device", [("execute_result", BOTH)]),
        ("view", [("display_data", BOTH)]),
        ("captured", []),
    ],
)
def test_a_cell_shows_an_answer_as_often_as_it_should(outputs, name, expected):
    assert kinds(outputs[name]) == expected


def test_capture_takes_one_rich_answer_and_no_text(outputs):
    assert outputs["taken"][0]["data"]["text/plain"] == ["(1, '')"]


def lines_of(outputs: list[dict[str, Any]]) -> list[str]:
    (error,) = outputs
    assert error["output_type"] == "error"
    return re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error["traceback"])).splitlines()


def test_an_error_is_the_message_and_the_layer(outputs):
    lines = lines_of(outputs["failing"])
    assert len(lines) < 40 and lines[0].startswith("Net · ")
    assert any(line.startswith("ModelError: fc (Linear) failed in forward") for line in lines)
    place = lines.index("Cell In[8], line 7, in Net.forward")
    assert lines[place + 1] == "    return self.fc(self.conv(x).flatten(1))"
    wrong = lines_of(outputs["wrong"])
    assert "    %gauge nett (64,)" in wrong
    assert wrong[0] == "UsageError: name 'nett' is not defined" and len(wrong) < 9


def test_tb_shows_all(outputs):
    lines = lines_of(outputs["traceback"])
    assert len(lines) > 60 and any("torchgauge/analyze.py" in line for line in lines)


def test_exported_html_is_read_without_scripts(executed, home, browser, tmp_path):
    command = [sys.executable, "-m", "nbconvert", "--to", "html", str(executed)]
    folder = ["--output-dir", str(tmp_path)]
    subprocess.run([*command, *folder], env=environment(home), check=True, timeout=120)
    page = browser.new_page(java_script_enabled=False)
    page.goto((tmp_path / "run.html").as_uri())
    cell = page.locator("#cell-id\\=summary")
    assert "fits" in cell.inner_text().lower() and "Params" in cell.inner_text()
    assert not cell.locator("th", has_text="15").last.is_visible()
    cell.locator("summary").first.click()
    assert cell.locator("tbody th").last.count() == 1
    assert cell.locator("table").nth(1).is_visible()
    page.close()


# ---------------------------------------------------------------------------- JupyterLab


@pytest.fixture
def screenshot(tmp_path: Path) -> Callable[[Page, str], None]:
    """Keep a picture in the folder that ``TORCHGAUGE_PICTURES`` names, for a look at it."""
    folder = Path(os.environ.get("TORCHGAUGE_PICTURES", tmp_path))

    def keep(page: Page, name: str) -> None:
        for number, cell in enumerate(page.query_selector_all(".jp-Notebook .jp-CodeCell")):
            cell.scroll_into_view_if_needed()
            cell.screenshot(path=folder / f"{name}-{number:02}.png")

    return keep


def cell_of(page: Any, name: str) -> Any:
    return page.locator(".jp-Notebook .jp-CodeCell").nth(list(CELLS).index(name))


@pytest.mark.parametrize("dark", [False, True])
def test_jupyterlab_runs_it(browser, tmp_path, screenshot, dark):
    folder = tmp_path / "work"
    folder.mkdir()
    write_notebook(folder / "run.ipynb")
    home = tmp_path / "home"
    home.mkdir()
    problems: list[str] = []
    with lab(home, folder, dark=dark) as address:
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.on("console", lambda message: note(message, problems))
        page.goto(address.format("run.ipynb"))
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
        run_all(page)
        summary = cell_of(page, "summary")
        assert summary.locator(".jp-OutputArea-child").count() == 1
        assert cell_of(page, "kept").locator(".jp-OutputArea-child").count() == 1
        table = summary.locator("details table").first
        assert not table.is_visible()
        summary.locator("summary").first.click()
        assert table.is_visible()
        check_look(summary, dark=dark)
        frame = cell_of(page, "view").frame_locator("iframe")
        frame.locator("html[data-ready]").wait_for(timeout=20_000)
        assert frame.locator("h1").inner_text() == "Sequential"
        before = frame.locator("html").get_attribute("lang")
        frame.locator("button", has_text="中文").click()
        assert frame.locator("html").get_attribute("lang") != before
        screenshot(page, "dark" if dark else "light")
        page.close()
    assert problems == []


def note(message: Any, problems: list[str]) -> None:
    """Note an error of the page in the frame; what JupyterLab says of itself is its own."""
    if message.type == "error" and "srcdoc" in message.location.get("url", ""):
        problems.append(message.text)


def check_look(cell: Any, *, dark: bool) -> None:
    """Numbers stand flush right, and text is light in a dark theme and dark in a light one."""
    number = cell.locator("details table td", has_text="K").first
    assert number.evaluate("e => getComputedStyle(e).textAlign") == "right"
    color = number.evaluate("e => getComputedStyle(e).color")
    red = int(re.findall(r"\d+", color)[0])
    assert red > 200 if dark else red < 60


def test_an_untrusted_notebook_keeps_the_answer(browser, executed, tmp_path, screenshot):
    folder, home = tmp_path / "work", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    shutil.copy(executed, folder / "run.ipynb")  # signed in another home
    with lab(home, folder) as address:
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.goto(address.format("run.ipynb"))
        page.wait_for_selector(".jp-Notebook .jp-CodeCell table", timeout=60_000)
        summary = cell_of(page, "summary")
        assert "Params" in summary.inner_text()
        assert cell_of(page, "view").locator("iframe").count() == 0  # so it is not trusted
        summary.locator("summary").first.click()
        assert summary.locator("details table").first.is_visible()
        check_look(summary, dark=False)
        bar = summary.locator("div[style*='height:7px'], div[style*='height: 7px']").first
        assert bar.bounding_box()["height"] == 7
        screenshot(page, "untrusted")
        page.close()


# ---------------------------------------------------------------------------- other notebooks

POLICIES = {
    "a bare frame": "",
    "no outside script": (
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
        'font-src data:; worker-src blob:">'
    ),
}


@pytest.mark.parametrize("policy", POLICIES)
def test_the_page_runs_in_a_frame_without_an_origin(browser, tmp_path, policy):
    """Colab puts outputs into a sandboxed frame, VS Code forbids scripts from elsewhere."""
    inner = POLICIES[policy] + framed(report_html(build.transformer(2)), height=600)
    outer = f'<iframe sandbox="allow-scripts" width="1200" height="700" srcdoc="{escape(inner)}">'
    path = tmp_path / "outer.html"
    path.write_text(f'<!doctype html><meta charset="utf-8">{outer}</iframe>', encoding="utf-8")
    problems: list[str] = []
    page = browser.new_page()
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url) if is_outside(request) else 0)
    page.goto(path.as_uri())
    frame = page.frame_locator("iframe").frame_locator("iframe")
    frame.locator("html[data-ready]").wait_for(timeout=20_000)
    assert frame.locator("main > section").count() > 1
    page.close()
    assert problems == []


def is_outside(request: Any) -> bool:
    return not request.url.startswith(("file:", "about:", "data:", "blob:"))
