"""One analysis at a time, the newest question of each tab; used from the event loop alone."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from torchgauge.deploy.serving.failures import Busy
from torchgauge.errors import TorchGaugeError, UsageError
from torchgauge.language import spoken
from torchgauge.web.live.process import WorkerProcess, ended_error
from torchgauge.web.live.worker import Cancel, Job, Message, failure_data

Event: TypeAlias = tuple[str, Any]
"""Its name (``progress``, ``result``, ``failed``, ``cancelled``) and its content."""
_FINAL = ("result", "failed", "cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the server gives; times in seconds."""

    analysis_seconds: float = 300.0
    """For one analysis; longer ones are ended."""
    start_seconds: float = 60.0
    """For a new worker, on top: it has torch to import."""
    cancel_seconds: float = 2.0
    """For an analysis that is not wanted any more to come to its end by itself."""
    waiting: int = 8
    """Tabs whose questions may wait."""


@dataclass(eq=False, slots=True)
class Asked:
    """A question that waits or runs, and what is told of it."""

    client: str
    job: Job
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    is_over: bool = False

    def tell(self, name: str, content: Any = None) -> None:
        """Tell whoever asked, unless the last word was said."""
        if not self.is_over:
            self.is_over = name in _FINAL
            self.events.put_nowait((name, content))

    def fail(self, error: TorchGaugeError) -> None:
        """Tell an error as the last word."""
        with spoken(self.job.language):
            self.tell("failed", failure_data(error))


class Analyst:
    """Asks the worker, and starts another where it was ended."""

    def __init__(
        self,
        limits: Limits,
        worker: WorkerProcess | None = None,
        *,
        code: Callable[[], int] = lambda: 0,
    ) -> None:
        """Start nothing yet.

        Args:
            limits: what is given to a question.
            worker: one that has been started; another is started where it is needed.
            code: counts the saves of the model's files. A worker that was started at another count
                has imported what is old; it is replaced before the next question.
        """
        self._limits = limits
        self._code = code
        self._code_of_worker = code()
        self._given = worker
        self._worker: WorkerProcess | None = None
        self._numbers = itertools.count(1)
        self._waiting: list[Asked] = []
        self._running: Asked | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._is_closed = False
        self.done = self.starts = 0
        """Analyses that came to their end, and workers that were started here."""

    @property
    def running(self) -> int:
        """Return how many analyses run: none or one."""
        return int(self._running is not None)

    @property
    def waiting(self) -> int:
        """Return how many questions wait."""
        return len(self._waiting)

    @property
    def worker_pid(self) -> int | None:
        """Return the number of the worker's process."""
        worker = self._worker or self._given
        return None if worker is None else worker.pid

    def submit(self, client: str, job: Job) -> Asked:
        """Take a question; the last one of the same tab is not wanted any more.

        Jobs are numbered here.

        Raises:
            Busy: too many tabs wait.
        """
        for other in [*self._waiting, *([self._running] if self._running else [])]:
            if other.client == client:
                self.cancel(other)
        if len(self._waiting) >= self._limits.waiting:
            raise Busy(f"{len(self._waiting)} questions wait; try again later")
        asked = Asked(client, replace(job, number=next(self._numbers)))
        self._waiting.append(asked)
        self._next()
        if asked in self._waiting:
            asked.tell("progress", "waiting")
        return asked

    async def events(self, asked: Asked) -> AsyncGenerator[Event]:
        """Give what is told of a question until its last word; a reader that goes cancels it."""
        try:
            while True:
                event = await asked.events.get()
                yield event
                if event[0] in _FINAL:
                    return
        finally:
            self.cancel(asked)

    def cancel(self, asked: Asked) -> None:
        """End a question; nothing where it has ended."""
        if asked in self._waiting:
            self._waiting.remove(asked)
        elif asked is self._running and not asked.is_over:
            self._give_up()
        asked.tell("cancelled")

    def close(self) -> None:
        """End the worker; no question is taken any more."""
        self._is_closed = True
        for asked in [*self._waiting]:
            self.cancel(asked)
        for worker in (self._worker, self._given):
            if worker is not None:
                worker.kill()

    # ------------------------------------------------------------------------ the worker

    def _next(self) -> None:
        if self._running is not None or not self._waiting or self._is_closed:
            return
        asked = self._running = self._waiting.pop(0)
        worker = self._started()
        seconds = self._limits.analysis_seconds
        if not worker.has_spoken:
            asked.tell("progress", "starting")
            seconds += self._limits.start_seconds
        self._later(seconds, self._too_long)
        # A worker that has just ended is seen by its listener, which tells whoever asked.
        with contextlib.suppress(OSError):
            worker.send(asked.job)

    def _started(self) -> WorkerProcess:
        code = self._code()
        if code != self._code_of_worker:
            for old in (self._worker, self._given):
                if old is not None:
                    old.kill()
            self._worker = self._given = None
        self._code_of_worker = code
        if self._worker is None:
            self._worker, self._given = self._given, None
            if self._worker is None:
                self._worker = WorkerProcess()
                self.starts += 1
            loop = asyncio.get_running_loop()
            threading.Thread(
                target=_listen,
                args=(self._worker, loop, self._received, self._ended),
                name="torchgauge-listener",
                daemon=True,
            ).start()
        return self._worker

    def _received(self, message: Message) -> None:
        number, kind, content = message
        asked = self._running
        if asked is None or asked.job.number != number:
            return
        asked.tell(kind, content)
        if kind in _FINAL:
            self.done += 1
            self._free()

    def _ended(self, worker: WorkerProcess, status: int | None) -> None:
        if worker is not self._worker:
            return
        self._worker = None
        if self._running is not None:
            self._running.fail(ended_error(status))
        # The next one has torch imported by the time that it is asked. One that has never said
        # anything would end again.
        if worker.has_spoken and not self._is_closed:
            self._started()
        if self._running is not None:
            self._free()

    def _free(self) -> None:
        self._running = None
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._next()

    def _give_up(self) -> None:
        """Ask the worker to end what it does, and kill it where it does not."""
        assert self._running is not None and self._worker is not None
        with contextlib.suppress(OSError):
            self._worker.send(Cancel(self._running.job.number))
        self._later(self._limits.cancel_seconds, self._worker.kill)

    def _too_long(self) -> None:
        seconds = self._limits.analysis_seconds
        if self._running is None or self._worker is None:
            return
        error = UsageError(
            f"the analysis took longer than {seconds:g} s and was ended",
            hint="start torchgauge ui with a larger --time-limit, or change less",
        )
        self._running.fail(error)
        self._worker.kill()

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(seconds, call))


def _listen(
    worker: WorkerProcess,
    loop: asyncio.AbstractEventLoop,
    on_message: Callable[[Message], None],
    on_end: Callable[[WorkerProcess, int | None], None],
) -> None:
    """Hand over to the event loop what a worker says, until it ends."""
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
        try:
            while True:
                loop.call_soon_threadsafe(on_message, worker.receive())
        except EOFError:
            loop.call_soon_threadsafe(on_end, worker, worker.end())
