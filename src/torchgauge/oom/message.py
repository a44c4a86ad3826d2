"""Read the figures of an out-of-memory error, as every release of torch since 1.0 words it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from torchgauge.errors import UsageError
from torchgauge.facts.loop.oom import OomMessage, ProcessMemory, StatedBytes
from torchgauge.oom.frames import frames_of
from torchgauge.oom.wordings import FIGURES, GPU, PROCESS, START, UNITS, WORDINGS

_LONGEST: Final = 2000
"""Characters after its beginning in which a message ends."""


def read_message(text: str) -> OomMessage:
    """Return the figures of the first out-of-memory error in a text: a message, a log, a traceback.

    Raises:
        UsageError: there is none, or it gives no figures.
    """
    starts = list(START.finditer(text))
    if not starts:
        raise UsageError(
            "the text holds no out-of-memory error of torch",
            hint="pass the whole message: CUDA out of memory. Tried to allocate …",
        )
    start = starts[0]
    end = starts[1].start() if len(starts) > 1 else len(text)
    # A log may have broken the message into lines.
    line = " ".join(text[start.start() : min(end, start.start() + _LONGEST)].split())
    figures = {name: _figure(line, forms) for name, forms in FIGURES.items()}
    tried, allocated = figures["tried"], figures["allocated"]
    if tried is None or allocated is None:
        missing = "what was asked for" if tried is None else "what was allocated"
        raise UsageError(
            f"the error does not say {missing}, so its place cannot be found",
            hint="pass the whole message, up to: reserved by PyTorch but unallocated",
        )
    unallocated, reserved = figures["unallocated"], figures["reserved"]
    if reserved is None and unallocated is not None:
        reserved = StatedBytes(
            least=allocated.least + unallocated.least, most=allocated.most + unallocated.most
        )
    gpu = GPU.search(line)
    phase, operator, lines = frames_of(text[: start.start()])
    return OomMessage(
        backend=start[1] if start[1] not in (None, "Error") else "CUDA",
        wording=next((releases for mark, releases in WORDINGS if mark in line), ""),
        gpu=int(gpu[1]) if gpu else None,
        tried=tried,
        allocated=allocated,
        capacity=figures["capacity"],
        free=figures["free"],
        reserved=reserved,
        allowed=figures["allowed"],
        private=figures["private"],
        processes=tuple(_processes(line)),
        asks_exactly="Requested" in line,
        messages=len(starts),
        phase=phase,
        operator=operator,
        lines=lines,
    )


def _figure(line: str, forms: tuple[str, ...]) -> StatedBytes | None:
    found = next(filter(None, (re.search(form, line) for form in forms)), None)
    return None if found is None else stated(found[1], found[2])


def stated(number: str, unit: str) -> StatedBytes:
    """Return between which bytes a size lies that is written like this.

    >>> stated("2.00", "MiB")
    StatedBytes(least=2091909, most=2102395)
    """
    size = UNITS[unit]
    decimals = len(number.partition(".")[2])
    half = 0.0 if size == 1 else size * 0.5 * 10.0**-decimals
    value = float(number) * size
    return StatedBytes(least=max(int(value - half), 0), most=max(int(value + half), 0))


def _processes(line: str) -> Iterator[ProcessMemory]:
    for found in PROCESS.finditer(line):
        pid = int(found[1]) if found[1] else None
        yield ProcessMemory(pid=pid, used=stated(found[2], found[3]))
