"""Where the facts come from: a file tree, a set of variables, an interpreter; and how programs run.

Everything that the doctor looks at is reached through :class:`Surroundings`, so that another
machine's state can be staged in a folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from torchgauge.errors import UsageError

_MOST_OUTPUT: Final = 64 << 10
"""Bytes of a program's output that are kept: its end, where the error stands."""
_SECONDS_TO_DIE: Final = 2.0
"""A process that waits inside a hung driver cannot be killed; it is left behind after this."""


def scratch_folder() -> str:
    """Return a folder for the doctor's own files, also where Python finds none.

    In a container with a read-only file system what is left is often shared memory alone.

    Raises:
        UsageError: nothing can be written to.
    """
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        for folder in ("/dev/shm", os.path.expanduser("~")):
            if os.access(folder, os.W_OK | os.X_OK):
                return folder
    raise UsageError(
        "no folder is writable",
        hint="set TMPDIR to a writable folder; in a container: docker run --tmpfs /tmp",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is examined; :meth:`here` is this machine, as a program started now would see it."""

    root: Path = Path("/")
    """Under which ``/proc``, ``/sys``, ``/dev`` and the like are read."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """The variables that every program is started with."""
    python: str = sys.executable
    """The interpreter whose packages are examined."""
    directory: Path = Path(".")
    """The working directory: Python finds modules there first."""
    time_limit_s: float = 120.0
    """The longest that one program may take; torch's first import from a network disk is slow."""

    @classmethod
    def here(cls, *, python: str | None = None, time_limit_s: float = 120.0) -> Surroundings:
        """Return this machine and this process's variables."""
        return cls(
            environ=dict(os.environ),
            python=python or sys.executable,
            directory=Path.cwd(),
            time_limit_s=time_limit_s,
        )

    def path(self, absolute: str) -> Path:
        """Return where a file of the machine is, such as ``/proc/modules``."""
        return self.root / absolute.lstrip("/")

    def read(self, absolute: str) -> str | None:
        """Return the text of a file, ``None`` when it is not there or cannot be read."""
        try:
            return self.path(absolute).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def which(self, program: str) -> str | None:
        """Return where a program is on the search path, ``None`` when it is nowhere."""
        return shutil.which(program, path=self.environ.get("PATH", os.defpath))

    def run(
        self,
        command: Sequence[str],
        *,
        without: Sequence[str] = (),
        extra: Mapping[str, str] | None = None,
        time_limit_s: float | None = None,
    ) -> Ended:
        """Run a program to its end or to the time limit; never raises, never waits forever.

        Args:
            command: the program and its arguments.
            without: variables that it is not given.
            extra: variables that are added.
            time_limit_s: instead of the limit of all programs.
        """
        environ = {key: value for key, value in self.environ.items() if key not in without}
        environ.update(extra or {})
        scratch = scratch_folder()
        limit = self.time_limit_s if time_limit_s is None else time_limit_s
        # A file, not a pipe: a child that survives could hold a pipe open for ever.
        with (
            tempfile.TemporaryFile(dir=scratch) as stdout,
            tempfile.TemporaryFile(dir=scratch) as stderr,
        ):
            try:
                process = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    env=environ,
                    cwd=self.directory,
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                return Ended(started=False, stderr=str(error))
            timed_out = not _wait(process, limit)
            return Ended(
                status=process.returncode,
                timed_out=timed_out,
                stdout=_tail(stdout),
                stderr=_tail(stderr),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended, and the end of what it wrote."""

    started: bool = True
    status: int | None = None
    """Exit status; negative: killed by that signal; ``None``: it never ended."""
    timed_out: bool = False
    stdout: str = ""
    stderr: str = ""

    @property
    def ok(self) -> bool:
        """Whether it ran to its end with status 0."""
        return self.status == 0 and not self.timed_out

    @property
    def how(self) -> str:
        """How it ended, in words."""
        if not self.started:
            return f"could not be started: {self.stderr}"
        if self.timed_out:
            return "did not answer within the time limit"
        if self.status is not None and self.status < 0:
            return f"was killed by {_signal_name(-self.status)}"
        return f"ended with status {self.status}"


def _wait(process: subprocess.Popen[bytes], limit: float) -> bool:
    """Wait for the end; return whether it came in time. What is late is killed, children too."""
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        _kill(process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS_TO_DIE)
        return False
    except BaseException:  # Ctrl-C: nothing may stay behind on a GPU
        _kill(process)
        raise
    return True


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and, where the system has process groups, its children."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)


def _tail(stream: IO[bytes]) -> str:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(size - _MOST_OUTPUT, 0))
    return stream.read().decode("utf-8", "replace")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
