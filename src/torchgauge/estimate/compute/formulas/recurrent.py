"""Recurrent networks: LSTM, GRU and plain RNN, whole or one cell, of every backend.

Each weight matrix — input, hidden, LSTM projection, of every layer and direction — multiplies
every token of every sequence once: ``2 · tokens · Σ numel(matrix)`` FLOPs. The gates between them
are element-wise. The backward runs the same products twice, for the data and for the weights.
"""

from __future__ import annotations

from math import prod

from torchgauge.estimate.compute.formulas.arguments import Shape, argument, mask, shape, shapes
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


def _network(*weights: int, inputs: int = 0, passes: int = 1) -> FlopFormula:
    """Return the formula of a network whose weights are these arguments, or lists."""

    def formula(op: OpRecord) -> int:
        found = [
            shapes(op, place) if isinstance(argument(op, place), tuple) else (shape(op, place),)
            for place in weights
        ]
        return passes * recurrent_flops(shape(op, inputs), sum(found, ()))

    return formula


register_table({
    # ``(x, weights, …)``
    "aten._cudnn_rnn aten.miopen_rnn": _network(1),
    # ``(x, hidden, weights, …)``, or packed ``(x, batch_sizes, hidden, weights, …)``
    """
        aten.lstm aten.gru aten.rnn_tanh aten.rnn_relu aten._lstm_mps aten.quantized_lstm
        aten.quantized_gru
    """: _network(2),
    """
        aten.lstm.data aten.gru.data aten.rnn_tanh.data aten.rnn_relu.data
        aten.quantized_lstm.data aten.quantized_gru.data aten.quantized_lstm.data_legacy
        aten.quantized_gru.data_legacy
    """: _network(3),
    "aten.lstm_mps_backward": _network(8, inputs=5, passes=2),
    # ``(x, w_input, w_hidden, biases…)``: one layer in one direction
    "aten.mkldnn_rnn_layer": _network(1, 2),
    "aten.mkldnn_rnn_layer_backward": _network(1, 2, passes=2),  # always every gradient
    # ``(x, hidden, w_input, w_hidden, …)``: one step
    """
        aten.lstm_cell aten.gru_cell aten.rnn_tanh_cell aten.rnn_relu_cell
        aten.quantized_lstm_cell aten.quantized_gru_cell aten.quantized_rnn_tanh_cell
        aten.quantized_rnn_relu_cell quantized.quantized_lstm_cell_dynamic
        quantized.quantized_gru_cell_dynamic quantized.quantized_rnn_tanh_cell_dynamic
        quantized.quantized_rnn_relu_cell_dynamic
    """: _network(2, 3),
})  # fmt: skip


@register_flop_formula("aten._cudnn_rnn_backward", "aten.miopen_rnn_backward")
def fused_network_backward(op: OpRecord) -> int:
    """The data's gradient always (cuDNN needs it for the weights'), the weights' if asked for."""
    output_mask = mask(op, 21 if "_cudnn_" in op.name else 20)
    passes = 1 + any(output_mask[3:])
    return passes * recurrent_flops(shape(op, 0), shapes(op, 1))
