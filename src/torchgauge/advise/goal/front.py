"""Where there is no goal: the combinations of which none is better in every respect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from torchgauge.advise.goal.combinations import Combinations, State
from torchgauge.changes.change import Change

LIMIT: Final = 12
"""Combinations that are traced at most for it."""
_LEAST: Final = 4
_OPERATORS: Final = 10_000
"""In all these traces together, more or less: four thousand take a second."""
MOST_ROWS: Final = 8
_MEMORY: Final = ("memory.device_bytes", "memory.peak_allocated_bytes")
_SPEED: Final = ("time.total_ms", "totals.forward_macs")


def limit_of(operators: int) -> int:
    """Return how many combinations are traced of a step with as many operators.

    >>> limit_of(500), limit_of(1_500), limit_of(4_000)
    (12, 6, 4)
    """
    return min(max(_OPERATORS // max(operators, 1), _LEAST), LIMIT)


def axes_of(state: State) -> tuple[str, str] | None:
    """Return the two figures that are weighed against each other: memory, and time or MACs."""
    memory = next((name for name in _MEMORY if state.figures.get(name)), None)
    speed = next((name for name in _SPEED if state.figures.get(name)), None)
    return None if memory is None or speed is None else (memory, speed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """Looks for combinations that save more than what is known, and keeps the best."""

    axes: tuple[str, str]
    made: Combinations
    singles: Sequence[State]

    def run(self) -> tuple[State, ...]:
        """Return the best, those of least memory first; no more than fit a short table."""
        best = self._best([self.made.base, *self.singles])
        while (pair := self._next(best)) is not None:
            further = self.made.further(*pair)
            if self.made.exhausted:
                break
            if further is not None:
                best = self._best([*best, further])
        best.sort(key=self._point)
        return tuple(_spread(best))

    def _point(self, state: State) -> tuple[float, float, int]:
        memory, speed = (state.figures.get(name, float("inf")) for name in self.axes)
        return memory, speed, state.accuracy.rank

    def _best(self, states: Sequence[State]) -> list[State]:
        points = [self._point(state) for state in states]
        return [
            state
            for number, state in enumerate(states)
            if not any(
                _is_better(other, points[number]) or (other == points[number] and position < number)
                for position, other in enumerate(points)
            )
        ]

    def _next(self, best: Sequence[State]) -> tuple[State, Change] | None:
        """Return the most promising pair of a state and a change that was not traced yet.

        It is guessed that both save the same shares together as apart. What is shown is traced.
        """
        points = [self._point(state) for state in best]
        found: list[tuple[float, int, State, Change]] = []
        for state in best:
            for single in self.singles:
                change = single.changes[0]
                if not state.changes or state.excludes(change):
                    continue
                if self.made.knows((*state.changes, change)):
                    continue
                guess = self._guess(state, single)
                if not any(_is_better(point, guess) or point == guess for point in points):
                    found.append((guess[0] * guess[1], len(found), state, change))
        if not found:
            return None
        _, _, state, change = min(found, key=lambda item: item[:2])
        return state, change

    def _guess(self, state: State, single: State) -> tuple[float, float, int]:
        base = self._point(self.made.base)
        ours, theirs = self._point(state), self._point(single)
        memory, speed = (ours[axis] * theirs[axis] / base[axis] for axis in (0, 1))
        return memory, speed, max(ours[2], theirs[2])


def _is_better(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Return whether a point is as good in every respect and better in one.

    >>> _is_better((1, 2), (1, 3)), _is_better((1, 3), (2, 2)), _is_better((1, 2), (1, 2))
    (True, False, False)
    """
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def _spread(states: Sequence[State]) -> Iterable[State]:
    """Return as many as a short table has rows, from one end to the other."""
    if len(states) <= MOST_ROWS:
        return states
    last = len(states) - 1
    return [states[round(row * last / (MOST_ROWS - 1))] for row in range(MOST_ROWS)]
