"""Two traces of the same step laid side by side, op by op: the microscope of all accuracy work."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum

from torchgauge.facts.trace import OpRecord, TensorSpec, Trace


class DifferenceKind(StrEnum):
    """What two ops at the same place differ in; the worst first."""

    MISSING = "missing"
    """Ran for real and was not simulated."""
    EXTRA = "extra"
    """Was simulated and did not run."""
    KERNEL = "kernel"
    """Another kernel was chosen."""
    SHAPE = "shape"
    DTYPE = "dtype"
    BYTES = "bytes"
    """The op allocated another number of bytes."""
    FREED = "freed"
    """Storages that it made were freed earlier or later."""


_AT_THE_END = -1
"""The moment after the last op that both sides have."""
_SEVERITY = {kind: rank for rank, kind in enumerate(DifferenceKind)}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpDifference:
    """One difference, with the ops it was seen on (-1 where there is none)."""

    kind: DifferenceKind
    real_op: int
    simulated_op: int
    name: str
    path: str
    """Module that the op serves."""
    phase: str
    real: str
    simulated: str
    nbytes: int = 0
    """How many bytes are at stake; orders differences of one kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamComparison:
    """How much of two op streams is the same, and every difference, the worst first."""

    real_ops: int
    simulated_ops: int
    equal_ops: int
    differences: tuple[OpDifference, ...]

    @property
    def identical(self) -> bool:
        """Return whether kernels, shapes, dtypes, order, bytes and lifetimes are all the same."""
        return not self.differences

    @property
    def share_equal(self) -> float:
        """Return the share of ops without any difference, of the longer stream."""
        longest = max(self.real_ops, self.simulated_ops)
        return self.equal_ops / longest if longest else 1.0

    def by_kind(self) -> dict[DifferenceKind, int]:
        """Return how many differences there are of each kind."""
        return dict(Counter(difference.kind for difference in self.differences))


def compare_traces(real: Trace, simulated: Trace, *, lifetimes: bool = True) -> StreamComparison:
    """Align two traces by kernel and list every difference.

    Bytes and lifetimes are compared for ops that were aligned; ``lifetimes=False`` leaves the
    moments of freeing out.
    """
    pairs = list(_align(real.ops, simulated.ops))
    numbers = {left.index: number for number, (left, right) in enumerate(pairs) if left and right}
    numbers_simulated = {
        right.index: number for number, (left, right) in enumerate(pairs) if left and right
    }
    sides = (_Side(real, numbers), _Side(simulated, numbers_simulated))
    differences: list[OpDifference] = []
    equal = 0
    for left, right in pairs:
        found = list(_compare(left, right, sides, lifetimes))
        equal += not found
        differences += found
    differences.sort(key=lambda d: (_SEVERITY[d.kind], -d.nbytes, d.real_op, d.simulated_op))
    return StreamComparison(
        real_ops=len(real.ops),
        simulated_ops=len(simulated.ops),
        equal_ops=equal,
        differences=tuple(differences),
    )


def _align(
    real: tuple[OpRecord, ...], simulated: tuple[OpRecord, ...]
) -> Iterator[tuple[OpRecord | None, OpRecord | None]]:
    left, right = [op.name for op in real], [op.name for op in simulated]
    if left == right:
        yield from zip(real, simulated, strict=True)
        return
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    for tag, start, end, other_start, other_end in matcher.get_opcodes():
        ours, theirs = real[start:end], simulated[other_start:other_end]
        if tag in ("equal", "replace"):
            common = min(len(ours), len(theirs))
            yield from zip(ours[:common], theirs[:common], strict=True)
            ours, theirs = ours[common:], theirs[common:]
        for op in ours:
            yield op, None
        for op in theirs:
            yield None, op


class _Side:
    """What one trace allocated in each op, and when it was freed, in pairs of the alignment."""

    def __init__(self, trace: Trace, numbers: dict[int, int]) -> None:
        self.trace = trace
        self._bytes: defaultdict[int, list[int]] = defaultdict(list)
        self._freed: defaultdict[int, list[int | None]] = defaultdict(list)
        # Freed between two ops means: before the next op that both sides have.
        following = [numbers.get(op.index) for op in trace.ops]
        upcoming: int | None = _AT_THE_END
        for index in range(len(following) - 1, -1, -1):
            upcoming = following[index] if following[index] is not None else upcoming
            following[index] = upcoming
        moments = {
            event.storage: following[event.op] if event.op < len(following) else _AT_THE_END
            for event in trace.events
            if event.is_free
        }
        for storage in trace.storages:
            if storage.op >= 0:
                self._bytes[storage.op].append(storage.nbytes)
                self._freed[storage.op].append(moments.get(storage.index))

    def path(self, op: OpRecord) -> str:
        return self.trace.calls[op.call].path if op.call >= 0 else ""

    def allocated(self, op: OpRecord) -> list[int]:
        return self._bytes.get(op.index, [])

    def freed(self, op: OpRecord) -> list[int | None]:
        return self._freed.get(op.index, [])


def _compare(
    real: OpRecord | None,
    simulated: OpRecord | None,
    sides: tuple[_Side, _Side],
    lifetimes: bool,
) -> Iterator[OpDifference]:
    left, right = sides
    if real is None or simulated is None:
        op, side = (simulated, right) if real is None else (real, left)
        assert op is not None
        yield _difference(
            DifferenceKind.EXTRA if real is None else DifferenceKind.MISSING,
            real, simulated, side.path(op), "" if real is None else _outputs(op),
            _outputs(op) if real is None else "", sum(side.allocated(op)),
        )  # fmt: skip
        return
    path = left.path(real)
    aspects = [
        (DifferenceKind.KERNEL, real.name, simulated.name),
        (DifferenceKind.SHAPE, _shapes(real), _shapes(simulated)),
        (DifferenceKind.DTYPE, _dtypes(real), _dtypes(simulated)),
        (DifferenceKind.BYTES, str(left.allocated(real)), str(right.allocated(simulated))),
    ]
    if lifetimes:
        aspects.append((DifferenceKind.FREED, str(left.freed(real)), str(right.freed(simulated))))
    at_stake = abs(sum(left.allocated(real)) - sum(right.allocated(simulated)))
    for kind, ours, theirs in aspects:
        if ours != theirs:
            yield _difference(kind, real, simulated, path, ours, theirs, at_stake)
            if kind is DifferenceKind.KERNEL:
                return  # whatever else differs follows from it


def _difference(
    kind: DifferenceKind,
    real: OpRecord | None,
    simulated: OpRecord | None,
    path: str,
    ours: str,
    theirs: str,
    nbytes: int,
) -> OpDifference:
    op = real or simulated
    assert op is not None
    return OpDifference(
        kind=kind,
        real_op=real.index if real else -1,
        simulated_op=simulated.index if simulated else -1,
        name=op.name,
        path=path,
        phase=str(op.phase),
        real=ours,
        simulated=theirs,
        nbytes=nbytes,
    )


def _shapes(op: OpRecord) -> str:
    inputs = [list(spec.shape) for spec in _tensors(op.args)]
    return f"{inputs} → {[list(spec.shape) for spec in op.outputs]}"


def _dtypes(op: OpRecord) -> str:
    return f"{[spec.dtype for spec in _tensors(op.args)]} → {[spec.dtype for spec in op.outputs]}"


def _outputs(op: OpRecord) -> str:
    return ", ".join(f"{list(spec.shape)} {spec.dtype}" for spec in op.outputs)


def _tensors(values: object) -> Iterator[TensorSpec]:
    if isinstance(values, TensorSpec):
        yield values
    elif isinstance(values, tuple):
        for value in values:
            yield from _tensors(value)
