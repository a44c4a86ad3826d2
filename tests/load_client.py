"""Requests at a fixed rate from a process of its own: ``load_client.py PORT COUNT RATE BODY``.

An open loop: a request is sent at its time whether or not the server keeps up; with ``RATE`` 0 as
many are under way as there are connections. Prints JSON: statuses, answers, errors, milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path

CLOSED_LOOP_CONNECTIONS = 64


class Client:
    """Keep-alive connections to one server, reused in turn."""

    def __init__(self, port: int, body: bytes) -> None:
        self._port = port
        self._request = (
            b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        ) + body
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.statuses: Counter[str] = Counter()
        self.milliseconds: list[float] = []
        self.bodies: Counter[bytes] = Counter()

    async def ask(self) -> None:
        """Send one request and count what came of it."""
        start = time.monotonic()
        try:
            status = await self._exchange()
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            status = f"error: {type(error).__name__}"
        self.statuses[status] += 1
        if status == "200":
            self.milliseconds.append((time.monotonic() - start) * 1000)

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


def main(port: int, count: int, rate: float, body: Path) -> None:
    client = Client(port, body.read_bytes())
    start = time.monotonic()
    asyncio.run(open_loop(client, count, rate) if rate else closed_loop(client, count))
    print(
        json.dumps(
            {
                "seconds": time.monotonic() - start,
                "statuses": client.statuses,
                "different_answers": len(client.bodies),
                "milliseconds": sorted(client.milliseconds),
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]))
