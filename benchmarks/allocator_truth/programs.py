"""Random programs for an allocator, the same on every Python, and the model's answer to them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.allocator_truth import loops
from torchgauge.errors import SimulatedOutOfMemoryError
from torchgauge.estimate.memory.allocator import AllocatorSettings, Block, CachingAllocator

T = TypeVar("T")

Step = tuple[str, int, int, int]
"""``("a", key, nbytes, stream)`` allocate, ``("f", key, 0, 0)`` free, ``("e", 0, 0, 0)`` empty the
cache, ``("r", key, 0, stream)`` record a stream, ``("s", 0, 0, stream)`` that stream is done."""

Row = tuple[int, ...]
"""Failed or not, requested, allocated, active, reserved bytes, segments, retries."""

RELEASES = ("2.6.0", "2.7.1", "2.8.0", "2.9.1", "2.10.0", "2.11.0", "2.12.0", "2.13.0")

SETTINGS = (
    "",
    "expandable_segments:True",
    "max_split_size_mb:21",
    "max_split_size_mb:64",
    "max_split_size_mb:32,max_non_split_rounding_mb:100",
    "roundup_power2_divisions:4",
    "roundup_power2_divisions:[1:1,4:2,16:8,>:4]",
    "garbage_collection_threshold:0.6",
    "garbage_collection_threshold:0.3,max_split_size_mb:40",
    "expandable_segments:True,max_split_size_mb:40",
    "expandable_segments:True,roundup_power2_divisions:8",
    "large_segment_size_mb:40",
    "large_segment_size_mb:12,expandable_segments:True",
    "large_segment_size_mb:64,max_split_size_mb:64",
)

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A program with the allocator and the device that it runs on."""

    release: str
    settings: str
    seed: int
    device_bytes: int
    fraction: float
    """Limit of the process as a share of the device; 0 for none."""
    is_loop: bool = False
    """Whether it is a training loop under ``cudnn.benchmark`` (``loops.py``)."""

    def steps(self) -> list[Step]:
        """Return the program."""
        return loops.program(self.seed) if self.is_loop else program(self.seed)


def cases(per_pair: int, *, first: int = 0) -> list[Case]:
    """Return ``per_pair`` cases for each release and each of the settings that it knows.

    Seeds count from ``first``.
    """
    found: list[Case] = []
    for release in RELEASES:
        for settings in SETTINGS:
            if "large_segment" in settings and _version(release) < (2, 11):
                continue
            for _ in range(per_pair):
                seed = first + len(found)
                draw = random.Random(seed)
                found.append(
                    Case(
                        release=release,
                        settings=settings,
                        seed=seed,
                        device_bytes=_pick(draw, (1 << 40, 1 << 30, 300 * MIB, 150 * MIB)),
                        fraction=_pick(draw, (0.0, 0.5, 0.731)),
                    )
                )
    return found


def loop_cases(release: str, count: int) -> list[Case]:
    """Return training loops on a device with room and on ones where the cache has to go."""
    return [
        Case(
            release=release,
            settings=SETTINGS[seed % 2],
            seed=seed,
            device_bytes=(1 << 40, 800 * MIB, 400 * MIB)[seed % 3],
            fraction=0.0,
            is_loop=True,
        )
        for seed in range(count)
    ]


def _version(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))


def _pick(draw: random.Random, choices: Sequence[T]) -> T:
    # random() alone is promised to stay the same from one Python to the next.
    return choices[int(draw.random() * len(choices))]


def program(seed: int, length: int = 400) -> list[Step]:
    """Return a program that allocates, frees, empties the cache and uses other streams."""
    draw = random.Random(seed)
    largest = _pick(draw, (20, 24, 26, 28))
    sizes = [int(2 ** (draw.random() * largest)) for _ in range(_pick(draw, (5, 30, 300)))]
    streams = _pick(draw, (1, 1, 2, 3))
    crosses = draw.random() < 0.3
    steps: list[Step] = []
    live: list[int] = []
    key = 0
    while len(steps) < length:
        chance = draw.random()
        if chance < 0.02:
            steps.append(("e", 0, 0, 0))
        elif crosses and live and chance < 0.10:
            steps.append(("r", _pick(draw, live), 0, int(draw.random() * (streams + 1))))
        elif crosses and chance < 0.14:
            steps.append(("s", 0, 0, int(draw.random() * (streams + 1))))
        elif live and chance < 0.5:
            index = int(draw.random() * len(live)) if draw.random() < 0.5 else -1
            steps.append(("f", live.pop(index), 0, 0))
        else:
            steps.append(("a", key, _pick(draw, sizes), int(draw.random() * streams)))
            live.append(key)
            key += 1
        if draw.random() < 0.01:
            for _ in range(int(draw.random() * len(live))):
                steps.append(("f", live.pop(int(draw.random() * len(live))), 0, 0))
    return steps


def run_model(case: Case) -> list[Row]:
    """Return what the model counts after each step."""
    allowed = int(case.fraction * case.device_bytes) if case.fraction else None
    allocator = CachingAllocator(
        AllocatorSettings.parse(case.settings, case.release),
        case.device_bytes,
        allowed_bytes=allowed,
    )
    live: dict[int, Block | None] = {}
    rows = []
    for what, key, nbytes, stream in case.steps():
        failed = 0
        if what == "a":
            try:
                live[key] = allocator.allocate(nbytes, stream)
            except SimulatedOutOfMemoryError:
                failed = 1
        elif what == "f":
            allocator.free(live.pop(key, None))
        elif what == "e":
            allocator.empty_cache()
        elif what == "r":
            allocator.record_stream(live.get(key), stream)
        else:
            allocator.synchronize(stream)
        rows.append((failed, *_counters(allocator)))
    return rows


def _counters(allocator: CachingAllocator) -> Row:
    return (
        allocator.requested_bytes,
        allocator.allocated_bytes,
        allocator.active_bytes,
        allocator.reserved_bytes,
        allocator.segments,
        allocator.retries,
    )
