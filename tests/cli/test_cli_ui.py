"""``torchgauge ui``: what is wrong is said before anything is served; then there is the URL."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from torchgauge.cli.main import main
from torchgauge.deploy import extras
from torchgauge.errors import MissingExtraError
from torchgauge.web.live import start

NET = """
import torch


def Net():
    return torch.nn.Linear(8, 2)


def Broken():
    raise RuntimeError("no such thing")
"""


@pytest.fixture(autouse=True)
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: MODEL"),
        (["resnet50"], "resnet50"),
        (["net.py:Net", "--port", "70000"], "'70000' is not a port"),
        (["net.py:Net", "--time-limit", "0"], "is not a number of seconds"),
        (["net.py:Net", "--optimizer", "adamw"], "no meaning in inference"),
        (["net.py:Net", "nothing.py:Net"], "nothing.py"),
        (["net.py:Broken", "--input-size", "1,8"], "no such thing"),
    ],
)
def test_what_is_wrong_is_said_at_once(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ui", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said and "try: " in said
    assert "http://" not in said


def test_a_taken_port_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    from torchgauge.deploy.serving.http.server import bind

    taken = bind("127.0.0.1", 0)
    port = str(taken.getsockname()[1])
    assert main(["ui", "net.py:Net", "--port", port]) == 2
    assert "choose another --port" in capsys.readouterr().err
    taken.close()


def test_what_it_is_served_with_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    with pytest.raises(MissingExtraError) as error:
        start.check_installed()
    assert error.value.message == "fastapi is needed to serve the page and is not installed"
    assert error.value.hint == 'pip install "torchgauge[serve]"'


def test_the_browser_opens_where_a_person_sits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for screen, opens in ((":0", True), ("", False)):
        monkeypatch.setenv("DISPLAY", screen)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        assert start.can_open_browser() is opens


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_it_serves_until_ctrl_c(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "torchgauge", "ui", "net.py:Net", "--input-size", "4,8", "--no-open",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stderr is not None
        try:
            line = next(line for line in process.stderr if "http://" in line)
            url = re.search(r"http://\S+", line)
            assert url is not None
            page = httpx.get(url[0])
            assert page.status_code == 200 and "<title>Linear" in page.text
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()
