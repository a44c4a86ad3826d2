"""What can be recomputed: module calls, and neighbouring children of an ``nn.Sequential``."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torchgauge.facts.choices.checkpointing import Place
from torchgauge.facts.trace import ModuleCall, Phase, Role, Trace

ALL_PAIRS = 12
"""Up to so many children every stretch is a candidate; of more, those of equal lengths that begin
at a multiple of their length, as ``checkpoint_sequential`` cuts them."""
FEW = 64
"""Up to so many children stretches of every length are candidates."""
_ROUND = (2, 4, 8, 16, 32, 64)
"""Lengths of stretches among more children."""
_COUNTERS = "num_batches_tracked"
"""Batch norms count the steps: the copy that is recomputed leaves the count alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One execution of a candidate's forward: calls and operators in a row."""

    first_call: int
    end_call: int
    first_op: int
    end_op: int

    def holds(self, call: int) -> bool:
        """Return whether a call is the candidate's, or inside of it."""
        return self.first_call <= call < self.end_call


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Something that may be checkpointed, with each of its executions in the step."""

    place: Place
    type: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """What can be recomputed, and what cannot."""

    found: tuple[Candidate, ...]
    refused: tuple[str, ...]
    """Paths whose second forward would not do what the first did."""


def candidates_of(trace: Trace, sequentials: Iterable[str] = ()) -> Candidates:
    """Return every module call whose forward can be run again.

    ``sequentials`` are the paths of modules that run their children one after the other.
    """
    kinds = {module.path: module.type for module in trace.modules}
    by_path: defaultdict[str, list[ModuleCall]] = defaultdict(list)
    for call in trace.calls:
        if call.phase is not Phase.BACKWARD:
            by_path[call.path].append(call)
    ends = _ends(trace.calls)
    harm = _Harm(trace)
    found: list[Candidate] = []
    refused: list[str] = []
    for path, calls in by_path.items():
        if not path:
            continue
        candidate = Candidate(
            place=Place(path), type=kinds.get(path, ""), spans=tuple(_span(c, ends) for c in calls)
        )
        if any(map(harm.is_in, candidate.spans)):
            refused.append(path)
        else:
            found.append(candidate)
    for path in sequentials:
        found += (
            item
            for item in _stretches(path, by_path, kinds, ends)
            if not any(map(harm.is_in, item.spans))
        )
    return Candidates(found=tuple(found), refused=tuple(refused))


def _ends(calls: tuple[ModuleCall, ...]) -> list[int]:
    """Return per call the index of the first later call that is not inside of it."""
    ends = [call.index + 1 for call in calls]
    for call in reversed(calls):
        if call.parent >= 0:
            ends[call.parent] = max(ends[call.parent], ends[call.index])
    return ends


def _span(call: ModuleCall, ends: list[int]) -> Span:
    return Span(
        first_call=call.index,
        end_call=ends[call.index],
        first_op=call.first_op,
        end_op=call.end_op,
    )


def _stretches(
    path: str,
    by_path: Mapping[str, list[ModuleCall]],
    kinds: Mapping[str, str],
    ends: list[int],
) -> Iterator[Candidate]:
    """Yield the stretches of a ``Sequential`` whose children are each called once per call."""
    owners = by_path.get(path, [])
    prefix = f"{path}." if path else ""
    names: list[str] = []
    while f"{prefix}{len(names)}" in by_path:
        names.append(f"{prefix}{len(names)}")
    columns = [by_path[name] for name in names]
    if not owners or any(len(calls) != len(owners) for calls in columns):
        return
    if any(c.parent != o.index for calls in columns for c, o in zip(calls, owners, strict=True)):
        return
    for first, end in _cuts(len(names)):
        yield Candidate(
            place=Place(path, first, end),
            type=kinds.get(path, ""),
            spans=tuple(
                Span(
                    first_call=columns[first][row].index,
                    end_call=ends[columns[end - 1][row].index],
                    first_op=columns[first][row].first_op,
                    end_op=columns[end - 1][row].end_op,
                )
                for row in range(len(owners))
            ),
        )


def _cuts(count: int) -> Iterator[tuple[int, int]]:
    """Yield where stretches of two and more children begin and end.

    >>> list(_cuts(3))
    [(0, 2), (0, 3), (1, 3)]
    >>> len(list(_cuts(24))), len(list(_cuts(1000)))
    (48, 983)
    """
    if count <= ALL_PAIRS:
        for first in range(count):
            for end in range(first + 2, count + 1):
                yield first, end
        return
    lengths = range(2, count // 2 + 1) if count <= FEW else _ROUND
    for length in lengths:
        for first in range(0, count - length + 1, length):
            yield first, first + length


class _Harm:
    """Where a second forward would do harm: operators that write into what came from outside.

    Written into before the call's end, the second forward writes once more; written into after it,
    the second forward reads something else.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        born = {e.storage: e.op for e in trace.events if not e.is_free}
        self._born = born
        self._writes: list[tuple[int, int]] = []
        """Operator and storage of each write in place of the forward, in order."""
        for op in trace.ops:
            if op.phase in (Phase.FORWARD, Phase.LOSS) and not op.is_view:
                for storage in dict.fromkeys(op.writes):
                    if born.get(storage, -1) < op.index and not self._is_counter(storage):
                        self._writes.append((op.index, storage))
        self._last: dict[int, int] = {storage: op for op, storage in self._writes}

    def _is_counter(self, storage: int) -> bool:
        record = self._trace.storages[storage]
        return record.role is Role.BUFFER and record.label.rpartition(".")[2] == _COUNTERS

    def is_in(self, span: Span) -> bool:
        start = bisect_left(self._writes, (span.first_op, -1))
        end = bisect_left(self._writes, (span.end_op, -1))
        if any(self._born.get(s, -1) < span.first_op for _, s in self._writes[start:end]):
            return True
        for op in self._trace.ops[span.first_op : span.end_op]:
            for storage in op.reads:
                if self._born.get(storage, -1) >= span.first_op:
                    continue
                if self._last.get(storage, -1) >= span.end_op:
                    return True
        return False
