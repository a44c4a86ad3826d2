"""Scratch memory of convolutions on the CPU: PyTorch's own, and oneDNN's of float32.

``convolution_moments.py`` has the sources. A transposed convolution has the weight
``[I, O / groups, …]``; oneDNN runs the convolution backwards that leads from its output to its
input.
"""

from __future__ import annotations

from dataclasses import replace

from torchgauge.estimate.arguments import mask, tensor
from torchgauge.estimate.memory.workspaces.cpu import channels_last
from torchgauge.estimate.memory.workspaces.cpu.convolution_moments import (
    input_moments,
    output_moments,
    weight_moments,
)
from torchgauge.estimate.memory.workspaces.cpu.own_convolution import own_gradients, own_output
from torchgauge.estimate.memory.workspaces.onednn import kernels
from torchgauge.estimate.memory.workspaces.onednn.convolution_sizes import (
    ALIGNMENT,
    Convolution,
    read,
)
from torchgauge.estimate.memory.workspaces.operands import FLOAT
from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.facts.trace import OpRecord, TensorSpec


def forward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """Copies of operands, and what is alive in the kernel or while its result is copied.

    ``convolution(source [N, C, …], weight, bias, stride, padding, dilation, …, groups)``.
    """
    output = op.outputs[0]
    case = read(op, platform, 0, output.shape)
    if case is None:
        return ()
    if not case.takes_onednn:
        return (own_output(case, output),)
    copies = case.copied(case.source, case.source_layout), _copied_weight(case)
    if not case.is_transposed:
        return *copies, max(output_moments(case, output.nbytes, platform)) - output.nbytes
    run = _backwards(case, output)
    if case.is_channels_last:
        return *copies, _transposed(case, run, platform)
    moments = input_moments(run, case.source, platform, nested=True, adds_bias=case.has_bias)
    return *copies, max(moments) - output.nbytes


def _transposed(case: Convolution, run: Convolution, platform: Platform) -> int:
    """Return the scratch bytes of a transposed output whose channels are last."""
    taken = channels_last.transposed_taken(case, run, platform).total(nested=True)
    adds_bias = run.strides_divide_source and kernels.takes_strided(run)
    if case.has_bias and (case.is_depthwise or (case.is_strided and not adds_bias)):
        return taken + run.source.nbytes + ALIGNMENT  # it is added to a copy
    return taken


def backward(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The input's gradient, then the weight's: the worse of the moments of both.

    ``convolution_backward(gradient [N, C, …], source, weight, bias sizes, stride, …, mask)``.
    """
    gradient, wanted = tensor(op, 0), mask(op, 10)
    case = read(op, platform, 1, gradient.shape)
    if case is None:
        return ()
    if not case.takes_onednn:
        kept = sum(spec.nbytes for spec in op.outputs)
        return (own_gradients(case, gradient, op.layouts[0], wanted, kept),)
    nested = case.is_transposed
    copies = case.copied(gradient, op.layouts[0]) + case.copied(case.source, case.source_layout)
    image = case.source.nbytes if wanted[0] else 0
    bias = gradient.shape[1] * FLOAT if wanted[2] else 0
    run, moments = _backwards(case, gradient) if nested else case, [0]
    if wanted[0] and nested:
        moments += output_moments(run, image, platform, nested=True)
    elif wanted[0]:
        moments += input_moments(run, gradient, platform)
    if wanted[1] or (wanted[2] and not nested):
        moments += [image + moment for moment in weight_moments(run, bias, nested=nested)]
    kept = image + (case.weight.nbytes if wanted[1] else 0) + bias
    inside, weight = max(0, max(moments) - kept), _copied_weight(case)
    return (copies, weight, inside) if nested else (copies + weight, inside)


def _copied_weight(case: Convolution) -> int:
    return case.copied(case.weight, case.weight_layout) if case.is_channels_last else 0


def _backwards(case: Convolution, output: TensorSpec) -> Convolution:
    """Return the convolution that leads from the output to the input."""
    return replace(
        case, source=output, result=case.source.shape, has_bias=False, is_transposed=False
    )
