"""The server of a watch's page: a process that lives as long as the watch does."""

from __future__ import annotations

import os
import signal
import socket
import threading
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from multiprocessing.connection import Connection

from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from torchgauge.deploy.serving.failures import RequestFailure
from torchgauge.deploy.serving.http.server import server_for
from torchgauge.language import use
from torchgauge.request import Request
from torchgauge.web.data import VERSION
from torchgauge.web.live.analyst import Analyst, Limits
from torchgauge.web.live.application import SETTINGS, create_application
from torchgauge.web.live.controls import choices
from torchgauge.web.live.html import live_html, wanted_language
from torchgauge.web.live.refusal import language_of, refusal
from torchgauge.web.watch.messages import Told
from torchgauge.web.watch.versions import Versions

_LOOK_SECONDS = 1.0
"""How often the server looks whether the watch is still there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What the server needs to know."""

    request: Request
    token: str
    url: str
    port: int
    language: str
    opens: bool
    """Whether a browser is opened."""


def serve_watch(
    serving: Serving, listener: socket.socket, told: Connection, watch_pid: int
) -> None:
    """Show what is told until the watch ends; the main function of the server's process."""
    # Ctrl-C in the terminal reaches this process as well; it ends when the watch has ended.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    use(serving.language)
    versions = Versions(serving.request)
    analyst = Analyst(Limits(), code=lambda: versions.saves)
    page = page_html(serving.request)
    application = create_application(
        page, versions.benches, analyst, token=serving.token, port=serving.port,
        more=[Route("/versions", _streamed(versions), methods=["GET"])],
    )  # fmt: skip
    server = server_for(application, SETTINGS)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    if serving.opens:
        threading.Thread(target=webbrowser.open, args=(serving.url,), daemon=True).start()
    try:
        while thread.is_alive() and (message := _received(told, watch_pid)) is not None:
            versions.take(message)
    finally:
        versions.end()
        server.should_exit = True
        thread.join()


def page_html(request: Request) -> str:
    """Return the page before anything is known: it asks for the versions."""
    data = {
        "version": VERSION,
        "answers": [],
        "language": wanted_language(),
        "live": True,
        "workbench": {"choices": choices(), "models": []},
        "watch": {"spec": request.spec},
    }
    return live_html(data, str(request.spec))


def _received(told: Connection, watch_pid: int) -> Told | None:
    """Return what the watch tells; ``None`` once it has ended.

    The end of the pipe may come late where the watch was killed: a process in which it analyses
    holds the pipe too.
    """
    try:
        while not told.poll(_LOOK_SECONDS):
            if os.getppid() != watch_pid:
                return None
        message: Told | None = told.recv()
        return message
    except (EOFError, OSError):
        return None


def _streamed(versions: Versions) -> Callable[[HttpRequest], Awaitable[Response]]:
    async def follow(request: HttpRequest) -> Response:
        since = request.query_params.get("since", "0")
        if not since.isdecimal() or len(since) > 9:
            failure = RequestFailure("since is the number of a version, 0 for none")
            return refusal(failure, language_of(request.headers))
        return StreamingResponse(_events(versions, int(since)), media_type="text/event-stream")

    return follow


async def _events(versions: Versions, since: int) -> AsyncIterator[bytes]:
    async with aclosing(versions.events(since)) as events:
        async for name, content in events:
            yield b"event: %b\ndata: %b\n\n" % (name.encode(), content)
