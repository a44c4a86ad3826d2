"""Recurrent networks: LSTM, GRU and plain RNN, whole or one cell, of every backend.

Each weight matrix — input, hidden, LSTM projection, of every layer and direction — multiplies
every token of every sequence once: ``2 · tokens · Σ numel(matrix)`` FLOPs. The gates between them
are element-wise. The backward runs the same products twice, for the data and for the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from torchgauge.estimate.arguments import Shape, argument, mask, shape, shapes
from torchgauge.estimate.compute.registry import FlopFormula, register_flop_formula, register_table
from torchgauge.facts.trace import OpRecord


def recurrent_flops(inputs: Shape, weights: tuple[Shape, ...]) -> int:
    """Return ``2 · tokens · Σ numel(matrix)``; biases, which have one dimension, cost no MAC.

    Args:
        inputs: ``[t, b, i]``, ``[b, t, i]``, or packed ``[Σt, i]``.
        weights: Every parameter of the network.
    """
    tokens = prod(inputs[:-1])
    return 2 * tokens * sum(prod(weight) for weight in weights if len(weight) == 2)


def _network(row: Mapping[str, str]) -> FlopFormula:
    """Return the formula of a network as a row of the table says."""
    inputs, passes = int(row["inputs"]), int(row["passes"])
    weights = tuple(map(int, row["weights"].split()))

    def formula(op: OpRecord) -> int:
        found = [
            shapes(op, place) if isinstance(argument(op, place), tuple) else (shape(op, place),)
            for place in weights
        ]
        return passes * recurrent_flops(shape(op, inputs), sum(found, ()))

    return formula


register_table(__file__, _network)


@register_flop_formula("aten._cudnn_rnn_backward", "aten.miopen_rnn_backward")
def fused_network_backward(op: OpRecord) -> int:
    """The data's gradient always (cuDNN needs it for the weights'), the weights' if asked for."""
    output_mask = mask(op, 21 if "_cudnn_" in op.name else 20)
    passes = 1 + any(output_mask[3:])
    return passes * recurrent_flops(shape(op, 0), shapes(op, 1))
