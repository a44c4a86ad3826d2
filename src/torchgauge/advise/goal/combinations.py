"""Changes on top of each other: each combination is made and traced, and no gain is added up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torchgauge.advise.measured import Measured
from torchgauge.advise.rules import rule_of
from torchgauge.changes.change import Change, applied, in_shape
from torchgauge.changes.inputs import Ran
from torchgauge.errors import TorchGaugeError
from torchgauge.facts.loop.advice import Accuracy
from torchgauge.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The step with some changes, as it was traced."""

    changes: tuple[Change, ...] = ()
    """In the order in which they are made."""
    request: Request
    figures: dict[str, float]
    fits: bool
    """Whether it fits the device that it was traced for."""
    plan: Change | None = None
    """The last change as it was made here, where it depends on those before it."""

    @property
    def last(self) -> Change:
        """Return the last change, as it was made."""
        return self.plan or self.changes[-1]

    @property
    def accuracy(self) -> Accuracy:
        """Return how far its changes go."""
        return max((c.accuracy for c in self.changes), key=_rank, default=Accuracy.NONE)

    def excludes(self, change: Change) -> bool:
        """Return whether a change is there already, or another of its axis."""
        return any(c is change or (c.axis and c.axis == change.axis) for c in self.changes)


def _rank(accuracy: Accuracy) -> int:
    return accuracy.rank


def state_of(
    changes: tuple[Change, ...], request: Request, found: Measured, plan: Change | None = None
) -> State:
    """Return a step with some changes and what it came to; ``plan`` is the last as it was made."""
    return State(
        changes=changes, request=request, figures=found.figures, fits=found.fits, plan=plan
    )


MOST_PLANS = 8
"""Changes that follow the others that one search makes at most: each takes several traces."""


@dataclass(slots=True, kw_only=True)
class Combinations:
    """What was traced: the step as it is, with one change each, and with several."""

    base: State
    ran: Ran
    traced: Callable[[Request, str], Measured]
    limit: int
    """Combinations that are traced at most."""
    anew: Callable[[Request, str], Change | None] | None = None
    """Traces a step under a name and plans its checkpoints; ``None`` where a plan does not help."""
    plans: int = 0
    """How many such changes were made."""
    count: int = 0
    exhausted: bool = False
    """Whether one was left out because of the limit."""
    _known: dict[frozenset[int], State | None] = field(default_factory=dict)

    def remember(self, state: State) -> None:
        """Keep a state that was traced elsewhere."""
        self._known[_key(state.changes)] = state

    def allow(self, more: int) -> None:
        """Allow as many further combinations."""
        self.limit, self.exhausted = self.count + more, False

    def knows(self, changes: Sequence[Change]) -> bool:
        """Return whether a combination was traced, or cannot be made."""
        return _key(changes) in self._known

    def further(self, state: State, change: Change) -> State | None:
        """Return the state with one change more; ``None`` where it cannot be made or run.

        ``None`` as well where the limit is reached.
        """
        return self._traced(state, (change,))

    def together(self, changes: Sequence[Change], *, whatever: bool = False) -> State | None:
        """Return the step with these changes; with ``whatever`` beyond the limit as well."""
        return self._traced(self.base, tuple(changes), whatever=whatever)

    def _traced(
        self, state: State, more: tuple[Change, ...], *, whatever: bool = False
    ) -> State | None:
        changes = tuple(sorted((*state.changes, *more), key=lambda change: change.follows))
        if any(change.follows for change in state.changes):  # what was made for other changes
            state, more = self.base, changes
        key = _key(changes)
        if not changes:
            return self.base
        if key in self._known:
            return self._known[key]
        if self.count >= self.limit and not whatever:
            self.exhausted = True
            return None
        self.count += 1
        self._known[key] = self._made(state.request, changes, more)
        return self._known[key]

    def _made(
        self, request: Request, changes: tuple[Change, ...], more: tuple[Change, ...]
    ) -> State | None:
        names, plan = [change.name for change in changes if not change.follows], None
        try:
            for change in sorted(more, key=lambda change: change.follows):
                if change.follows:
                    if not names:  # alone it was tried already
                        return None
                    plan = self._planned(request, " + ".join(names))
                    if plan is None:
                        return None
                    names.append(plan.name)
                made = plan or change
                request = applied(in_shape(made), request, rule_of(made.rule), self.ran)
            found = self.traced(request, " + ".join(names))
        except TorchGaugeError:  # one change has taken away what another is about
            return None
        return state_of(changes, request, found, plan)

    def _planned(self, request: Request, what: str) -> Change | None:
        """Return the change that follows the others; ``None`` where it is of no use.

        ``None`` as well where as many were made as may be.
        """
        assert self.anew is not None, "a change that follows others needs a goal"
        if self.plans >= MOST_PLANS:
            self.exhausted = True
            return None
        self.plans += 1
        return self.anew(request, what)


def _key(changes: Sequence[Change]) -> frozenset[int]:
    """Return what names a set of changes; the objects are kept as long as the states."""
    return frozenset(map(id, changes))
