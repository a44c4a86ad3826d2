"""Connections that do not wait for ever: for a request line, or for a client to read its answer.

uvicorn has a time-out between requests alone. A connection that sends a header byte a minute, or
asks and never reads, would be held as long as the client likes. And what is no HTTP gets an error
of the same form as all the others.
"""

from __future__ import annotations

import asyncio
import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from torchgauge.deploy.serving.failures import RequestFailure
from torchgauge.deploy.serving.responses import JSON, error_data
from torchgauge.deploy.serving.settings import Settings


def protocol_class(settings: Settings) -> type[H11Protocol]:
    """Return uvicorn's protocol with the time-outs of ``settings``."""

    class TimedProtocol(H11Protocol):
        """One connection."""

        _header_timer: asyncio.TimerHandle | None = None
        _write_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._expect_header()

        def data_received(self, data: bytes) -> None:
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
            super().pause_writing()
            if self._write_timer is None:
                self._write_timer = self.loop.call_later(
                    settings.body_seconds, self.transport.abort
                )

        def resume_writing(self) -> None:
            super().resume_writing()
            self._end_timer("_write_timer")

        def connection_lost(self, exc: Exception | None) -> None:
            self._end_timer("_header_timer")
            self._end_timer("_write_timer")
            super().connection_lost(exc)

        def _end_timer(self, name: str) -> None:
            if (timer := getattr(self, name)) is not None:
                timer.cancel()
                setattr(self, name, None)

        def _expect_header(self) -> None:
            self._header_timer = self.loop.call_later(settings.header_seconds, self._give_up)

        def _give_up(self) -> None:
            self._header_timer = None
            if not self._is_in_request() and self._has_begun():
                self.transport.abort()

        def _has_begun(self) -> bool:
            """Return whether this is a new connection, or one with half a header in it.

            One that is idle between requests has uvicorn's own time-out.
            """
            return self.cycle is None or self.timeout_keep_alive_task is None

        def _is_in_request(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

    return TimedProtocol
