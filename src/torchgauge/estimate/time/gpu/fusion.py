"""What ``torch.compile`` makes of a step: chains of element-wise work become one kernel.

A chain grows along the trace: an operator joins when it reads what the chain made, or reads and
makes as many elements as it, and nothing else has needed the chain's results in between. A product,
a convolution or an attention ends it, as they stay kernels of their own (Inductor calls cuBLAS and
cuDNN). The fused kernel reads what comes from outside once and writes what is needed outside.

Source: PyTorch, ``torch/_inductor/scheduler.py`` (``can_fuse``: no intermediate user, equal
numbers of elements, reductions with their producers and consumers).

Assumes: one graph, no breaks; default mode, without CUDA graphs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torchgauge.estimate.time.gpu.timeline import Issue
from torchgauge.estimate.time.kernels.kinds import Kind
from torchgauge.estimate.time.kernels.operators import kernels_of
from torchgauge.estimate.time.kernels.traffic import given_tensors
from torchgauge.estimate.time.kernels.work import Work
from torchgauge.estimate.time.steady import is_first_step_only, is_on_host
from torchgauge.facts.trace import OpRecord, Trace

FUSABLE = frozenset(
    {Kind.ELEMENTWISE, Kind.BROADCAST, Kind.CAST, Kind.COPY, Kind.NORM, Kind.REDUCTION,
     Kind.SCALAR, Kind.INDEXING, Kind.BATCH_NORM}
)  # fmt: skip


@dataclass(slots=True)
class _Chain:
    """A kernel in the making."""

    ops: list[OpRecord] = field(default_factory=list)
    works: list[Work] = field(default_factory=list)
    made: set[int] = field(default_factory=set)
    elements: float = 0.0

    def takes(self, op: OpRecord, work: Work) -> bool:
        if not self.ops:
            return True
        related = any(index in self.made for index in op.reads)
        alike = work.elements == self.elements
        return related or alike or work.kind is Kind.SCALAR

    def add(self, op: OpRecord, work: Work) -> None:
        self.ops.append(op)
        self.works.append(work)
        self.made.update(op.writes)
        self.elements = max(self.elements, work.elements)


def fused(trace: Trace, c: Mapping[str, float]) -> Iterator[Issue]:
    """Yield what the CPU issues of a compiled step, in order."""
    last_use = _last_use(trace)
    launch = c["dispatch.compiled_us"] * 1e-6
    chain = _Chain()
    for op in trace.ops:
        works = kernels_of(op)
        if not works or is_first_step_only(trace, op) or is_on_host(trace, op):
            continue
        if len(works) == 1 and works[0].kind in FUSABLE:
            if not chain.takes(op, works[0]):
                yield from _closed(chain, last_use, launch)
                chain = _Chain()
            chain.add(op, works[0])
            continue
        yield from _closed(chain, last_use, launch)
        chain = _Chain()
        yield Issue(op=op, works=works, dispatch_seconds=launch * len(works))
    yield from _closed(chain, last_use, launch)


def _last_use(trace: Trace) -> dict[int, int]:
    """Return the op that reads each storage last; what outlives the step counts as read after."""
    found: dict[int, int] = {}
    for op in trace.ops:
        for index in op.reads:
            found[index] = op.index
    freed = {event.storage for event in trace.events if event.is_free}
    for storage in trace.storages:
        if storage.index not in freed:
            found[storage.index] = len(trace.ops)
    return found


def _closed(chain: _Chain, last_use: Mapping[int, int], launch: float) -> Iterator[Issue]:
    if not chain.ops:
        return
    if len(chain.ops) == 1:
        yield Issue(op=chain.ops[0], works=tuple(chain.works), dispatch_seconds=launch)
        return
    kind = max(chain.works, key=lambda work: work.nbytes).kind
    heavy = Kind.NORM if any(work.kind is Kind.NORM for work in chain.works) else kind
    yield Issue(
        op=chain.ops[-1],
        works=(
            Work(
                kind=heavy,
                dtype=chain.works[-1].dtype,
                elements=chain.elements,
                read_bytes=_read_from_outside(chain),
                written_bytes=_needed_outside(chain, last_use),
            ),
        ),
        dispatch_seconds=launch,
    )


def _read_from_outside(chain: _Chain) -> float:
    largest: dict[int, int] = {}
    made: set[int] = set()
    for op in chain.ops:
        for index, tensor in zip(op.reads, given_tensors(op), strict=False):
            if index not in made:
                largest[index] = max(largest.get(index, 0), tensor.nbytes)
        made.update(op.writes)
    return float(sum(largest.values()))


def _needed_outside(chain: _Chain, last_use: Mapping[int, int]) -> float:
    end = chain.ops[-1].index
    written: dict[int, int] = {}
    for op in chain.ops:
        for index, tensor in zip(op.writes, op.outputs, strict=False):
            if last_use.get(index, end) > end or op is chain.ops[-1]:
                written[index] = max(written.get(index, 0), tensor.nbytes)
    return float(sum(written.values()))
