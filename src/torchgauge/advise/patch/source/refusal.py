"""Why there is no patch."""

from __future__ import annotations


class NoPatch(Exception):
    """A change cannot be written into the source honestly; its text says why."""
