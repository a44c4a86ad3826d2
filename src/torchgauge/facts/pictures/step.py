"""What a step did, operator by operator: the facts that pictures are drawn from.

A ``Report`` says what each module costs. A ``Step`` says what happened when, what flowed where, and
what each operator took. It is columnar, so that a step of 30,000 operators is a page that loads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torchgauge.facts.answer import Saved
from torchgauge.facts.trace import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Operators:
    """The operators of a step in the order in which they ran, one entry each; views left out.

    Texts are indices into ``Step.texts``.
    """

    op: tuple[int, ...]
    """Index in the trace: the points of ``Memory`` use the same."""
    name: tuple[int, ...]
    """As recorded, without the overload: ``"aten.convolution"``."""
    module: tuple[int, ...]
    """Path of the module that it serves, ``""`` for the root and outside of all."""
    phase: tuple[int, ...]
    recompute: tuple[bool, ...]
    """Whether it runs a second time for a checkpointed block."""
    inputs: tuple[int, ...]
    """Shapes and dtypes of the tensors that it takes: ``"[64, 3, 7, 7] float32, …"``."""
    outputs: tuple[int, ...]
    flops: tuple[int, ...]
    """Matmul-like FLOPs (1 MAC = 2 FLOPs)."""
    elementwise_flops: tuple[int, ...]
    nbytes: tuple[int, ...]
    """Bytes of the tensors that it takes and makes, each once: what it moves at least."""
    time_ms: tuple[float, ...] = ()
    """With the time that a GPU waits for it. Empty, like what follows, where no time is
    predicted."""
    start_ms: tuple[float, ...] = ()
    """When its first kernel starts, since the step began."""
    roof_ms: tuple[float, ...] = ()
    """What it would take at the datasheet's rate or bandwidth, whichever takes longer."""
    kind: tuple[int, ...] = ()
    """Kind of its longest kernel: ``"matmul"``."""
    bound_by: tuple[int, ...] = ()
    """``"compute"``, ``"memory"`` or ``"launch"``: what most of its time goes to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleBytes:
    """Live bytes by role, at the points of ``MemoryEstimate.timeline``, which they sum to."""

    op: tuple[int, ...]
    phase: tuple[int, ...]
    roles: Mapping[Role, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What flowed between the parts of the first forward.

    A *node* is a module call that calls no other module, or a run of operators that a module with
    sub-modules does itself, between the calls of two of them. Nodes are in the order of execution,
    and an edge leads to a later one.
    """

    calls: tuple[int, ...]
    """By module call of that forward: the module's path, an index into ``Step.texts``."""
    parents: tuple[int, ...]
    """The call that made it, -1 for the root's."""
    completed: tuple[bool, ...]
    node_call: tuple[int, ...]
    """The call that a node is or belongs to, -1 for an input or output of the model."""
    node_label: tuple[int, ...]
    """Names of its operators, or of the input or output; ``""`` where the node is the call."""
    node_op: tuple[int, ...]
    """Index of its first operator in the trace, -1 for an input."""
    edge_from: tuple[int, ...]
    edge_to: tuple[int, ...]
    edge_shape: tuple[int, ...]
    """Shape and dtype of the largest tensor: ``"[1, 64, 56, 56] float32"``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """The datasheet's limits of a device for the arithmetic of the scenario."""

    device: str
    flops_per_second: float
    bytes_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Saved):
    """One step: its operators, its memory by role, and what flowed through the model."""

    texts: tuple[str, ...]
    """Each text once."""
    operators: Operators
    memory: RoleBytes
    flow: Flow
    roof: Roof | None = None
    """``None`` where the device's rates are not known."""
