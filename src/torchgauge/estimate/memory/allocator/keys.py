"""What each torch release's allocator settings know, and the rules that changed between releases.

Data: a row per key (``keys.csv``) and per release, with its source. "released library" means the
strings and the behaviour of ``libc10.so`` and ``libc10_cuda.so`` in that release's wheel for Linux
x86-64, read on 2026-11-24 (2.6.0, 2.7.1, 2.8.0, 2.9.1, 2.10.0, 2.11.0, 2.12.0, 2.13.0).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from torchgauge.devices.tables import rows_beside
from torchgauge.errors import AllocatorSettingsError

Version = tuple[int, int]

OLDEST: Final[Version] = (2, 6)
"""The oldest torch that torchgauge supports, and so the oldest whose rules are kept."""
_LIBRARY: Final = "released library"


class Key(NamedTuple):
    """One key of ``PYTORCH_CUDA_ALLOC_CONF``."""

    name: str
    kind: str
    field: str | None
    """The field of ``AllocatorSettings`` that it sets; ``None``: it changes no device size."""
    since: Version
    """The first release that knows it; :data:`OLDEST` for everything older than that."""
    source: str


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


def _version(text: str) -> Version:
    major, minor = map(int, text.split("."))
    return major, minor


KEYS: Final[Mapping[str, Key]] = {
    row["name"]: Key(
        row["name"], row["kind"], row["field"] or None, _version(row["since"]), row["source"]
    )
    for row in rows_beside(__file__)
}

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
