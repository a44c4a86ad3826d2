"""The operators that a model called, under the names that TorchScript's tracer gives them.

Below ``aten::linear`` run ``t``, ``view`` and ``addmm``; fvcore's users see and name the first. A
run in inference mode shows both (``ModelRun.composites``), and this puts them into one tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from torchgauge.compat.fvcore.nn.values import Value, values
from torchgauge.compat.running import ModelRun
from torchgauge.estimate.compute.flops import op_cost
from torchgauge.facts.trace import ArgumentValue, OpRecord, TensorSpec

FOLLOWED = frozenset(
    f"aten::{name}"
    for name in (
        "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
        "_convolution_mode", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell",
    )
)  # fmt: skip
"""Not in a traced graph: the tracer follows them to ``aten::_convolution`` and ``aten::linear``."""
RENAMED = {"aten::convolution": "aten::_convolution"}
"""What the tracer records in place of an operator. Source: graphs of torch 2.6–2.13."""
_TRACED_EXTRAS: dict[str, tuple[ArgumentValue, ...]] = {
    "aten::_convolution": (False, False, True, True)
}
"""Arguments that the recorded operator lacks: benchmark, deterministic, cudnn, tf32."""


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operator, with those that it called."""

    kind: str
    """``aten::linear``"""
    name: str
    """``aten.linear.default``"""
    call: int
    """Index of the innermost module call, -1 outside."""
    args: tuple[ArgumentValue, ...]
    kwargs: tuple[tuple[str, ArgumentValue], ...]
    outputs: tuple[TensorSpec, ...]
    inner: tuple[Operator, ...] = ()
    ops: tuple[OpRecord, ...]
    """What it came down to."""

    @cached_property
    def macs(self) -> int:
        """Return the MACs of everything that it came down to."""
        return sum(cost.flops for cost in map(op_cost, self.ops) if cost is not None) // 2

    @cached_property
    def is_free(self) -> bool:
        """Return whether it computes nothing: it makes views, copies, tensors."""
        costs = list(map(op_cost, self.ops))
        return all(cost is not None and not cost.flops and not cost.elementwise for cost in costs)

    def input_values(self, is_training: bool | None = None) -> list[Value]:
        """Return all arguments in the order of the operator's schema, defaults filled in.

        ``is_training`` is what a batch norm's flag is where the run itself was an inference.
        """
        given = dict(self.kwargs)
        filled = list(self.args)
        for position, argument in enumerate(_schema_arguments(self.name)):
            if position >= len(filled):
                filled.append(given.get(argument.name, _default(argument)))
            elif is_training is not None and argument.name == "training":
                filled[position] = is_training
        return values((*filled, *_TRACED_EXTRAS.get(self.kind, ())))

    def output_values(self) -> list[Value]:
        """Return the tensors that came out."""
        return values(self.outputs)


def operators_of(run: ModelRun) -> tuple[Operator, ...]:
    """Return the outermost operators in order."""
    ops = run.forward_ops
    items: list[tuple[int, int, int, Any]] = [(i, i + 1, 1, op) for i, op in enumerate(ops)]
    # Of those with the same range, the one that ended last is the outer one.
    items += [
        (call.first_op, call.end_op, -order, call)
        for order, call in enumerate(run.composites)
        if call.first_op < call.end_op
    ]
    items.sort(key=lambda item: (item[0], -item[1], item[2]))
    found, _ = _nested(items, ops, 0, len(ops))
    return found


def _nested(
    items: Sequence[tuple[int, int, int, Any]], ops: Sequence[OpRecord], position: int, end: int
) -> tuple[tuple[Operator, ...], int]:
    """Return the operators from a position on that start before ``end``, and where that ended."""
    found: list[Operator] = []
    while position < len(items) and items[position][0] < end:
        first, last, _, item = items[position]
        position += 1
        inner: tuple[Operator, ...] = ()
        if not isinstance(item, OpRecord):
            inner, position = _nested(items, ops, position, last)
        found.append(_operator(item, inner, ops[first:last]))
    return tuple(found), position


def simple_name(kind: str) -> str:
    """Return the name that counts are kept under.

    >>> simple_name("aten::_convolution"), simple_name("aten::bmm")
    ('conv', 'bmm')
    """
    return "conv" if kind == "aten::_convolution" else kind.partition("::")[2] or kind


def _operator(item: Any, inner: tuple[Operator, ...], ops: Sequence[OpRecord]) -> Operator:
    namespace, _, rest = item.name.partition(".")
    kind = f"{namespace}::{rest.partition('.')[0]}" if rest else item.name
    return Operator(
        kind=RENAMED.get(kind, kind),
        name=item.name,
        call=item.call,
        args=item.args,
        kwargs=item.kwargs,
        outputs=item.outputs,
        inner=inner,
        ops=tuple(ops),
    )


def _schema_arguments(name: str) -> list[Any]:
    target: Any = torch.ops
    try:
        for part in name.split("."):
            target = getattr(target, part)
        return list(target._schema.arguments)
    except AttributeError:  # a higher-order operator
        return []


def _default(argument: Any) -> ArgumentValue:
    value = argument.default_value if argument.has_default_value() else None
    return tuple(value) if isinstance(value, list) else value
