"""Run one question in a process of its own: the user's code may crash, print, or never end.

Each question gets a fresh process, so a model's file is read as it is now. On Linux and macOS the
processes are forked from one that has imported torch and nothing of the user's.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from torchgauge.apart import how_it_ended, why_it_ended
from torchgauge.errors import TorchGaugeError, raised_past
from torchgauge.integrations.mcp.answers import ANSWERS, Answered

_PRELOADED = ["torch", "torchgauge.api", "torchgauge.analyze", "torchgauge.integrations.mcp.worker"]


class QuestionError(Exception):
    """A question was not answered; the text says why and what to do."""


class Workers:
    """Starts a process for each question.

    Args:
        seconds: after which a process is ended.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        methods = multiprocessing.get_all_start_methods()
        method = "forkserver" if "forkserver" in methods else "spawn"
        self._context: Any = multiprocessing.get_context(method)
        if method == "forkserver":
            self._context.set_forkserver_preload(_PRELOADED)

    def ask(self, tool: str, question: Mapping[str, Any]) -> Answered:
        """Return the answer of a process.

        Raises:
            QuestionError: the question makes no sense, the model failed, the process ended without
                an answer or took too long.
        """
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_answer, args=(sender, tool, dict(question)), daemon=True
        )
        process.start()
        sender.close()
        try:
            if not receiver.poll(self._seconds):
                raise QuestionError(
                    f"{tool} took more than {self._seconds:g} seconds and was ended\n"
                    "  try: a smaller model or input, or torchgauge mcp --timeout"
                )
            answer = receiver.recv()
        except EOFError:
            process.join()
            raise QuestionError(
                f"the process that ran the model ended: {how_it_ended(process.exitcode)}\n"
                f"  try: {why_it_ended(process.exitcode)}"
            ) from None
        finally:
            receiver.close()
            if process.is_alive():
                process.kill()
            process.join()
        if isinstance(answer, str):
            raise QuestionError(answer)
        assert isinstance(answer, Answered)
        return answer


def _answer(sender: Connection, tool: str, question: Mapping[str, Any]) -> None:
    """Send the answer, or the text of the error; what the model prints goes to stderr."""
    with contextlib.suppress(OSError):
        os.dup2(2, 1)
    sys.stdout = sys.stderr
    try:
        answer: Answered | str = ANSWERS[tool](question)
    except TorchGaugeError as error:
        answer = f"error: {error}"
    except Exception as error:
        traceback.print_exc()
        answer = f"internal error of torchgauge: {type(error).__name__}: {error}"
    except BaseException as stop:
        answer = f"error: {raised_past(stop)}"
    sender.send(answer)
    sender.close()
