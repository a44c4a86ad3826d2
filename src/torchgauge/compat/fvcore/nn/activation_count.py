"""``ActivationCountAnalysis``: elements that convolutions, matrix products and the like put out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from math import prod
from typing import Any

from torch import nn

from torchgauge.compat.fvcore.nn.jit_analysis import JitModelAnalysis
from torchgauge.compat.fvcore.nn.jit_handles import Handle
from torchgauge.compat.fvcore.nn.operators import Operator, simple_name


class ActivationCountAnalysis(JitModelAnalysis):
    """Count the elements of the first output of every operator that multiplies and accumulates.

    Example:
        >>> import torch
        >>> ActivationCountAnalysis(nn.Linear(1000, 10), torch.ones(4, 1000)).total()
        40
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        super().__init__(model, inputs)
        self._product_handle = _elements


def _elements(operator: Operator) -> Counter[str]:
    shape = operator.outputs[0].shape if operator.outputs else (0,)
    return Counter({simple_name(operator.kind): prod(shape)})


def activation_count(
    model: nn.Module, inputs: Any, supported_ops: Mapping[str, Handle] | None = None
) -> tuple[defaultdict[str, float], Counter[str]]:
    """Return millions of elements by operator, and how often each one without a handle ran.

    Args:
        model: The model.
        inputs: A tuple of arguments.
        supported_ops: Handles that are added or take the place of others.
    """
    analysis = ActivationCountAnalysis(model, inputs).set_op_handle(**dict(supported_ops or {}))
    mega: defaultdict[str, float] = defaultdict(float)
    mega.update({op: count / 1e6 for op, count in analysis.by_operator().items()})
    return mega, analysis.unsupported_ops()
