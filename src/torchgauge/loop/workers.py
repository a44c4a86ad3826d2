"""Many requests side by side, each in one of a few worker processes. Imports no torch."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from torchgauge.apart import search_path
from torchgauge.loop.worker import Answered, Task

Done = Callable[[int, Answered], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where workers run: their working directory, and what Python searches first."""

    folder: Path
    search: tuple[Path, ...] = ()


def answer_all(
    tasks: Sequence[Task], place: Place, *, jobs: int | None = None, on_done: Done | None = None
) -> list[Answered]:
    """Return the answers in the order of the tasks.

    A worker that dies (a crash, no memory left) fails its task alone. ``on_done`` is called as
    answers come in, with the number of the task, from other threads one at a time.

    Args:
        tasks: what is asked; a request's ``on_progress`` is left out.
        place: where the workers run.
        jobs: how many workers at most; one per CPU by default.
        on_done: told of each answer.
    """
    count = min(len(tasks), jobs or usable_cpus())
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(tasks)):
        waiting.put(index)
    found: list[Answered | None] = [None] * len(tasks)
    told = threading.Lock()
    workers = [_Worker(place) for _ in range(count)]
    interrupted = threading.Event()

    def work(worker: _Worker) -> None:
        while not interrupted.is_set():
            try:
                index = waiting.get_nowait()
            except queue.Empty:
                break
            found[index] = answered = worker.answer(tasks[index])
            if on_done is not None:
                with told:
                    on_done(index, answered)
        worker.stop()

    threads = [threading.Thread(target=work, args=(worker,), daemon=True) for worker in workers]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        interrupted.set()
        for worker in workers:
            worker.kill()
    return [answered for answered in found if answered is not None]


def usable_cpus() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Worker:
    """A process that is started when it is first asked, and again after it has died."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._is_over = False

    def answer(self, task: Task) -> Answered:
        request = replace(task.request, on_progress=None)
        with self._lock:
            if self._is_over:
                return Answered.of_ended(-signal.SIGTERM)
            process = self._process = self._process or self._started()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(pickle.dumps(replace(task, request=request)))
            process.stdin.flush()
            answered = pickle.load(process.stdout)
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):
            # ValueError: the pipe was closed by whoever ended it meanwhile.
            status = process.wait()
            self._discard()
            return Answered.of_ended(status)
        assert isinstance(answered, Answered)
        return answered

    def stop(self) -> None:
        """Let the process end."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()

    def kill(self) -> None:
        """End the process for good."""
        with self._lock:
            self._is_over = True
        self._discard()

    def _discard(self) -> None:
        """End the process and close its pipes."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):  # what it did not read any more
                    stream.close()

    def _started(self) -> subprocess.Popen[bytes]:
        # -P: a file of the project called like a module of Python is none of the worker's.
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "torchgauge.loop.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self._place.folder,
            env={**os.environ, "PYTHONPATH": search_path(self._place.search)},
        )
