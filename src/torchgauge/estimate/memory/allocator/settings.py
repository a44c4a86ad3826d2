"""The settings of PyTorch's CUDA caching allocator, read as each torch release reads them.

Sources: ``c10/core/AllocatorConfig.{h,cpp}`` and ``c10/cuda/CUDAAllocatorConfig.{h,cpp}`` of
pytorch/pytorch. What changed from one release to the next is in :data:`RELEASES` and
:data:`KEYS`, one row each with its source.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Self

from torchgauge.errors import AllocatorSettingsError
from torchgauge.estimate.memory.allocator.keys import KEYS, Key, ReleaseRules, rules_of

MIB: Final = 1 << 20
ROUNDUP_INTERVALS: Final = 16
"""Powers of two from 1 MiB to 32 GiB and above that have their own number of divisions."""

DEFAULT_LARGE_SEGMENT: Final = 20 * MIB
MOST_THREADS: Final = 128
"""Of ``pinned_num_register_threads`` (``CUDAAllocatorConfig::pinned_max_register_threads``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorSettings:
    """What the caching allocator was told; the defaults are torch's.

    >>> AllocatorSettings.parse("max_split_size_mb:128,expandable_segments:False")
    ... # doctest: +ELLIPSIS
    AllocatorSettings(torch_release='2.13', max_split_bytes=134217728, ...)
    """

    torch_release: str = "2.13"
    """``major.minor`` of the torch whose rules are followed."""
    max_split_bytes: int | None = None
    """Blocks of this size and more are never split; ``None``: all may be split."""
    max_non_split_rounding_bytes: int = DEFAULT_LARGE_SEGMENT
    """How much larger than an unsplittable request the cached block that serves it may be."""
    roundup_power2_divisions: tuple[int, ...] = (0,) * ROUNDUP_INTERVALS
    """Divisions between powers of two, for the intervals that start at 1 MiB, 2 MiB, …"""
    garbage_collection_threshold: float = 0.0
    """Share of the allowed memory above which idle blocks are released; 0: never."""
    expandable_segments: bool = False
    large_segment_bytes: int = DEFAULT_LARGE_SEGMENT
    """Segment that serves requests above 1 MiB and below 10 MiB; page of an expandable one."""
    memory_fraction: float | None = None
    """Share of the device that the process may use, as ``set_per_process_memory_fraction``."""
    without_effect: tuple[str, ...] = ()
    """Keys that were given, are valid, and change no size on the device."""

    @classmethod
    def parse(cls, text: str, torch_release: str = "2.13") -> Self:
        """Read the text of ``PYTORCH_CUDA_ALLOC_CONF`` or ``PYTORCH_ALLOC_CONF``.

        Args:
            text: ``key:value,key:[a:b,c:d]``; empty for the defaults.
            torch_release: the torch that reads it, as ``2.6`` or ``2.13.0+cu130``.

        Raises:
            AllocatorSettingsError: for an unknown key, a key that the release does not have, or
                a value that it refuses.
        """
        rules = rules_of(torch_release)
        given = _pairs(text)
        fields: dict[str, object] = {"torch_release": rules.release}
        ignored: list[str] = []
        large = _read_large_segment(given, rules)
        fields["large_segment_bytes"] = large
        fields["max_non_split_rounding_bytes"] = large
        for name, value in given:
            key = _key(name, rules)
            if key.field == "large_segment_bytes":
                continue
            read = _read(key, value, rules, large)
            if key.field is None:
                ignored.append(name)
            else:
                fields[key.field] = read
        return cls(**fields, without_effect=tuple(ignored))  # type: ignore[arg-type]

    def allowed_bytes(self, device_total_bytes: int | None) -> int | None:
        """Return the limit that ``memory_fraction`` sets on a device of that size."""
        if self.memory_fraction is None or device_total_bytes is None:
            return None
        return int(self.memory_fraction * device_total_bytes)


def _pairs(text: str) -> list[tuple[str, str]]:
    """Return the keys with their values as text, white space dropped as torch drops it."""
    plain = re.sub(r"\s+", "", text).removesuffix(",")  # one comma at the end is let pass
    if not plain:
        return []
    pairs = []
    for part in re.split(r",(?![^\[]*\])", plain):
        name, colon, value = part.partition(":")
        if not name or not colon or not value:
            raise _refused(f"{part!r} is not key:value", "write max_split_size_mb:128")
        if ":" in value and not value.startswith("["):
            raise _refused(f"{part!r} is more than one key:value", "put commas between them")
        pairs.append((name, value))
    return pairs


def _key(name: str, rules: ReleaseRules) -> Key:
    key = KEYS.get(name)
    if key is None:
        known = [key.name for key in KEYS.values() if key.since <= rules.version]
        alike = get_close_matches(name, known, n=1)
        hint = f"perhaps {alike[0]}" if alike else f"one of {', '.join(known)}"
        raise _refused(f"unknown key {name!r}", hint)
    if key.since > rules.version:
        since = ".".join(map(str, key.since))
        raise _refused(
            f"torch {rules.release} has no key {name!r}", f"torch {since} or newer knows it"
        )
    return key


def _read(key: Key, value: str, rules: ReleaseRules, large: int) -> object:
    match key.kind:
        case "megabytes":
            return _read_split_size(key.name, value, rules, large)
        case "divisions":
            return _read_divisions(value, rules)
        case "flag":
            return _read_flag(key.name, value)
        case "share":
            return _read_share(key.name, value)
        case "threads":
            if (threads := _power_of_two(key.name, value)) > MOST_THREADS:
                raise _refused(f"{key.name}:{value} is too many", f"at most {MOST_THREADS}")
            return threads
        case "backend":
            return _read_backend(value)
    number = _integer(key.name, value)
    if key.kind == "positive" and number == 0:
        raise _refused(f"{key.name}:{value} is too small", "at least 1")
    return number


def _read_large_segment(given: list[tuple[str, str]], rules: ReleaseRules) -> int:
    """Return the large segment's size, read before the sizes that must not be below it."""
    large = DEFAULT_LARGE_SEGMENT
    for name, value in given:
        if name == "large_segment_size_mb":
            _key(name, rules)
            large = _integer(name, value) * MIB
            if large <= 10 * MIB:
                raise _refused(f"{name}:{value} must be above 10", "the default is 20")
    return large


def _read_split_size(name: str, value: str, rules: ReleaseRules, large: int) -> int:
    size = _integer(name, value) * MIB
    if size < large or (size == large and not rules.split_size_may_equal_large_segment):
        bound = "at least" if rules.split_size_may_equal_large_segment else "above"
        raise _refused(f"{name}:{value} is too small", f"{bound} {large // MIB}")
    return size


def _read_divisions(value: str, rules: ReleaseRules) -> tuple[int, ...]:
    """Return the divisions per interval, from one number or from ``[256:1,512:2,>:4]``."""
    name = "roundup_power2_divisions"
    if not value.startswith("["):
        return (_power_of_two(name, value),) * ROUNDUP_INTERVALS
    if not value.endswith("]"):
        raise _refused(f"{name}:{value} has no closing bracket", "[256:1,512:2,>:4]")
    divisions = [0] * ROUNDUP_INTERVALS
    last: int | None = None
    for part in value[1:-1].split(","):
        start, _, count_text = part.partition(":")
        count = 0 if count_text == "0" else _power_of_two(name, count_text)
        if start == ">":
            first = 0 if last is None else last
            # Before the fix, '>' also overwrote the interval named just before it.
            first += rules.rest_starts_after_last_interval
            divisions[first:] = [count] * (ROUNDUP_INTERVALS - first)
            continue
        index = min(_power_of_two(name, start).bit_length() - 1, ROUNDUP_INTERVALS - 1)
        if last is None:
            divisions[:index] = [count] * index
        divisions[index] = count
        last = index
    return tuple(divisions)


def _read_flag(name: str, value: str) -> bool:
    if value not in ("True", "False"):
        raise _refused(f"{name}:{value} is neither True nor False", "torch wants the capital")
    return value == "True"


def _read_share(name: str, value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        raise _refused(f"{name}:{value} is not a number", "a share such as 0.8") from None
    # A fraction of 1 is torch's default for the process; a threshold of 1 would never be met.
    if not 0 < share < 1 and not (share in (0, 1) and name == "per_process_memory_fraction"):
        raise _refused(f"{name}:{value} is not a share", "a number between 0 and 1")
    return share


def _read_backend(value: str) -> str:
    if value == "cudaMallocAsync":
        raise _refused(
            "backend:cudaMallocAsync is CUDA's own pool, which is not modelled", "backend:native"
        )
    if value != "native":
        raise _refused(f"unknown backend {value!r}", "native")
    return value


def _integer(name: str, value: str) -> int:
    """Return the number as C's ``stoi`` reads it: what follows the digits is dropped."""
    digits = re.match(r"[0-9]+", value)
    if digits is None:
        raise _refused(f"{name}:{value} is not a whole number", f"{name}:64")
    return int(digits[0])


def _power_of_two(name: str, value: str) -> int:
    number = _integer(name, value)
    if number < 1 or number & (number - 1):
        raise _refused(f"{name}: {value} is not a power of two", "1, 2, 4, 8, …")
    return number


def _refused(message: str, hint: str) -> AllocatorSettingsError:
    return AllocatorSettingsError(f"allocator settings: {message}", hint=hint)
