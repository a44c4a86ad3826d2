"""Connections with time-outs for the header and for a client that does not read its answer.

uvicorn has a time-out only between requests, so one header byte a minute would hold a connection
open. Bytes that are not HTTP get an error of the same form as all others. A refusal must reach its
client: closing a socket while bytes come in sends a reset, and many clients then lose the answer.
So the rest of a refused body is read for a moment and dropped after the answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from torchgauge.deploy.serving.failures import RequestFailure
from torchgauge.deploy.serving.http.responses import JSON, error_data
from torchgauge.deploy.serving.settings import Settings

_LINGER_SECONDS = 2.0
_LINGER_BYTES = 2**20
"""No more than that of a refused body is read; then the connection is closed all the same."""


class _Closing:
    """A transport whose ``close`` is another one."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport = transport
        self.close = close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class TimedProtocol(H11Protocol):
    """One connection, with the time-outs of ``limits``."""

    limits: Settings
    _header_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _linger_timer: asyncio.TimerHandle | None = None
    _lingered_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the wait for a header."""
        super().connection_made(transport)
        self.transport = _Closing(transport, self._close)  # type: ignore[assignment]
        self._real_transport = transport
        self._expect_header()

    def data_received(self, data: bytes) -> None:
        """Pass the bytes on, or drop them after a refusal."""
        if self._linger_timer is not None:
            self._lingered_bytes += len(data)
            if self._lingered_bytes > _LINGER_BYTES:
                self._real_transport.abort()
            return
        super().data_received(data)
        if self._is_in_request():
            self._end_timer("_header_timer")
        elif self._header_timer is None:
            self._expect_header()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, and close."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # an answer has begun already
            return
        failure = RequestFailure(msg)
        body = json.dumps(error_data(failure)).encode()
        headers = [
            (b"content-type", JSON.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        response = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def pause_writing(self) -> None:
        """Start the wait for a client that does not read."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.limits.body_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """End that wait."""
        super().resume_writing()
        self._end_timer("_write_timer")

    def connection_lost(self, exc: Exception | None) -> None:
        """End every wait."""
        self._end_timer("_header_timer")
        self._end_timer("_write_timer")
        self._end_timer("_linger_timer")
        super().connection_lost(exc)

    def _close(self) -> None:
        """Close; while a body comes in that nobody wants, end the answers first."""
        transport = self._real_transport
        is_coming = self.conn.their_state in (h11.SEND_BODY, h11.ERROR)
        if not is_coming or self._linger_timer is not None or transport.is_closing():
            transport.close()
            return
        self._end_timer("_header_timer")
        self._linger_timer = self.loop.call_later(_LINGER_SECONDS, transport.abort)
        transport.write_eof()
        self.flow.resume_reading()

    def _end_timer(self, name: str) -> None:
        if (timer := getattr(self, name)) is not None:
            timer.cancel()
            setattr(self, name, None)

    def _expect_header(self) -> None:
        self._header_timer = self.loop.call_later(self.limits.header_seconds, self._give_up)

    def _give_up(self) -> None:
        self._header_timer = None
        # One that is idle between requests has uvicorn's own time-out.
        has_begun = self.cycle is None or self.timeout_keep_alive_task is None
        if not self._is_in_request() and has_begun:
            self.transport.abort()

    def _is_in_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete


def protocol_class(settings: Settings) -> type[TimedProtocol]:
    """Return uvicorn's protocol with the time-outs of ``settings``."""
    return type("TimedProtocol", (TimedProtocol,), {"limits": settings})
