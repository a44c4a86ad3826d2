"""Requests at a fixed rate: ``load_client.py PORT COUNT RATE BODY [RETRY]``, its own process.

An open loop: a request is sent at its time whether or not the server keeps up; with ``RATE`` 0 as
many are under way as there are connections. With ``RETRY`` a request that got no answer, or 429 or
503, is sent again for so many seconds. Prints JSON: statuses, answers, errors, milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path

CLOSED_LOOP_CONNECTIONS = 64
PAUSE_SECONDS = 0.2
"""Before a request is sent again; twice as long each time, up to Retry-After's shortest."""
LONGEST_PAUSE_SECONDS = 1.0


class Client:
    """Keep-alive connections to one server, reused in turn."""

    def __init__(self, port: int, body: bytes, retry_seconds: float = 0.0) -> None:
        self._port = port
        self._retry_seconds = retry_seconds
        self._request = (
            b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        ) + body
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.statuses: Counter[str] = Counter()
        self.milliseconds: list[float] = []
        self.bodies: Counter[bytes] = Counter()
        self.dropped: list[tuple[float, float]] = []
        """When a request without an answer was sent, and when that was seen, on the system's
        monotonic clock: the same in all processes."""

    async def ask(self) -> None:
        """Send one request, again if need be, and count what came of it."""
        start = time.monotonic()
        pause = PAUSE_SECONDS
        while (status := await self._once()) in ("429", "503") or not status.isdecimal():
            if time.monotonic() + pause > start + self._retry_seconds:
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        self.statuses[status] += 1
        if status == "200":
            self.milliseconds.append((time.monotonic() - start) * 1000)

    async def _once(self) -> str:
        start = time.monotonic()
        try:
            return await self._exchange()
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            self.dropped.append((start, time.monotonic()))
            return f"error: {type(error).__name__}"

    async def _exchange(self) -> str:
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        body = await reader.readexactly(int(headers["content-length"]))
        status = lines[0].split()[1]
        if status == "200":
            self.bodies[body] += 1
        if headers.get("connection") == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))
        return status


async def open_loop(client: Client, count: int, rate: float) -> None:
    start = time.monotonic()
    tasks = []
    for number in range(count):
        await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
        tasks.append(asyncio.create_task(client.ask()))
    await asyncio.gather(*tasks)


async def closed_loop(client: Client, count: int) -> None:
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            await client.ask()

    await asyncio.gather(*(worker() for _ in range(CLOSED_LOOP_CONNECTIONS)))


def main(port: int, count: int, rate: float, body: Path, retry_seconds: float = 0.0) -> None:
    client = Client(port, body.read_bytes(), retry_seconds)
    start = time.monotonic()
    asyncio.run(open_loop(client, count, rate) if rate else closed_loop(client, count))
    print(
        json.dumps(
            {
                "seconds": time.monotonic() - start,
                "statuses": client.statuses,
                "different_answers": len(client.bodies),
                "dropped": client.dropped,
                "milliseconds": sorted(client.milliseconds),
            }
        )
    )


if __name__ == "__main__":
    main(
        int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]),
        *map(float, sys.argv[5:]),
    )  # fmt: skip
