"""What can be chosen: a candidate, with what it keeps, drops and computes again."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torchgauge.checkpoints.step.candidates import Candidate
from torchgauge.checkpoints.step.saved import Kept
from torchgauge.facts.choices.checkpointing import KeptOperator, Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """What one execution of a candidate's forward means when it is recomputed."""

    dropped: tuple[tuple[Kept, int], ...]
    """What it makes for its own backward, each with the time from which that needs it no more."""
    end_op: int
    """The second forward ends before this operator."""
    begin: int
    """The time just before its forward begins."""
    start: int
    """The time just before its backward begins."""
    end: int
    """The time at which its backward has ended."""
    peak_bytes: int
    """The most that the second forward has of its own."""
    held: tuple[Kept, ...] = ()
    """Outputs of kept operators that no backward needs: they live until it begins."""

    @property
    def nbytes(self) -> int:
        """Return the bytes that are dropped."""
        return sum(block.nbytes for block, _ in self.dropped)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A candidate that would save something."""

    candidate: Candidate
    again: tuple[Again, ...]
    cost: float
    flops: int
    kept: tuple[KeptOperator, ...] = ()
    """Operators whose outputs are kept."""
    blocks: frozenset[int] = frozenset()
    """Storages of what would be dropped, were they not kept."""

    @property
    def place(self) -> Place:
        """Return what is checkpointed, and what is kept of it."""
        return replace(self.candidate.place, kept=self.kept)

    @property
    def nbytes(self) -> int:
        """Return the bytes that are dropped, over all executions."""
        return sum(item.nbytes for item in self.again)
