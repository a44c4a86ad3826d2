"""What ``torch.compile`` makes of a step: element-wise work becomes few kernels.

Operators join in one kernel where one reads what the other makes, both go over as many elements,
and no third stands between them. Products, convolutions and attention stay kernels of their own
(Inductor calls cuBLAS and cuDNN), but a convolution's bias is added by who reads its result. A
fused kernel reads what comes from outside once and writes what is needed outside. Element-wise
results that no product needs are never written: each kernel that needs them computes them again.

Source: PyTorch, ``torch/_inductor/scheduler.py`` (``can_fuse``: no intermediate user, equal
numbers of elements, reductions with their producers and consumers), ``torch/_inductor/ir.py``
(``StorageBox.should_realize_on_reuse``: what is computed again) and
``torch/_inductor/kernel/conv.py`` (``convolution``: the bias).

Assumes: one graph, no breaks; default mode, without CUDA graphs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from torchgauge.estimate.arguments import argument, given_tensors
from torchgauge.estimate.time.gpu.timeline import Issue
from torchgauge.estimate.time.kernels.kinds import NO_KERNEL, Kind
from torchgauge.estimate.time.kernels.operators import kernels_of, packet_of
from torchgauge.estimate.time.kernels.work import Work
from torchgauge.estimate.time.steady import is_first_step_only, is_on_host
from torchgauge.facts.scenario import Mode
from torchgauge.facts.trace import OpRecord, Phase, Trace

_AVERAGE = {"grouped": 1.358, "small": 0.783, "in_out": 0.725, "default": 0.823}
"""Time with channels last, of NCHW, by the kind of convolution. Source: PyTorch,
``torch/_inductor/graph.py`` (``decide_layout_opt``)."""
_FEW_CHANNELS, _NODES_PER_CONVOLUTION = 64, 300
_MOST_JOINED = 8
_MOST_SOURCES = 8, 4
"""Tensors that an element is computed again from, for one user and for several; of more, it is
written. Source: PyTorch, ``torch/_inductor/config.py`` (``realize_acc_reads_threshold``,
``realize_reads_threshold``)."""

_ELEMENTWISE = frozenset(
    {Kind.ELEMENTWISE, Kind.BROADCAST, Kind.CAST, Kind.COPY, Kind.SCALAR, Kind.BATCH_NORM}
)
FUSABLE = _ELEMENTWISE | {Kind.NORM, Kind.REDUCTION, Kind.INDEXING, Kind.POOLING, Kind.UPSAMPLING}
_Sources = dict[int, float]
"""Storages, and the bytes of each that a whole result is computed from."""


@dataclass(slots=True, eq=False)
class _Group:
    """Operators that become one kernel."""

    number: int
    phase: Phase
    elements: float
    ops: list[OpRecord] = field(default_factory=list)
    works: list[Work] = field(default_factory=list)
    read: dict[int, float] = field(default_factory=dict)
    """Bytes of the storages that come from outside, of parts that are read: at most all."""
    made: dict[int, int] = field(default_factory=dict)
    ancestors: int = 0
    """The groups that it needs, a bit for each."""
    bits: int = 0
    """Its own, and those of the groups that it absorbed."""
    computes: bool = False
    """It computes again what others make too."""
    reduced: int = 0
    """Elements that its last reduction leaves, which operators may go over in the same kernel."""

    def __post_init__(self) -> None:
        self.bits = 1 << self.number

    def add(self, op: OpRecord, work: Work, sources: _Sources) -> None:
        self._note_read(sources)
        for index, tensor in zip(op.writes, op.outputs, strict=False):
            self.made[index] = max(self.made.get(index, 0), tensor.nbytes)
        if work.kind is Kind.REDUCTION:
            self.reduced = op.outputs[0].numel
        self.ops.append(op)
        self.works.append(work)

    def _note_read(self, sources: _Sources) -> None:
        for index, nbytes in sources.items():
            if index not in self.made:
                self.read[index] = self.read.get(index, 0.0) + nbytes

    def absorb(self, other: _Group) -> None:
        """Take another group's operators, which none of this group's needs by way of a third."""
        self._note_read(other.read)
        self.made.update(other.made)
        self.ops.extend(other.ops)
        self.works.extend(other.works)
        self.bits |= other.bits
        self.ancestors = (self.ancestors | other.ancestors) & ~self.bits
        self.computes |= other.computes
        self.reduced = other.reduced or self.reduced


class _Graph:
    """The kernels of a compiled step, made operator by operator."""

    def __init__(self, users: Mapping[tuple[int, int], int]) -> None:
        self.users = users
        self.count = 0
        self.groups: dict[int, _Group] = {}
        self.makers: dict[int, _Group] = {}
        """The group that made a storage last."""
        self.recipes: dict[int, tuple[Phase, int, Mapping[int, float]]] = {}
        """What is computed again where it is needed: its phase, its bytes, what it needs."""
        self.computed: set[tuple[int, int]] = set()
        """Storages and the operators that compute them again."""

    def add(self, op: OpRecord, works: tuple[Work, ...], *, makes: bool = True) -> None:
        """Put an operator into the group of what it reads, if that is possible, or a new one."""
        work = works[0]
        makers = {self.makers[i].number: self.makers[i] for i in op.reads if i in self.makers}
        needed = 0
        for group in makers.values():
            needed |= group.ancestors | group.bits
        joined: _Group | None = None
        if len(works) == 1 and work.kind in FUSABLE and work.kind is not Kind.POOLING:
            for group in makers.values():
                if self._joins(op, work, group, makers):
                    joined = group if joined is None else self._merged(joined, group)
        if joined is None:
            pools = work.kind is Kind.POOLING  # a thread for each result, not for each input
            elements = op.outputs[0].numel if pools else work.elements
            joined = _Group(number=self.count, phase=op.phase, elements=elements)
            self.groups[self.count] = joined
            self.count += 1
        joined.ancestors |= needed & ~joined.bits
        if work.kind not in FUSABLE or work.kind is Kind.POOLING:
            for index in op.reads:  # it is written, for whoever needs it
                self.recipes.pop(index, None)
        joined.add(op, work, self._sources(op, joined))
        joined.works.extend(works[1:])
        if makes:
            self.makers.update(dict.fromkeys(op.writes, joined))
            self._note(op, work)

    def _sources(self, op: OpRecord, group: _Group) -> _Sources:
        """Return what a kernel reads for an operator, beyond what it computes again."""
        found: _Sources = {}
        for index, tensor in zip(op.reads, given_tensors(op), strict=False):
            recipe = self.recipes.get(index)
            if recipe is None or index in group.made or recipe[0] is not op.phase:
                found[index] = found.get(index, 0.0) + tensor.nbytes
                continue
            self.computed.add((index, op.index))
            group.computes = True
            share = min(1.0, tensor.nbytes / max(1, recipe[1]))
            for source, nbytes in recipe[2].items():
                found[source] = found.get(source, 0.0) + share * nbytes
        return found

    def _note(self, op: OpRecord, work: Work) -> None:
        """Remember of what an operator's result can be computed again."""
        sources: _Sources = {}
        for index, tensor in zip(op.reads, given_tensors(op), strict=False):
            _, nbytes, known = self.recipes.get(index, (op.phase, 0, {index: tensor.nbytes}))
            share = min(1.0, tensor.nbytes / nbytes) if nbytes else 1.0
            sources |= {source: share * size for source, size in known.items()}
        for index, tensor in zip(op.writes, op.outputs, strict=False):
            most = _MOST_SOURCES[self.users[op.index, index] > 1]
            self.recipes.pop(index, None)
            if work.kind in _ELEMENTWISE and len(sources) <= most and index not in sources:
                self.recipes[index] = op.phase, tensor.nbytes, sources

    def _joins(self, op: OpRecord, work: Work, group: _Group, makers: Mapping[int, _Group]) -> bool:
        if group.phase is not op.phase or group.works[0].kind not in FUSABLE:
            return False
        sizes = group.elements, group.reduced
        if work.kind is not Kind.SCALAR and work.elements not in sizes:
            return False
        others = (other for other in makers.values() if other is not group)
        return not any(other.ancestors & group.bits for other in others)

    def _merged(self, first: _Group, second: _Group) -> _Group:
        if first is second or second.number not in self.groups:
            return first
        if first.ancestors & second.bits or second.ancestors & first.bits:
            return first
        early, late = sorted((first, second), key=lambda group: group.number)
        early.absorb(late)
        del self.groups[late.number]
        for index in late.made:
            if self.makers[index] is late:
                self.makers[index] = early
        return early


def fused(trace: Trace, c: Mapping[str, float]) -> Iterator[Issue]:
    """Yield what the CPU issues of a compiled step, in order."""
    launch = c["dispatch.compiled_us"] * 1e-6
    channels_last = chooses_channels_last(trace)
    graph = _Graph(_users(trace))
    for op in trace.ops:
        works = kernels_of(op)
        if not works or is_first_step_only(trace, op) or is_on_host(trace, op):
            continue
        works = tuple(_as_compiled(op, work, channels_last=channels_last) for work in works)
        if works[0].kind is Kind.BATCH_STATISTICS and len(works) > 1:
            graph.add(op, works[:1], makes=False)
            works = works[1:]
        graph.add(op, works)
    readers = _readers(trace, graph.computed)
    elsewhere = {index for index, _ in graph.computed}
    for group in sorted(graph.groups.values(), key=lambda group: group.ops[-1].index):
        works = tuple(group.works)
        changed = len(group.ops) > 1 or group.computes or group.made.keys() & elsewhere
        if changed and works[0].kind in FUSABLE:
            works = _kernel(group, trace, readers, elsewhere)
        yield Issue(op=group.ops[-1], works=works, dispatch_seconds=launch * len(works))


def chooses_channels_last(trace: Trace) -> bool:
    """Return whether Inductor gives all convolutions of a step their channels last.

    In inference it does where that should take less time, by the convolutions' FLOPs; in training
    no convolution may be grouped or halve its channels, and not all may be small.

    Source: PyTorch, ``torch/_inductor/graph.py`` (``decide_layout_opt``).
    """
    found: dict[str, float] = defaultdict(float)
    convolutions = 0
    for op in trace.ops:
        if op.name != "aten.convolution.default" or op.phase is not Phase.FORWARD:
            continue
        convolutions += 1
        found[_sort_of(op)] += kernels_of(op)[0].flops
    if not convolutions or len(trace.ops) >= _NODES_PER_CONVOLUTION * convolutions:
        return False
    if trace.scenario.mode is Mode.TRAINING:
        return not {"grouped", "in_out"} & set(found) and set(found) != {"small"}
    average = sum(_AVERAGE[sort] * flops for sort, flops in found.items())
    return average <= sum(found.values())


def _sort_of(op: OpRecord) -> str:
    weight, groups = given_tensors(op)[1].shape, argument(op, 8, "groups", 1)
    if groups != 1 and weight[1] > 1:
        return "grouped"
    if max(weight[:2]) <= _FEW_CHANNELS:
        return "small"
    return "in_out" if weight[0] * 2 <= weight[1] and weight[2] > 1 else "default"


def _as_compiled(op: OpRecord, work: Work, *, channels_last: bool) -> Work:
    """Return a kernel as Inductor writes or calls it: its resampling is element-wise.

    Of more than eight tensors that are joined each is copied, and nothing fuses with that. Source:
    PyTorch, ``torch/_inductor/lowering.py`` (``cat``, ``max_pointwise_cat_inputs``).
    """
    if work.kind is Kind.UPSAMPLING:
        return replace(work, kind=Kind.BROADCAST)
    if op.name == "aten.cat.default" and len(given_tensors(op)) > _MOST_JOINED:
        return replace(work, kind=Kind.MULTI_TENSOR)
    if work.is_convolution and channels_last:
        return replace(work, copied_bytes=0.0, is_channels_last=True)
    return work


def _running(trace: Trace) -> Iterator[OpRecord]:
    """Yield the operators that run kernels: a view only names what it reads."""
    names = (op for op in trace.ops if not op.is_view)
    return (op for op in names if packet_of(op.name) not in NO_KERNEL)


def _users(trace: Trace) -> Counter[tuple[int, int]]:
    """Count the operators that read a result: keys are its maker and its storage."""
    makers: dict[int, int] = {}
    found: Counter[tuple[int, int]] = Counter()
    for op in _running(trace):
        found.update((makers[index], index) for index in set(op.reads) if index in makers)
        makers.update(dict.fromkeys(op.writes, op.index))
    return found


def _readers(trace: Trace, computed: Collection[tuple[int, int]]) -> dict[int, list[int]]:
    """Return the ops that read each storage; what outlives the step counts as read after it.

    Those that compute it again do not read it.
    """
    found: dict[int, list[int]] = defaultdict(list)
    for op in _running(trace):
        for index in op.reads:
            if (index, op.index) not in computed:
                found[index].append(op.index)
    freed = {event.storage for event in trace.events if event.is_free}
    for storage in trace.storages:
        if storage.index not in freed:
            found[storage.index].append(len(trace.ops))
    return found


def _kernel(
    group: _Group, trace: Trace, readers: Mapping[int, list[int]], elsewhere: set[int]
) -> tuple[Work, ...]:
    """Return the kernel that a group becomes: none if others compute all that it makes."""
    kinds = {work.kind for work in group.works}
    largest = max(group.works, key=lambda work: work.nbytes)
    inside = {op.index for op in group.ops}
    last = set(group.ops[-1].writes) - elsewhere
    needed = [i for i in group.made if i in last or not inside.issuperset(readers[i])]
    if not needed:
        return ()
    read = (min(nbytes, trace.storages[index].nbytes) for index, nbytes in group.read.items())
    kind = next((kind for kind in (Kind.NORM, Kind.REDUCTION) if kind in kinds), largest.kind)
    return (
        Work(
            kind=kind,
            dtype=largest.dtype,
            elements=max(work.elements for work in group.works),
            window=max(work.window for work in group.works),
            read_bytes=float(sum(read)),
            written_bytes=float(sum(group.made[index] for index in needed)),
        ),
    )
