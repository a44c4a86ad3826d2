"""What each torch release's allocator settings know, and the rules that changed between releases.

Data: a row per key and per release, with its source. "released library" means the strings and
the behaviour of ``libc10.so`` and ``libc10_cuda.so`` in that release's wheel for Linux x86-64,
read on 2026-11-24 (2.6.0, 2.7.1, 2.8.0, 2.9.1, 2.10.0, 2.11.0, 2.12.0, 2.13.0).
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

from torchgauge.errors import AllocatorSettingsError

Version = tuple[int, int]
Kind = Literal["megabytes", "divisions", "share", "flag", "count", "positive", "threads", "backend"]

OLDEST: Final[Version] = (2, 6)
"""The oldest torch that torchgauge supports, and so the oldest whose rules are kept."""


_LIBRARY: Final = "released library"


class Key(NamedTuple):
    """One key of ``PYTORCH_CUDA_ALLOC_CONF``."""

    name: str
    kind: Kind
    field: str | None = None
    """The field of ``AllocatorSettings`` that it sets; ``None``: it changes no device size."""
    since: Version = OLDEST
    """The first release that knows it; :data:`OLDEST` for everything older than that."""
    source: str = _LIBRARY


class ReleaseRules(NamedTuple):
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


_KEYS: Final = (
    Key("max_split_size_mb", "megabytes", "max_split_bytes"),
    Key("max_non_split_rounding_mb", "megabytes", "max_non_split_rounding_bytes",
        source=f"{_LIBRARY}; pytorch PR 136174 (2024-09)"),
    Key("roundup_power2_divisions", "divisions", "roundup_power2_divisions",
        source=f"{_LIBRARY}; pytorch PRs 87290, 93942, 126830"),
    Key("garbage_collection_threshold", "share", "garbage_collection_threshold"),
    Key("expandable_segments", "flag", "expandable_segments"),
    Key("large_segment_size_mb", "megabytes", "large_segment_bytes", since=(2, 11),
        source=f"{_LIBRARY}; pytorch PR 172056 (2026-01)"),
    Key("per_process_memory_fraction", "share", "memory_fraction", since=(2, 10)),
    Key("backend", "backend"),
    Key("release_lock_on_cudamalloc", "flag"),
    Key("release_lock_on_hipmalloc", "flag"),
    Key("pinned_use_cuda_host_register", "flag"),
    Key("pinned_use_hip_host_register", "flag"),
    Key("pinned_num_register_threads", "threads"),
    Key("pinned_use_background_threads", "flag"),
    Key("graph_capture_record_stream_reuse", "flag", since=(2, 9)),
    Key("pinned_reserve_segment_size_mb", "positive", since=(2, 10),
        source=f"{_LIBRARY}; pytorch PR 164501 (2025-10)"),
    Key("pinned_free_catch_all", "flag", since=(2, 12)),
    Key("throw_on_cudamalloc_oom", "flag", since=(2, 12)),
    Key("pinned_max_round_threshold_mb", "count", since=(2, 13)),
    Key("pinned_max_cached_size_mb", "count", since=(2, 13)),
)  # fmt: skip
KEYS: Final[dict[str, Key]] = {key.name: key for key in _KEYS}

RELEASES: Final = (
    ReleaseRules((2, 6), False, False, False,
        f"{_LIBRARY} 2.6.0: 'too small, must be >'; CUDAAllocatorConfig.cpp"),
    ReleaseRules((2, 10), True, True, False,
        f"{_LIBRARY} 2.10.0: 'too small, must be >='; pytorch PR 165304 (2025-10)"),
    ReleaseRules((2, 12), True, True, True,
        f"{_LIBRARY} 2.12.0; pytorch PR 178362 (2026-03)"),
    ReleaseRules((2, 13), True, True, False,
        f"{_LIBRARY} 2.13.0; pytorch PRs 182929 and 183591 (2026-05)"),
)  # fmt: skip
"""Rows in the order of the releases; each holds until the next one."""
NEWEST: Final = RELEASES[-1].version
"""The newest release whose keys and rules were read."""


def rules_of(torch_release: str) -> ReleaseRules:
    """Return the rules of a torch release such as ``2.6``, ``2.13.0`` or ``2.13.0+cu130``.

    Releases newer than the last row follow the last row.

    Raises:
        AllocatorSettingsError: for text that is not a release, or a release that is too old.
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
    return row._replace(version=version)
