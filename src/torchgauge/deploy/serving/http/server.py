"""Bind, load, listen, and end so that nothing accepted is lost."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from torchgauge.deploy.serving.http.protocol import protocol_class
from torchgauge.deploy.serving.settings import Settings
from torchgauge.errors import UsageError

_BACKLOG = 128


class Server(uvicorn.Server):
    """uvicorn's server, which ends with status 0 after SIGTERM or SIGINT.

    uvicorn raises the signal again when it is done, so that the process would die of it.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals for as long as the server runs."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self._stop) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Stop gracefully; at the second signal at once."""
        self.force_exit = self.should_exit
        self.should_exit = True


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that holds the address and does not listen yet.

    Raises:
        UsageError: the port is taken or not allowed, or the host is none of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"there is no address {host!r} here: {error}", hint="127.0.0.1 or 0.0.0.0"
        ) from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(0)  # Linux lets two sockets bind with SO_REUSEADDR, and one of them listen
    except OSError as error:
        listener.close()
        raise UsageError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            hint="choose another --port, or end the program that uses it (ss -ltnp)",
        ) from error
    return listener


def server_for(application: Starlette, settings: Settings, *, access_log: bool = False) -> Server:
    """Return a server that is still to be run."""
    return Server(
        uvicorn.Config(
            application,
            http=protocol_class(settings),
            ws="none",
            loop="asyncio",
            lifespan="on",
            backlog=_BACKLOG,
            access_log=access_log,
            log_level=logging.INFO if access_log else logging.WARNING,
            timeout_graceful_shutdown=max(1, round(settings.grace_seconds)),
            timeout_keep_alive=15,
            server_header=False,
        )
    )


def serve(
    application: Starlette,
    listener: socket.socket,
    settings: Settings,
    *,
    access_log: bool = False,
    on_started: Callable[[], None] = lambda: None,
) -> None:
    """Answer requests until SIGTERM or SIGINT, then what was accepted, then return."""
    server = server_for(application, settings, access_log=access_log)
    on_started()
    server.run(sockets=[listener])
