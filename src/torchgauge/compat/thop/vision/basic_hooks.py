"""thop's rules by their names, for custom rules that build on them.

None of them is used unless you pass it: torchgauge counts operators. Those of element-wise work
(norms, activations, pooling) say what thop added to its MACs::

    profile(model, (x,), custom_ops={nn.BatchNorm2d: count_normalization})

Formulas: ``thop.vision.basic_hooks`` and ``thop.vision.calc_func`` of thop 0.1.1; the transposed
convolution's is corrected (each input element meets the kernel, not each output element).
"""

from __future__ import annotations

import math
from typing import Any

import torch

multiply_adds = 1
_UPSAMPLE = {"nearest": 1, "linear": 5, "bilinear": 11, "bicubic": 259}
"""Operations per output element by mode; of the two bigger ones: 224 to find the weights of a
cubic and 35 to apply them, 3 linear interpolations and 2 differences."""


def count_parameters(m: Any, x: Any, y: Any) -> None:
    """Set ``m.total_params`` to the elements of the parameters."""
    m.total_params[0] = sum(parameter.numel() for parameter in m.parameters())


def zero_ops(m: Any, x: Any, y: Any) -> None:
    """Count nothing."""
    m.total_ops += 0


def count_convNd(m: Any, x: Any, y: torch.Tensor) -> None:
    """Count ``output elements × input channels per group × kernel``; without the bias."""
    weight = m.weight
    if m.transposed:  # [in, out / groups, *kernel]: every input element meets the rest
        m.total_ops += x[0].numel() * weight[0].numel()
    else:  # [out, in / groups, *kernel]
        m.total_ops += y.numel() * weight[0].numel()


def count_linear(m: Any, x: Any, y: torch.Tensor) -> None:
    """Count ``output elements × input features``; without the bias."""
    m.total_ops += m.in_features * y.numel()


def count_normalization(m: Any, x: Any, y: Any) -> None:
    """Count 2 per element, 4 where the norm has weights."""
    affine = getattr(m, "affine", False) or getattr(m, "elementwise_affine", False)
    m.total_ops += (4 if affine else 2) * x[0].numel()


def count_relu(m: Any, x: Any, y: Any) -> None:
    """Count nothing: a comparison is no multiplication."""
    m.total_ops += 0


def count_prelu(m: Any, x: Any, y: Any) -> None:
    """Count one per element, in evaluation mode."""
    if not m.training:
        m.total_ops += x[0].numel()


def count_softmax(m: Any, x: Any, y: Any) -> None:
    """Count ``3 n - 1`` per row of n: exponentials, sum, division."""
    features = x[0].shape[m.dim]
    m.total_ops += x[0].numel() // features * (3 * features - 1)


def count_avgpool(m: Any, x: Any, y: torch.Tensor) -> None:
    """Count one per output element."""
    m.total_ops += y.numel()


def count_adap_avgpool(m: Any, x: Any, y: torch.Tensor) -> None:
    """Count a window of ``input / output`` and a division per output element."""
    window = math.prod(a / b for a, b in zip(x[0].shape[2:], y.shape[2:], strict=True))
    m.total_ops += int((window + 1) * y.numel())


def count_upsample(m: Any, x: Any, y: torch.Tensor) -> None:
    """Count what interpolation takes per output element, by mode; nothing for other modes."""
    m.total_ops += _UPSAMPLE.get(m.mode, 0) * y.numel()
