"""What a step finds that the steps before it have left: states, and gradients not yet let go.

The recorder sees one step that finds no gradients and makes the optimizer's states.
"""

from __future__ import annotations

from dataclasses import dataclass

from torchgauge.facts.scenario import ZeroGrad
from torchgauge.facts.trace import Phase, Role, StorageRecord, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """Storages of the trace that are there before the step as well; those on the host left out."""

    states: tuple[StorageRecord, ...] = ()
    """The optimizer's states: alive from the start to the end."""
    gradients: tuple[StorageRecord, ...] = ()
    """Gradients of the step before."""
    gradients_end: int = 0
    """Event before which the old gradients are let go."""

    @property
    def nbytes(self) -> int:
        """Return the bytes that are there before the step."""
        return sum(storage.nbytes for storage in (*self.states, *self.gradients))

    def after(self, event: int) -> tuple[StorageRecord, ...]:
        """Return what of it is still there after an event."""
        return self.states if event >= self.gradients_end else (*self.states, *self.gradients)


def carried_over(trace: Trace) -> Carried:
    """Return what the step finds; the very first step finds nothing."""
    if trace.scenario.first_step:
        return Carried()
    on_device = [storage for storage in trace.storages if not storage.is_host]
    states = tuple(storage for storage in on_device if storage.role is Role.OPTIMIZER_STATE)
    if trace.scenario.zero_grad is not ZeroGrad.BEFORE_BACKWARD:
        return Carried(states=states)  # kept gradients are in the trace, others are gone
    freed = {event.storage for event in trace.events if event.is_free}
    gradients = tuple(s for s in on_device if s.role is Role.GRADIENT and s.index not in freed)
    ends = dict(reversed(trace.phase_ends))  # of the first micro-batch
    end = ends.get(Phase.LOSS, len(trace.events))
    return Carried(states=states, gradients=gradients, gradients_end=end)
