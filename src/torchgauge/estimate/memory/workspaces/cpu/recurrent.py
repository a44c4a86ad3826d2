"""Scratch memory of oneDNN's LSTM layer, float32. Shapes: input ``[T, B, I]``, states ``[B, H]``.

Sources: ``mkldnn_rnn_layer`` and its backward in PyTorch's ``aten/src/ATen/native/mkldnn/RNN.cpp``;
``get_good_ld`` and ``set_offsets`` in oneDNN's ``src/cpu/rnn/rnn_utils.cpp`` (3.x), and
``init_scratchpad`` in ``src/cpu/x64/rnn/rnn_brgemm_utils.cpp``.
"""

from __future__ import annotations

from torchgauge.estimate.memory.workspaces.operands import FLOAT, tensor, up
from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.facts.trace import Layout, OpRecord

_PAGE = 4096
_CACHE_LINE = 16
_CONFLICT = 256
_OUTPUT_BLOCK = 32
"""Outputs that the inference kernel computes together."""
_OUTPUTS = 3
"""The output and both states; a workspace comes fourth where gradients may be asked for."""
_GRADIENT = 10
"""Which of the backward's tensors is the output's gradient."""
_PLACES = 568
"""Bytes of alignment between the entries of the scratchpad: measured, oneDNN 3.12."""
_PLACES_OF_INFERENCE = 208
"""The same between the states, which are part of the scratchpad in inference."""
_FUSED = 80
"""Bytes of two more pairs of blocks, where input and state are as wide and multiplied at once."""
_EARLY_PLACES = 384
_EARLY_PLACES_OF_INFERENCE = 256
"""The same for what oneDNN 3.5 and 3.7 ask for once more."""


def _row(elements: int) -> int:
    """Return how many floats a row takes: whole cache lines, no conflicts between rows."""
    elements = up(elements, _CACHE_LINE)
    return elements + _CACHE_LINE if elements % _CONFLICT == 0 else elements


def _sizes(op: OpRecord) -> tuple[int, int, int, int] | None:
    source, hidden = tensor(op, 0), tensor(op, 5)
    if source.dtype != "float32":
        return None
    steps, batch, inputs = source.shape
    return steps, batch, inputs, hidden.shape[-1]


def _scratch(steps: int, batch: int, size: int, platform: Platform) -> int:
    """Return the gates of all steps, two states and a page of smaller things.

    An early oneDNN (3.5 and 3.7, measured) asks for gates and states once more, and there takes
    their bytes for a number of floats.
    """
    gates = steps * batch * _row(4 * size) * FLOAT
    state = batch * _row(size) * FLOAT
    again = FLOAT * (gates + 2 * state) + _EARLY_PLACES if platform.has_early_onednn else 0
    return up(gates, _PAGE) + 2 * up(state, _PAGE) + _PAGE + _PLACES + again


def _inference_scratch(steps: int, batch: int, inputs: int, size: int, platform: Platform) -> int:
    """Return the states before and after all steps, the gates of one, and smaller things.

    Of a single sequence the gates of all steps, whose inputs are multiplied together. An early
    oneDNN (3.5, measured) asks for inputs, gates and a state once more, as in training.
    """
    merges = batch == 1 and steps > 1
    before_and_after = 2 * (steps + 1) * batch * FLOAT
    inside = before_and_after * _row(max(inputs, size))
    gates = (steps if merges else batch) * _row(4 * size) * FLOAT
    state = batch * _row(size) * FLOAT
    sizes = (inside, before_and_after * size, gates, state)
    fused = _FUSED if inputs == size and not merges else 0
    again = 0
    if platform.has_early_onednn:
        again = 2 * up(inside, _PAGE) + FLOAT * (gates + state) + _EARLY_PLACES_OF_INFERENCE
    known = _PAGE + _PLACES + _PLACES_OF_INFERENCE + fused
    return sum(up(n, _PAGE) for n in sizes) + known + again


def forward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The sum of both biases, both weights in oneDNN's layout, gates."""
    sizes = _sizes(op)
    if sizes is None:
        return ()
    steps, batch, inputs, size = sizes
    for_gradients = len(op.outputs) > _OUTPUTS
    row = _row(4 * size) if for_gradients else 4 * up(size, _OUTPUT_BLOCK)
    bias = 4 * size * FLOAT
    weights = (inputs * row * FLOAT, size * row * FLOAT)
    if for_gradients:
        return bias, *weights, _scratch(steps, batch, size, platform)
    return bias, *weights, _inference_scratch(steps, batch, inputs, size, platform)


def backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Zeros for gradients that there are none of, weights with padded rows, gradients, gates."""
    sizes = _sizes(op)
    if sizes is None:
        return ()
    steps, batch, inputs, size = sizes
    outputs, state = 4 * size, batch * size * FLOAT
    weights = [0 if _row(n) == n else outputs * _row(n) * FLOAT for n in (inputs, size)]
    gradients = [n * _row(outputs) * FLOAT for n in (inputs, size)]
    missing = [
        nbytes
        for grad, nbytes in zip(op.args[10:13], (steps * state, state, state), strict=True)
        if grad is None
    ]
    layouts = op.layouts[_GRADIENT : _GRADIENT + 1]
    if op.args[10] is not None and any(Layout.CONTIGUOUS not in layout for layout in layouts):
        missing.append(steps * state)
    return *missing, *weights, *gradients, outputs * FLOAT, _scratch(steps, batch, size, platform)
