"""Find the code blocks of a page, run them, and put their output back.

Three kinds of fenced blocks are known; any other is an error, so that none stays unchecked.

- ``console``: lines that start with ``$ `` are commands, what follows is what they print.
  ``torchgauge`` runs on a terminal; ``python`` and ``cat`` run. ``make`` targets are looked up,
  because `make test` would run this check again. ``pip install`` lines are checked against the
  package's own name and extras.
- ``python``: all blocks of a file run in order in one interpreter, in one namespace.
- ``text`` directly after a ``python`` block: what that block prints.
"""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
READMES = ("README.md", "README.zh-CN.md")
PAGES = (*READMES, "docs/first-steps.md")
WIDTH = 92

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Runs the blocks given as JSON on standard input; prints their outputs as JSON.
_DRIVER = """
import contextlib, io, json, sys
namespace, outputs = {"__name__": "readme"}, []
for number, source in enumerate(json.load(sys.stdin), 1):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, f"python block {number}", "exec"), namespace)
    outputs.append(printed.getvalue())
print(json.dumps(outputs))
"""


class BlockError(Exception):
    """A block that does not run, names something that does not exist, or is of no known kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block: its kind, its text, and where the text stands in the file."""

    kind: str
    text: str
    start: int
    end: int


def find_blocks(markdown: str) -> list[Block]:
    """Return all fenced blocks in order."""
    return [
        Block(kind=match[1], text=match[2], start=match.start(2), end=match.end(2))
        for match in _FENCE.finditer(markdown)
    ]


def refresh(markdown: str) -> str:
    """Return the text with the output of every block as it is now.

    Raises:
        BlockError: when a block fails or is of no known kind.
    """
    blocks = find_blocks(markdown)
    printed = iter(_run_python([block.text for block in blocks if block.kind == "python"]))
    fresh: list[Block] = []
    waiting = ""  # what the python block before has printed and nothing has shown yet
    for block in blocks:
        if block.kind == "text" and waiting:
            fresh.append(replace(block, text=waiting))
            waiting = ""
            continue
        _expect_nothing(waiting)
        if block.kind == "python":
            waiting = next(printed)
        elif block.kind == "console":
            fresh.append(replace(block, text=_run_console(block.text)))
        else:
            raise BlockError(f"a block that nothing checks: ```{block.kind}\n{block.text}```")
    _expect_nothing(waiting)
    return _put_back(markdown, fresh)


def _expect_nothing(waiting: str) -> None:
    if waiting:
        raise BlockError(f"a python block prints, but no text block follows it:\n{waiting}")


def _put_back(markdown: str, fresh: list[Block]) -> str:
    for block in reversed(fresh):
        markdown = markdown[: block.start] + block.text + markdown[block.end :]
    return markdown


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {
        **os.environ,
        "PATH": path,
        "COLUMNS": str(WIDTH),
        "NO_COLOR": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONWARNINGS": "ignore",
    }


def _run(command: list[str], *, stdin: str = "") -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=_environment(), input=stdin, capture_output=True,
        text=True, encoding="utf-8", timeout=300,
    )  # fmt: skip
    if done.returncode:
        raise BlockError(f"{shlex.join(command[:3])}: exit status {done.returncode}\n{done.stderr}")
    return _without_trailing_spaces(done.stdout)


def _run_on_terminal(command: list[str]) -> str:
    """Run a command with a terminal as its output, which gets the calm view, and return that."""
    ours, theirs = pty.openpty()
    printed = b""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, env=_environment(), stdin=subprocess.DEVNULL, stdout=theirs,
            stderr=errors,
        )  # fmt: skip
        os.close(theirs)
        try:
            while piece := os.read(ours, 1 << 16):
                printed += piece
        except OSError:  # EIO: nobody holds the other side any more
            pass
        finally:
            os.close(ours)
        if process.wait(timeout=300):
            errors.seek(0)
            raise BlockError(
                f"{shlex.join(command[:3])}: exit status {process.returncode}\n"
                f"{errors.read().decode('utf-8', 'replace')}"
            )
    return _without_trailing_spaces(printed.decode("utf-8").replace("\r\n", "\n"))


def _without_trailing_spaces(text: str) -> str:
    lines = [line.rstrip() for line in text.strip("\n").splitlines()]
    return "\n".join(lines) + "\n" if lines else ""


def _run_python(sources: list[str]) -> list[str]:
    if not sources:
        return []
    printed = json.loads(_run([sys.executable, "-c", _DRIVER], stdin=json.dumps(sources)))
    return [_without_trailing_spaces(text) for text in printed]


def _run_console(text: str) -> str:
    result = []
    for command in [line[2:] for line in text.splitlines() if line.startswith("$ ")]:
        result.append(f"$ {command}\n")
        words = shlex.split(command, comments=True)
        if words[0] == "make":
            _check_make(words[1:])
        elif words[:2] == ["pip", "install"]:
            _check_pip(words[2:])
        elif words[0] == "torchgauge":
            result.append(_run_on_terminal(words))
        elif words[0] in ("python", "cat"):
            result.append(_run(words))
        else:
            raise BlockError(f"a command that nothing checks: {command}")
    if not result:
        raise BlockError(f"a console block without a command ($ ...):\n{text}")
    return "".join(result)


def make_targets() -> set[str]:
    """Return the documented targets of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z0-9-]+):.*##", makefile, re.MULTILINE))


def _check_make(targets: list[str]) -> None:
    unknown = set(targets) - make_targets()
    if unknown or not targets:
        raise BlockError(f"no such make target: {', '.join(sorted(unknown)) or '(none named)'}")


def _check_pip(arguments: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for argument in arguments:
        match = re.fullmatch(r"(\.|[\w-]+)(?:\[([\w,-]+)\])?", argument)
        if match is None or match[1] not in (".", project["name"]):
            raise BlockError(f"pip install of something else: {argument}")
        for extra in (match[2] or "").split(","):
            if extra and extra not in project["optional-dependencies"]:
                raise BlockError(f"no such extra: {extra}")
