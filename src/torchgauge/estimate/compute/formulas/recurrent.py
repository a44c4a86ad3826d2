"""Recurrent networks: LSTM, GRU and plain RNN, whole or one cell, of every backend.

Each weight matrix — input, hidden, LSTM projection, of every layer and direction — multiplies
every token of every sequence once: ``2 · tokens · Σ numel(matrix)`` FLOPs. The gates between them
are element-wise. The backward runs the same products twice, for the data and for the weights.
"""

from __future__ import annotations

from math import prod

from torchgauge.estimate.compute.formulas.arguments import Shape, mask, shape, shapes
from torchgauge.estimate.compute.registry import names, register_flop_formula
from torchgauge.facts.trace import OpRecord


def recurrent_flops(inputs: Shape, weights: tuple[Shape, ...]) -> int:
    """Return ``2 · tokens · Σ numel(matrix)``; biases, which have one dimension, cost no MAC.

    Args:
        inputs: ``[t, b, i]``, ``[b, t, i]``, or packed ``[Σt, i]``.
        weights: Every parameter of the network.
    """
    tokens = prod(inputs[:-1])
    return 2 * tokens * sum(prod(weight) for weight in weights if len(weight) == 2)


@register_flop_formula("aten._cudnn_rnn", "aten.miopen_rnn")
def fused_network(op: OpRecord) -> int:
    """``(x, weights, …)``."""
    return recurrent_flops(shape(op, 0), shapes(op, 1))


@register_flop_formula("aten._cudnn_rnn_backward", "aten.miopen_rnn_backward")
def fused_network_backward(op: OpRecord) -> int:
    """The data's gradient always (cuDNN needs it for the weights'), the weights' if asked for."""
    output_mask = mask(op, 21 if "_cudnn_" in op.name else 20)
    passes = 1 + any(output_mask[3:])
    return passes * recurrent_flops(shape(op, 0), shapes(op, 1))


@register_flop_formula(
    *names("""
        aten.lstm aten.gru aten.rnn_tanh aten.rnn_relu aten._lstm_mps aten.quantized_lstm
        aten.quantized_gru
    """),
)
def network(op: OpRecord) -> int:
    """``(x, hidden, weights, …)``, or packed ``(x, batch_sizes, hidden, weights, …)``."""
    packed = ".data" in op.name
    return recurrent_flops(shape(op, 0), shapes(op, 3 if packed else 2))


@register_flop_formula("aten.lstm_mps_backward")
def mps_network_backward(op: OpRecord) -> int:
    """Twice the forward; the input is the sixth argument, the weights the ninth."""
    return 2 * recurrent_flops(shape(op, 5), shapes(op, 8))


@register_flop_formula("aten.mkldnn_rnn_layer")
def onednn_layer(op: OpRecord) -> int:
    """``(x, w_input, w_hidden, biases…)``: one layer in one direction."""
    return recurrent_flops(shape(op, 0), (shape(op, 1), shape(op, 2)))


@register_flop_formula("aten.mkldnn_rnn_layer_backward")
def onednn_layer_backward(op: OpRecord) -> int:
    """Twice the forward: oneDNN always computes every gradient."""
    return 2 * recurrent_flops(shape(op, 0), (shape(op, 1), shape(op, 2)))


@register_flop_formula(
    *names("""
        aten.lstm_cell aten.gru_cell aten.rnn_tanh_cell aten.rnn_relu_cell
        aten.quantized_lstm_cell aten.quantized_gru_cell aten.quantized_rnn_tanh_cell
        aten.quantized_rnn_relu_cell quantized.quantized_lstm_cell_dynamic
        quantized.quantized_gru_cell_dynamic quantized.quantized_rnn_tanh_cell_dynamic
        quantized.quantized_rnn_relu_cell_dynamic
    """),
)
def cell(op: OpRecord) -> int:
    """``(x, hidden, w_input, w_hidden, …)``: one step."""
    return recurrent_flops(shape(op, 0), (shape(op, 2), shape(op, 3)))
