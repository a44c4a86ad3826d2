"""Work in a process of its own: ``python -m torchgauge.apart``.

A patched file is imported where the file as it is has never been, and a loader of the user's runs
under a time limit. Not by ``multiprocessing``: that would run the user's script once more.
"""

from __future__ import annotations

import importlib
import io
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, Final

import torchgauge
from torchgauge.errors import TorchGaugeError, UsageError

_TAIL: Final = 4096
"""Bytes of what a process said that are looked at."""
_FORKS: Final = hasattr(os, "fork") and sys.platform != "darwin"


def run_apart(function: str, tasks: Sequence[Any], *, limit_s: float) -> list[Any]:
    """Return what a function returns for each task, each in a fresh process.

    What the function's module imports, such as torch, is imported once for all of them.

    Where a task fails, what is returned is the error. What the tasks print is dropped.

    Args:
        function: ``"package.module:name"`` of this package; it takes one task.
        tasks: what it is called with; they and the results are pickled.
        limit_s: how long all of them may take together, in seconds.

    Raises:
        UsageError: they take longer, or a task cannot be pickled.
    """
    try:
        payloads = [pickle.dumps(task) for task in tasks]
    except Exception as error:  # whatever the user's own objects raise
        raise UsageError(
            f"it cannot be sent to a process of its own: {type(error).__name__}: {error}",
            hint="keep it in a file that can be imported, and name it from there",
        ) from error
    batches = [payloads] if _FORKS else [[payload] for payload in payloads]
    return [result for batch in batches for result in _answered(function, batch, limit_s)]


def _answered(function: str, payloads: list[bytes], limit_s: float) -> list[Any]:
    asked = pickle.dumps((function, list(sys.path), payloads))
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            # -P: a file of the project called like a module of Python is none of the process's.
            [sys.executable, "-P", "-m", "torchgauge.apart"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": search_path()},
            start_new_session=True,  # what it starts ends with it
        )
        try:
            out, _ = process.communicate(asked, timeout=limit_s)
        except subprocess.TimeoutExpired as error:
            raise UsageError(
                f"it took longer than {limit_s:.0f} s", hint="give it less to do, or more time"
            ) from error
        finally:
            _end(process)
        if process.returncode == 0 and out:
            found: list[Any] = pickle.loads(out)
            return found
        crashed = _crashed(process.returncode, errors)
    return [crashed] * len(payloads)


def _crashed(status: int, errors: IO[bytes]) -> UsageError:
    """Return the error for a process that did not answer, with the last that it said."""
    errors.seek(0)
    lines = errors.read()[-_TAIL:].decode("utf-8", "replace").strip().splitlines()
    if status > 0 and lines:
        return UsageError(f"its process ended: {lines[-1]}", hint="run it alone to see why")
    return UsageError(f"its process ended: {how_it_ended(status)}", hint=why_it_ended(status))


def how_it_ended(status: int | None) -> str:
    """Return how a process ended that had not answered: by which signal, or with which status.

    ``None`` where it closed its connection and went on.

    >>> how_it_ended(-9), how_it_ended(7), how_it_ended(-50)
    ('SIGKILL', 'exit status 7', 'signal 50')
    """
    if status is None:
        return "no exit status; it closed its connection and went on"
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def why_it_ended(status: int | None) -> str:
    """Return what to look for where a process ended like that; for a hint.

    >>> why_it_ended(0)
    "look for os._exit in the model's code, or in what it imports"
    """
    if status is None:
        return "look for os.closerange in the model's code, or in what it imports"
    if how_it_ended(status) == "SIGKILL":
        return "often no memory was left: use fewer processes at once, or a smaller batch"
    if status >= 0:
        return "look for os._exit in the model's code, or in what it imports"
    return "run it alone under python -X faulthandler, which prints where it crashed"


def search_path(first: Sequence[Path] = ()) -> str:
    """Return PYTHONPATH for a process: ``first``, what is set here, and this torchgauge.

    All of it absolute: the process may have a working directory of its own.
    """
    given = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    own = str(Path(torchgauge.__file__).resolve().parent.parent)
    named = [*map(str, first), *map(os.path.abspath, given), own]
    return os.pathsep.join(dict.fromkeys(named))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process with all that it has started, and close its pipes."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None and not stream.closed:
            stream.close()


# ---------------------------------------------------------------------------- in that process


def main() -> None:
    """Read the tasks, do each in a child of this process, and write what came of them."""
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)  # what the user's code prints is not part of the answer
    function, path, payloads = pickle.load(source)
    sys.path[:] = path
    module, _, name = function.partition(":")
    work = getattr(importlib.import_module(module), name)
    results = [_forked(work, payload) if _FORKS else _done(work, payload) for payload in payloads]
    target.write(pickle.dumps(results))
    target.close()


def _forked(work: Any, payload: bytes) -> Any:
    """Return the result of a task that a child of this process does."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reads)
        try:
            with os.fdopen(writes, "wb") as out:
                _write(out, _done(work, payload))
        finally:
            os._exit(0)  # nothing of the user's runs at exit
    os.close(writes)
    with os.fdopen(reads, "rb") as stream:
        data = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return pickle.loads(data) if data else _crashed(status, io.BytesIO())


def _write(out: BinaryIO, result: Any) -> None:
    try:
        data = pickle.dumps(result)
    except Exception as error:  # the user's metric may return anything
        data = pickle.dumps(UsageError(f"its result cannot be sent back: {error}"))
    out.write(data)


def _done(work: Any, payload: bytes) -> Any:
    """Return what a task comes to, or the error, in a form that can be pickled."""
    try:
        return work(pickle.loads(payload))
    except TorchGaugeError as error:
        return UsageError(error.message, hint=error.hint)
    except BaseException as error:  # the user's code, also where it calls sys.exit
        text = next(iter(str(error).splitlines()), "")
        return UsageError(f"{type(error).__name__}: {text}" if text else type(error).__name__)


if __name__ == "__main__":
    # What is pickled names this module, not ``__main__``.
    from torchgauge.apart import main as run

    run()
