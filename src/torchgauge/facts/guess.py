"""Which of the assumptions are guesses."""

from __future__ import annotations

from collections.abc import Collection, Iterable


class Guess(str):
    """An assumption that a figure hangs on and that nobody has stated or measured.

    All others say how the figures are made. It is text like them, so that a list of assumptions
    is one of strings; ``--strict`` and the saved report tell it apart.

    >>> guesses(("read as a batch", Guess("1.0 was taken")))
    ('1.0 was taken',)
    """

    __slots__ = ()


def guesses(assumptions: Iterable[str]) -> tuple[str, ...]:
    """Return the guesses among assumptions."""
    return tuple(text for text in assumptions if isinstance(text, Guess))


def with_guesses(assumptions: Iterable[str], guessed: Collection[str]) -> tuple[str, ...]:
    """Return assumptions with those that are guesses marked as such."""
    return tuple(Guess(text) if text in guessed else text for text in assumptions)
