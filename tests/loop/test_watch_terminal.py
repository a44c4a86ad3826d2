"""``watch`` in a terminal over ten edits of a ResNet-50: what is shown, and how soon."""

from __future__ import annotations

import os
import pty
import re
import select
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timed]

MODEL = """
import torchvision
from width_of_watch import WIDTH


def Net():
    return torchvision.models.resnet50(num_classes=WIDTH)
"""
EDITS = [
    ("width_of_watch.py", f"WIDTH = {width}\n") for width in (101, 102, 103, 104, 105, 106, 107)
]
EDITS[3:3] = [("model_of_watch.py", MODEL + "def\n"), ("model_of_watch.py", MODEL)]
EDITS.append(("model_of_watch.py", MODEL.replace("resnet50", "resnet34")))


class Terminal:
    """A terminal of 80 columns with a program in it."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._mine, theirs = pty.openpty()
        environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm", "NO_COLOR": "1"}
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        self.text = ""

    def read_until(self, pattern: str, seconds: float = 90) -> str:
        """Return what was printed since the last call, up to a pattern."""
        deadline, start = time.monotonic() + seconds, len(self.text)
        while not re.search(pattern, self.text[start:]):
            left = deadline - time.monotonic()
            assert left > 0, f"no {pattern!r} in {self.text[start:]!r}"
            self._read(min(left, 0.2))
        return self.text[start:]

    def rest(self) -> str:
        """Return all that was printed, once nothing more comes."""
        while self._read(0.3):
            pass
        return self.text

    def _read(self, seconds: float) -> bool:
        if not select.select([self._mine], [], [], seconds)[0]:
            return False
        self.text += os.read(self._mine, 65_536).decode("utf-8", "replace")
        return True

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._mine)


def test_ten_edits(tmp_path: Path) -> None:
    (tmp_path / "model_of_watch.py").write_text(MODEL, encoding="utf-8")
    (tmp_path / "width_of_watch.py").write_text("WIDTH = 100\n", encoding="utf-8")
    asked = ["watch", "model_of_watch.py:Net", "--input-size", "3,224,224"]
    terminal = Terminal([sys.executable, "-m", "torchgauge", *asked], tmp_path)
    waits = []
    try:
        terminal.read_until("watching 2 files")
        for name, text in EDITS:
            other = tmp_path / "saved.tmp"
            other.write_text(text, encoding="utf-8")
            other.replace(tmp_path / name)
            saved = time.monotonic()
            shown = terminal.read_until(
                "not analysed" if text.endswith("def\n") else "Params|Equal"
            )
            waits.append(time.monotonic() - saved)
            assert f"{name} saved" in shown
            terminal.rest()
    finally:
        terminal.close()
    lines = terminal.text.replace("\r", "").splitlines()
    assert max(map(len, lines)) <= 80
    assert "SyntaxError" in terminal.text and "Since the first version" in terminal.text
    print("seconds from save to figures:", [round(wait, 2) for wait in waits])
    assert statistics.median(waits) < 1.5
