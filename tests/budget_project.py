"""A scratch project with budgets, run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"

NET = """\
from torch import nn


class Net(nn.Sequential):
    def __init__(self, width=16):
        super().__init__(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 2))


class Broken(nn.Module):
    def forward(self, x):
        raise ValueError("no weights today")
"""
PARAMS = 8 * 16 + 16 + 16 * 2 + 2
"""Of ``Net()``."""


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "CI", "GIT_"))}
    path = os.pathsep.join((str(SOURCE), os.environ.get("PYTHONPATH", "")))
    return {**kept, "PYTHONPATH": path, "NO_COLOR": "1", "LC_ALL": "C.UTF-8", **more}


class Project:
    def __init__(self, folder: Path, budgets: str = "") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.write("net.py", NET)
        self.write("pyproject.toml", budgets)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=environment(**more), capture_output=True, text=True
        )

    def check(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "torchgauge", "check", *arguments, **more)

    def git(self, *arguments: str) -> str:
        named = ["-c", "user.name=t", "-c", "user.email=t@t"]
        done = self.run("git", *named, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self) -> None:
        if not (self.folder / ".git").exists():
            self.git("init", "-q", "-b", "main")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "x")
