"""The worker seen from the server: started, asked, ended."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

from torchgauge.apart import how_it_ended, why_it_ended
from torchgauge.errors import ModelError, TorchGaugeError
from torchgauge.request import Request
from torchgauge.web.live.worker import Cancel, Job, Message, work

_END_SECONDS = 5.0


class WorkerProcess:
    """One worker process and the pipe to it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy the server's threads
        self._connection, its_end = context.Pipe()
        self._process = context.Process(
            target=work, args=(its_end,), name="torchgauge-worker", daemon=True
        )
        self._process.start()
        its_end.close()
        self.has_spoken = False
        """Whether anything was received: it has started, and torch can be imported."""

    @property
    def pid(self) -> int:
        """Return the process's number."""
        assert self._process.pid is not None
        return self._process.pid

    def send(self, message: Job | Cancel) -> None:
        """Give the worker something to do.

        Raises:
            OSError: it has ended.
        """
        self._connection.send(message)

    def receive(self) -> Message:
        """Wait for what it has to say.

        Raises:
            EOFError: it has ended.
        """
        try:
            message: Message = self._connection.recv()
        except OSError as error:
            raise EOFError from error
        self.has_spoken = True
        return message

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._process.kill()

    def end(self) -> int | None:
        """Wait until it is gone and return its status as Python gives it: -9 for SIGKILL.

        ``None`` where it closed the pipe and goes on. Only for the thread that receives: the pipe
        is closed.
        """
        self._process.join(_END_SECONDS)
        self._connection.close()
        return self._process.exitcode

    def ask(self, request: Request, on_progress: Callable[[str], None]) -> bytes:
        """Ask and wait; for the first answers, before there is a server.

        Raises:
            TorchGaugeError: whatever is wrong with the request.
        """
        self.send(Job(0, request))
        while True:
            try:
                _, kind, content = self.receive()
            except EOFError:
                raise ended_error(self.end()) from None
            if kind == "result":
                result: bytes = content
                return result
            if kind == "failed":
                raise _raised(content)
            on_progress(content)


def ended_error(status: int | None) -> ModelError:
    """Return the error of an analysis whose process ended; another is started when it is asked."""
    return ModelError(
        f"the process that analysed it ended: {how_it_ended(status)}", hint=why_it_ended(status)
    )


def _raised(data: dict[str, Any]) -> TorchGaugeError:
    error = TorchGaugeError(data["message"], hint=data["hint"])
    error.exit_status = data["status"]
    return error
