"""The versions that the page shows, and the stream of events that each open tab reads.

==============  ===================================================================
``saved``       files were saved, and are being analysed
``version``     a version that could be analysed, with the answers that the tab lacks
``broken``      a version that could not be analysed, with the error in each language
``ended``       the watch has ended
==============  ===================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncGenerator, Iterator
from dataclasses import asdict
from typing import Any

import msgspec

from torchgauge.changes.inputs import Ran
from torchgauge.errors import TorchGaugeError
from torchgauge.language import LANGUAGES, spoken
from torchgauge.request import Request
from torchgauge.web.live.workbench import Bench, model_data
from torchgauge.web.live.worker import failure_data
from torchgauge.web.watch.messages import Broken, Good, Saved, Told

Event = tuple[str, bytes]
"""Its name and its content, as JSON."""


class _Answer(msgspec.Struct, frozen=True):
    report: Ran


class Versions:
    """The first good version, the last two, and whatever came after them.

    ``take`` and ``end`` may be called from any thread, ``events`` from event loops.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self.benches: list[Bench] = []
        """The newest good version as the model to ask questions of; empty before the first."""
        self.saves = 0
        """How often files were saved: code that was imported at another count is old."""
        self._first: Good | None = None
        self._last: Good | None = None
        self._now: Good | None = None
        self._after: list[tuple[int, Saved | Broken]] = []
        self._count = 0
        self._is_over = False
        self._lock = threading.Lock()
        self._readers: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    def take(self, told: Told) -> None:
        """Take what the watch tells, and pass it on to every tab."""
        with self._lock:
            self._count += 1
            if isinstance(told, Good):
                self._first = self._first or told
                self._last, self._now = self._now, told
                self._after.clear()
                self.benches[:] = [self._bench(told)]
            else:
                self.saves += isinstance(told, Saved)
                # What could not be analysed is shown until something else comes of a save.
                kept = Broken if isinstance(told, Saved) else ()
                self._after = [pair for pair in self._after if isinstance(pair[1], kept)]
                self._after.append((self._count, told))
            self._wake()

    def end(self) -> None:
        """Tell every tab that nothing more comes."""
        with self._lock:
            self._is_over = True
            self._wake()

    async def events(self, since: int) -> AsyncGenerator[Event]:
        """Give what a tab does not know yet, and then all that comes.

        Args:
            since: the number of the good version that the tab shows; 0 for none.
        """
        news = asyncio.Event()
        with self._lock:
            self._readers[news] = asyncio.get_running_loop()
        try:
            known, seen = since, 0
            while True:
                news.clear()
                with self._lock:
                    found = list(self._news(known, seen))
                    seen, is_over = self._count, self._is_over
                    known = known if self._now is None else self._now.heading.number
                for event in found:
                    yield event
                if is_over:
                    yield "ended", b"{}"
                    return
                await news.wait()
        finally:
            with self._lock:
                del self._readers[news]

    # ------------------------------------------------------------------------ with the lock held

    def _wake(self) -> None:
        for news, loop in self._readers.items():
            with contextlib.suppress(RuntimeError):  # its loop is closed: nobody reads any more
                loop.call_soon_threadsafe(news.set)

    def _news(self, known: int, seen: int) -> Iterator[Event]:
        now = self._now
        if now is not None and now.heading.number != known:
            yield "version", self._version(now, known)
        for count, one in self._after:
            if count > seen:
                yield (
                    ("broken", _broken(one)) if isinstance(one, Broken) else ("saved", _saved(one))
                )

    def _version(self, now: Good, known: int) -> bytes:
        """Return a version with the answers of it and of those before that the tab lacks."""
        first, last = self._first, self._last
        wanted = {good.heading.number: good for good in (first, last, now) if good is not None}
        assert first is not None
        lacks = {number: good for number, good in wanted.items() if number != known}
        if known:
            lacks.pop(first.heading.number, None)
        head: dict[str, Any] = {
            "version": asdict(now.heading),
            "first": first.heading.number,
            "last": None if last is None else last.heading.number,
            "model": model_data(self.benches[0]),
        }
        return b'%b,"answers":%b,"layers":%b}' % (
            json.dumps(head).encode()[:-1],
            _by_number({number: good.answer for number, good in lacks.items()}),
            _by_number(now.layers),
        )

    def _bench(self, good: Good) -> Bench:
        ran = msgspec.json.decode(good.answer, type=_Answer).report
        return Bench(request=self._request, ran=ran, first={"answer": None, "error": None})


def _by_number(parts: Any) -> bytes:
    return b"{%b}" % b",".join(b'"%d":%b' % pair for pair in parts.items())


def _saved(saved: Saved) -> bytes:
    return json.dumps({"files": saved.files}).encode()


def _broken(broken: Broken) -> bytes:
    error = TorchGaugeError(broken.error, hint=broken.hint)
    error.exit_status = broken.exit_status
    problems = {}
    for language in LANGUAGES:
        with spoken(language):
            problems[language] = failure_data(error)
    return json.dumps({"version": asdict(broken.heading), "problems": problems}).encode()
