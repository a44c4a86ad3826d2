"""Read a body while it comes: as large and as slow as allowed, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from torchgauge.deploy.serving.failures import (
    BodyTimeout,
    BodyTooLarge,
    Busy,
    RequestFailure,
    WrongMediaType,
)
from torchgauge.deploy.serving.settings import Settings
from torchgauge.units import format_bytes


class PendingBytes:
    """The bodies in memory, all requests together; used from the event loop alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0

    def take(self, size: int) -> None:
        """Count ``size`` more bytes.

        Raises:
            Busy: that would be more than the limit.
        """
        if self.held + size > self._limit:
            raise Busy(
                "requests and answers in transfer take all of the memory for bodies; "
                "try again later"
            )
        self.held += size

    def hold(self, size: int) -> None:
        """Count bytes that are there already: an answer that waits to be sent."""
        self.held += size

    def give_back(self, size: int) -> None:
        """Count ``size`` bytes less."""
        self.held -= size


@asynccontextmanager
async def reading(
    headers: Mapping[str, str],
    stream: AsyncIterator[bytes],
    settings: Settings,
    pending: PendingBytes,
) -> AsyncIterator[bytes]:
    """Give the whole body; its bytes count as pending until the block ends.

    What ``Content-Length`` says is checked before the first byte is read.

    Raises:
        RequestFailure: too large, too slow, no JSON, or no memory for it.
    """
    kind = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise WrongMediaType(f"send application/json, not {kind[:80]!r}")
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise WrongMediaType("compressed bodies are not read")
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > settings.max_body_bytes:
        raise _too_large(settings)
    taken = 0
    parts: list[bytes] = []
    try:
        if announced.isdecimal():
            pending.take(int(announced))
            taken = int(announced)
        received = 0
        try:
            async with asyncio.timeout(settings.body_seconds):
                async for part in stream:
                    received += len(part)
                    if received > settings.max_body_bytes:
                        raise _too_large(settings)
                    if received > taken:
                        pending.take(received - taken)
                        taken = received
                    parts.append(part)
        except TimeoutError:
            raise BodyTimeout(f"the body did not come within {settings.body_seconds:g} s") from None
        body = b"".join(parts)
        parts.clear()
        yield body
    finally:
        pending.give_back(taken)


def _too_large(settings: Settings) -> RequestFailure:
    return BodyTooLarge(f"the body is larger than {format_bytes(settings.max_body_bytes)}")
