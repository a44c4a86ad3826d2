"""What each torch release's allocator settings know, and the rules that changed between releases.

Data: a row per key and per release, with its source. "released library" means the strings and
the behaviour of ``libc10.so`` and ``libc10_cuda.so`` in that release's wheel for Linux x86-64,
read on 2026-11-24 (2.6.0, 2.7.1, 2.8.0, 2.9.1, 2.10.0, 2.11.0, 2.12.0, 2.13.0).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, Literal

from torchgauge.errors import AllocatorSettingsError

Version = tuple[int, int]
Kind = Literal["megabytes", "divisions", "share", "flag", "count", "positive", "threads", "backend"]

OLDEST: Final[Version] = (2, 6)
"""The oldest torch that torchgauge supports, and so the oldest whose rules are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of ``PYTORCH_CUDA_ALLOC_CONF``."""

    name: str
    kind: Kind
    since: Version = OLDEST
    """The first release that knows it; :data:`OLDEST` for everything older than that."""
    field: str | None = None
    """The field of ``AllocatorSettings`` that it sets; ``None``: it changes no device size."""
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRules:
    """The rules of the settings that differ between releases, from ``version`` on."""

    version: Version
    split_size_may_equal_large_segment: bool
    """Whether ``max_split_size_mb`` may be as small as the large segment."""
    rest_starts_after_last_interval: bool
    """Whether ``>`` in the divisions leaves the interval named just before it alone."""
    equals_by_block_number: bool
    """Whether free blocks of one size are taken in the order in which they were made.

    Otherwise the lowest address is, or since 2.13 the oldest segment and then the address: the
    same thing for a device that hands out rising addresses.
    """
    source: str

    @property
    def release(self) -> str:
        """The release as ``major.minor``."""
        return f"{self.version[0]}.{self.version[1]}"


_LIBRARY: Final = "released library"

KEYS: Final[dict[str, Key]] = {
    key.name: key
    for key in (
        Key(
            name="max_split_size_mb",
            kind="megabytes",
            field="max_split_bytes",
            source=_LIBRARY,
        ),
        Key(
            name="max_non_split_rounding_mb",
            kind="megabytes",
            field="max_non_split_rounding_bytes",
            source=f"{_LIBRARY}; pytorch PR 136174 (2024-09)",
        ),
        Key(
            name="roundup_power2_divisions",
            kind="divisions",
            field="roundup_power2_divisions",
            source=f"{_LIBRARY}; pytorch PRs 87290, 93942, 126830",
        ),
        Key(
            name="garbage_collection_threshold",
            kind="share",
            field="garbage_collection_threshold",
            source=_LIBRARY,
        ),
        Key(
            name="expandable_segments",
            kind="flag",
            field="expandable_segments",
            source=_LIBRARY,
        ),
        Key(
            name="large_segment_size_mb",
            kind="megabytes",
            since=(2, 11),
            field="large_segment_bytes",
            source=f"{_LIBRARY}; pytorch PR 172056 (2026-01)",
        ),
        Key(
            name="per_process_memory_fraction",
            kind="share",
            since=(2, 10),
            field="memory_fraction",
            source=_LIBRARY,
        ),
        Key(name="backend", kind="backend", source=_LIBRARY),
        Key(name="release_lock_on_cudamalloc", kind="flag", source=_LIBRARY),
        Key(name="release_lock_on_hipmalloc", kind="flag", source=_LIBRARY),
        Key(name="pinned_use_cuda_host_register", kind="flag", source=_LIBRARY),
        Key(name="pinned_use_hip_host_register", kind="flag", source=_LIBRARY),
        Key(name="pinned_num_register_threads", kind="threads", source=_LIBRARY),
        Key(name="pinned_use_background_threads", kind="flag", source=_LIBRARY),
        Key(
            name="graph_capture_record_stream_reuse",
            kind="flag",
            since=(2, 9),
            source=_LIBRARY,
        ),
        Key(
            name="pinned_reserve_segment_size_mb",
            kind="positive",
            since=(2, 10),
            source=f"{_LIBRARY}; pytorch PR 164501 (2025-10)",
        ),
        Key(name="pinned_free_catch_all", kind="flag", since=(2, 12), source=_LIBRARY),
        Key(name="throw_on_cudamalloc_oom", kind="flag", since=(2, 12), source=_LIBRARY),
        Key(name="pinned_max_round_threshold_mb", kind="count", since=(2, 13), source=_LIBRARY),
        Key(name="pinned_max_cached_size_mb", kind="count", since=(2, 13), source=_LIBRARY),
    )
}

RELEASES: Final[tuple[ReleaseRules, ...]] = (
    ReleaseRules(
        version=(2, 6),
        split_size_may_equal_large_segment=False,
        rest_starts_after_last_interval=False,
        equals_by_block_number=False,
        source=f"{_LIBRARY} 2.6.0: 'too small, must be >'; CUDAAllocatorConfig.cpp",
    ),
    ReleaseRules(
        version=(2, 10),
        split_size_may_equal_large_segment=True,
        rest_starts_after_last_interval=True,
        equals_by_block_number=False,
        source=f"{_LIBRARY} 2.10.0: 'too small, must be >='; pytorch PR 165304 (2025-10)",
    ),
    ReleaseRules(
        version=(2, 12),
        split_size_may_equal_large_segment=True,
        rest_starts_after_last_interval=True,
        equals_by_block_number=True,
        source=f"{_LIBRARY} 2.12.0; pytorch PR 178362 (2026-03)",
    ),
    ReleaseRules(
        version=(2, 13),
        split_size_may_equal_large_segment=True,
        rest_starts_after_last_interval=True,
        equals_by_block_number=False,
        source=f"{_LIBRARY} 2.13.0; pytorch PRs 182929 and 183591 (2026-05)",
    ),
)
"""Rows in the order of the releases; each holds until the next one."""
NEWEST: Final = RELEASES[-1].version
"""The newest release whose keys and rules were read."""


def rules_of(torch_release: str) -> ReleaseRules:
    """Return the rules of a torch release such as ``2.6``, ``2.13.0`` or ``2.13.0+cu130``.

    Releases newer than the last row follow the last row.

    Raises:
        AllocatorSettingsError: for text that is no release, or one that is too old.
    """
    match = re.match(r"(\d+)\.(\d+)(?![0-9])", torch_release)
    if match is None:
        raise AllocatorSettingsError(
            f"{torch_release!r} is not a torch release", hint="write 2.6 or 2.13"
        )
    version = (int(match[1]), int(match[2]))
    if version < OLDEST:
        raise AllocatorSettingsError(
            f"the allocator rules of torch {torch_release} are not known",
            hint=f"{OLDEST[0]}.{OLDEST[1]} is the oldest",
        )
    row = [rules for rules in RELEASES if rules.version <= version][-1]
    return replace(row, version=version)
