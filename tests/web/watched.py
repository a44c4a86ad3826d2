"""``torchgauge watch --ui`` in a process of its own, and files to save before its eyes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx

NET = """
import torch
from width_of_watched import WIDTH


class Net(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Linear(8, WIDTH), torch.nn.ReLU(), torch.nn.Linear(WIDTH, 2))
"""
BROKEN = NET + "\n\ndef broken(:\n"
"""Its last line cannot be read."""
ASKED = ["net_of_watched.py:Net", "--input-size", "4,8"]


def params(width: int) -> int:
    """Return how many parameters the net of a width has."""
    return 8 * width + width + 2 * width + 2


class Watched:
    """A watch whose page is served, in a folder with two files."""

    def __init__(self, folder: Path, arguments: Sequence[str] = ()) -> None:
        self.folder = folder
        self.save(net=NET, width="WIDTH = 8\n")
        command = [sys.executable, "-m", "torchgauge", "watch", *ASKED, "--ui", "--no-open"]
        self.process = subprocess.Popen(
            [*command, *arguments], cwd=folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        assert self.process.stderr is not None
        line = next(line for line in self.process.stderr if "http://" in line)
        found = re.search(r"(http://127\.0\.0\.1:(\d+))/\?token=(\S+)", line)
        assert found is not None
        self.page, self.url, self.port, self.token = found[0], found[1], int(found[2]), found[3]

    def save(self, *, net: str | None = None, width: str | None = None) -> float:
        """Save files as editors do, whole at once; return when."""
        for name, text in (("net_of_watched.py", net), ("width_of_watched.py", width)):
            if text is not None:
                other = self.folder / "saved.tmp"
                other.write_text(text, encoding="utf-8")
                other.replace(self.folder / name)
        return time.time()

    def events(self, since: int = 0, seconds: float = 120) -> Iterator[tuple[str, Any]]:
        """Give what is told, until the end of the stream."""
        headers = {"Authorization": f"Bearer {self.token}"}
        address = f"{self.url}/versions?since={since}"
        with httpx.stream("GET", address, headers=headers, timeout=seconds) as response:
            assert response.status_code == 200, response.read()
            name = ""
            for line in response.iter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield name, json.loads(line.removeprefix("data: "))

    def interrupt(self) -> int:
        """Press Ctrl-C: every process of the terminal gets it. Return the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=60)

    def is_served(self) -> bool:
        """Return whether anything answers at the address."""
        try:
            httpx.get(self.page, timeout=5)
        except httpx.HTTPError:
            return False
        return True

    def __enter__(self) -> Self:
        """Return the running watch."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def watched(folder: Path, *arguments: str) -> Iterator[Watched]:
    """Watch until the block ends."""
    with Watched(folder, arguments) as running:
        yield running
