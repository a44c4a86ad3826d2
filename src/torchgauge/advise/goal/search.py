"""The way to a goal: the best change, the next on top of it, and a step back where that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torchgauge.advise.figures import price_of, saved
from torchgauge.advise.goal.combinations import Combinations, State
from torchgauge.advise.goal.goals import is_reached
from torchgauge.changes.change import Change
from torchgauge.facts.loop.advice import Accuracy, Goal

LIMIT = 40
"""Combinations that one search traces at most."""
_WIDTH = 3
"""States that are kept of each length, where the greedy way has failed."""
_BRANCHES = 4
"""Changes that are tried on top of each of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Look for the changes that reach a goal, those that cost less accuracy first."""

    goal: Goal
    made: Combinations
    singles: Sequence[State]
    """One change each; also those that save nothing alone: a peak moves when others are made."""
    plan: Change | None = None
    """A change that is made anew on top of others, so that they reach the goal together."""

    def run(self) -> State:
        """Return the state that reaches the goal with no change too many, or the nearest to it."""
        base = self.made.base
        if self._reached(base):
            return base
        found = self._alone() or self._greedy()
        if not self._reached(found) and self._may_lead_there():
            found = min((found, self._with_plan(self._beam())), key=self._figure)
        if not self._reached(found):
            return found
        return self._milder(self._without_needless(self._faster(found)))

    def _reached(self, state: State) -> bool:
        return is_reached(self.goal, state.figures, state.fits)

    def _figure(self, state: State) -> float:
        return state.figures.get(self.goal.figure, float("inf"))

    def _is_nearer(self, state: State | None, than: State) -> bool:
        return state is not None and self._figure(state) < self._figure(than)

    def _worth(self, single: State) -> float:
        """Return the share of the goal's figure that a change saves alone, by what it costs."""
        base = self.made.base.figures
        return saved(self.goal.figure, base, single.figures) / price_of(base, single.figures)

    @property
    def _adds_up(self) -> bool:
        # Memory and time have a peak and a bottleneck, which move.
        return self.goal.figure.startswith("totals.")

    def _may_lead_there(self) -> bool:
        """Return whether all changes could reach the goal if none stood in another's way."""
        base = self.made.base
        all_saved = sum(max(self._figure(base) - self._figure(s), 0) for s in self.singles)
        return not self._adds_up or self._figure(base) - all_saved <= self.goal.most

    def _candidates(self, accuracies: Sequence[Accuracy]) -> list[State]:
        found = [
            single
            for single in self.singles
            if single.accuracy in accuracies
            and (self._worth(single) > 0 or not self._adds_up)
            and not single.changes[0].follows
        ]
        return sorted(found, key=self._worth, reverse=True)

    def _alone(self) -> State | None:
        """Return the single change that is enough: the fastest step of the least accuracy lost.

        Of several of one axis, such as two ratios of pruning, the mildest.
        """
        base = self.made.base.figures
        for accuracy in Accuracy:
            planned = [s for s in self.singles if s.changes[0].follows and s.accuracy is accuracy]
            found = (*self._candidates((accuracy,)), *planned)
            enough = [single for single in found if self._reached(single)]
            mildest: dict[str, State] = {}
            for single in sorted(enough, key=self._figure):  # the last one is the mildest
                change = single.changes[0]
                is_of_axis = change.axis and not change.follows  # a plan is the mildest already
                mildest[change.axis if is_of_axis else str(id(change))] = single
            if mildest:
                return min(
                    mildest.values(), key=lambda s: (price_of(base, s.figures), self._figure(s))
                )
        return None

    def _greedy(self) -> State:
        """Add whatever brings the goal nearer, until it is reached or nothing does.

        Before more accuracy is lost, the plan is made for what remains.
        """
        state = self.made.base
        nearest = min(
            (state, *(single for single in self.singles if single.changes[0].follows)),
            key=self._figure,
        )
        for accuracy in Accuracy:
            waiting, before = self._candidates((accuracy,)), None
            while state is not before and not self._reached(state):
                before = state
                for single in waiting:
                    further = self._further(state, single.changes[0])
                    if further is not None:
                        state = further
                    if self._reached(state):
                        return state
            planned = self._with_plan(state)
            if self._reached(planned):
                return planned
            nearest = min((nearest, planned), key=self._figure)
        return nearest

    def _with_plan(self, state: State) -> State:
        """Return a state with the plan, where that is nearer; best without what takes longer."""
        if self.plan is None or self._reached(state):
            return state
        fast = self._planned(self._fast(state.changes))
        if fast is not None and self._reached(fast):
            return fast
        found = (state, fast, self._planned(state.changes))
        return min((item for item in found if item is not None), key=self._figure)

    def _planned(self, changes: Sequence[Change]) -> State | None:
        """Return the step with some changes and the plan, in the place of other checkpoints."""
        assert self.plan is not None
        others = [change for change in changes if change.axis != self.plan.axis]
        return self.made.together([*others, self.plan]) if others else None

    def _fast(self, changes: Sequence[Change]) -> list[Change]:
        """Return those changes with which a step takes no longer."""
        slow = {id(single.changes[0]) for single in self.singles if self._price(single) > 1.0}
        return [change for change in changes if id(change) not in slow]

    def _faster(self, state: State) -> State:
        """Return the state with the plan in the place of all that takes longer, where it helps."""
        if self.plan is None or len(state.changes) < 2 or self._has_plan(state):
            return state
        planned = self._planned(self._fast(state.changes))
        if planned is None or not self._reached(planned):
            return state
        return planned if self._price(planned) < self._price(state) else state

    def _price(self, state: State) -> float:
        return price_of(self.made.base.figures, state.figures)

    @staticmethod
    def _has_plan(state: State) -> bool:
        return any(change.follows for change in state.changes)

    def _further(self, state: State, change: Change) -> State | None:
        if state.excludes(change):
            return None
        further = self.made.further(state, change)
        return further if self._is_nearer(further, state) else None

    def _beam(self) -> State:
        """Follow several ways at once: the best first step may bar the only way."""
        best = self.made.base
        frontier = [best]
        candidates = self._candidates(tuple(Accuracy))
        while frontier and not self.made.exhausted:
            found: dict[frozenset[int], State] = {}
            for state in frontier:
                for further in self._branches(state, candidates):
                    found[frozenset(map(id, further.changes))] = further
            frontier = sorted(found.values(), key=self._figure)[:_WIDTH]
            best = min((best, *frontier), key=self._figure)
            if any(map(self._reached, frontier)):
                return next(filter(self._reached, frontier))
        return best

    def _branches(self, state: State, candidates: Sequence[State]) -> Iterator[State]:
        open_ones = [s.changes[0] for s in candidates if not state.excludes(s.changes[0])]
        for change in open_ones[:_BRANCHES]:
            further = self._further(state, change)
            if further is not None:
                yield further

    def _without_needless(self, state: State) -> State:
        """Return the state without the changes that the goal does not need, costly ones first.

        Of a plan more is recomputed where others are left out: not where that takes longer and
        no accuracy is kept by it.
        """
        for change in sorted(state.changes, key=_cost, reverse=True):
            rest = [other for other in state.changes if other is not change]
            without = self.made.together(rest)
            if without is None or not self._reached(without):
                continue
            is_slower = self._has_plan(without) and self._price(without) > self._price(state)
            if not is_slower or without.accuracy.rank < state.accuracy.rank:
                state = without
        return state

    def _milder(self, state: State) -> State:
        """Return the state with the mildest of each kind that is enough, such as less pruning."""
        for change in state.changes:
            for milder in self._milder_than(change):
                others = [milder if c is change else c for c in state.changes]
                found = self.made.together(others)
                if found is not None and self._reached(found):
                    return self._milder(found)
        return state

    def _milder_than(self, change: Change) -> Iterator[Change]:
        """Yield the changes of its axis that save less and lose no more, the mildest first."""
        if change.follows:  # it is the mildest that is enough
            return
        own = next(single for single in self.singles if single.changes[0] is change)
        for single in sorted(self.singles, key=self._figure, reverse=True):
            other = single.changes[0]
            is_sibling = change.axis and other.axis == change.axis
            loses_more = other.accuracy.rank > change.accuracy.rank
            if is_sibling and not loses_more and self._figure(single) > self._figure(own):
                yield other


def _cost(change: Change) -> tuple[int, bool]:
    return change.accuracy.rank, bool(change.cost)


def prefixes(state: State, together: Callable[[Sequence[Change]], State | None]) -> Iterator[State]:
    """Yield the state after each of its changes, as it was traced."""
    for count in range(1, len(state.changes) + 1):
        step = together(state.changes[:count])
        if step is not None:
            yield step
