"""What flowed between the parts of a model, from who wrote and who read each storage.

A view has the storage of what it shows, so it passes on what flows; an operator in place is the
writer from then on. Parameters are not part of the flow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile

from torchgauge.estimate.arguments import given_tensors
from torchgauge.estimate.step.texts import Texts, tensor_text
from torchgauge.facts.pictures.step import Flow
from torchgauge.facts.tensors import TensorSpec
from torchgauge.facts.trace import OpRecord, Phase, Role, Trace

_MOST_NAMES = 3


@dataclass(slots=True)
class _Node:
    call: int
    op: int
    names: list[str] = field(default_factory=list)
    """Of the operators where it is not a call as a whole."""
    is_call: bool = False


class _Drawing:
    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.nodes: list[_Node] = []
        self.edges: dict[tuple[int, int], TensorSpec] = {}
        self._writer: dict[int, int] = {}
        self._of_call: dict[int, int] = {}
        self._open: tuple[int, int] = (-1, -1)
        """The call whose own operators run, and their node."""
        self._end = _end_of_first(trace)
        self._is_parent = {call.parent for call in trace.calls[: self._end]}

    def draw(self) -> None:
        """Go through the first forward."""
        self._inputs()
        for op in takewhile(lambda op: op.phase is Phase.FORWARD, self.trace.ops):
            if 0 <= op.call < self._end:
                self._add(op)
        self._outputs()

    def _inputs(self) -> None:
        given = [s for s in self.trace.storages if s.role is Role.INPUT and s.op < 0]
        tensors = [value.name for value in self.trace.inputs if value.tensor is not None]
        names = tensors if len(tensors) == len(given) else [storage.label for storage in given]
        for storage, name in zip(given, names, strict=True):
            self._writer[storage.index] = len(self.nodes)
            self.nodes.append(_Node(call=-1, op=-1, names=[name]))

    def _outputs(self) -> None:
        if not self.trace.calls:
            return
        for number, storage in enumerate(self.trace.calls[0].output_storages):
            if storage in self._writer and number < len(self.trace.outputs):
                value = self.trace.outputs[number]
                self.nodes.append(_Node(call=-1, op=len(self.trace.ops), names=[value.name]))
                if value.tensor is not None:
                    self.edges[self._writer[storage], len(self.nodes) - 1] = value.tensor

    def _add(self, op: OpRecord) -> None:
        if op.is_view:
            return
        node = self._node(op)
        specs = given_tensors(op)
        matched = specs if len(specs) == len(op.reads) else [None] * len(op.reads)
        for storage, spec in zip(op.reads, matched, strict=True):
            source = self._writer.get(storage)
            if source is None or source == node:
                continue
            known = self.edges.get((source, node))
            shown = spec or TensorSpec(shape=(), dtype="", device="", nbytes=0)
            if known is None or shown.nbytes > known.nbytes:
                self.edges[source, node] = shown
        for storage in op.writes:
            self._writer[storage] = node

    def _node(self, op: OpRecord) -> int:
        call = op.call
        if call not in self._is_parent:
            self._open = (-1, -1)
            if call not in self._of_call:
                self._of_call[call] = len(self.nodes)
                self.nodes.append(_Node(call=call, op=op.index, is_call=True))
            return self._of_call[call]
        if self._open[0] != call:
            self._open = (call, len(self.nodes))
            self.nodes.append(_Node(call=call, op=op.index))
        node = self._open[1]
        name = op.name.split(".")[1] if "." in op.name else op.name
        self.nodes[node].names.append(name.strip("_"))
        return node


def _end_of_first(trace: Trace) -> int:
    """Return the number of calls up to the end of the first forward."""
    roots = [call.index for call in trace.calls if call.parent < 0]
    return roots[1] if len(roots) > 1 else len(trace.calls)


def flow_of(trace: Trace, texts: Texts) -> Flow:
    """Return the parts of the first forward and what flowed between them."""
    drawing = _Drawing(trace)
    drawing.draw()
    end = _end_of_first(trace)
    calls = [c for c in trace.calls[:end] if c.phase is Phase.FORWARD]
    nodes, edges = drawing.nodes, sorted(drawing.edges)
    specs = [drawing.edges[edge] for edge in edges]
    return Flow(
        calls=tuple(texts.number(call.path) for call in calls),
        parents=tuple(call.parent for call in calls),
        completed=tuple(call.completed for call in calls),
        node_call=tuple(node.call for node in nodes),
        node_label=tuple(texts.number(_label(node)) for node in nodes),
        node_op=tuple(node.op for node in nodes),
        edge_from=tuple(source for source, _ in edges),
        edge_to=tuple(target for _, target in edges),
        edge_shape=tuple(texts.number(tensor_text(s) if s.dtype else "") for s in specs),
    )


def _label(node: _Node) -> str:
    if node.is_call:
        return ""
    names = list(dict.fromkeys(node.names))
    shown = ", ".join(names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown}, … ({len(node.names)})"
