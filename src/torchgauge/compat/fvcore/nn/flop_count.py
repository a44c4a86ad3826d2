"""``FlopCountAnalysis`` and ``flop_count``: one multiply-accumulate is one flop, as in fvcore."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from torch import nn

from torchgauge.compat.fvcore.nn.jit_analysis import JitModelAnalysis
from torchgauge.compat.fvcore.nn.jit_handles import (
    Handle,
    addmm_flop_jit,
    batchnorm_flop_jit,
    bmm_flop_jit,
    conv_flop_jit,
    einsum_flop_jit,
    elementwise_flop_counter,
    linear_flop_jit,
    matmul_flop_jit,
    norm_flop_counter,
)
from torchgauge.compat.fvcore.nn.operators import Operator, simple_name

ELEMENTWISE: dict[str, Handle] = {
    "aten::batch_norm": batchnorm_flop_jit,
    "aten::group_norm": norm_flop_counter(2),
    "aten::layer_norm": norm_flop_counter(2),
    "aten::instance_norm": norm_flop_counter(1),
    "aten::upsample_nearest2d": elementwise_flop_counter(0, 1),
    "aten::upsample_bilinear2d": elementwise_flop_counter(0, 4),
    "aten::adaptive_avg_pool2d": elementwise_flop_counter(1, 0),
    "aten::grid_sampler": elementwise_flop_counter(0, 4),
}
"""Operators that fvcore counts although they multiply no matrices, with its convention."""
_DEFAULT_SUPPORTED_OPS: dict[str, Handle] = {
    "aten::_convolution": conv_flop_jit,
    "aten::addmm": addmm_flop_jit,
    "aten::bmm": bmm_flop_jit,
    "aten::einsum": einsum_flop_jit,
    "aten::linear": linear_flop_jit,
    "aten::matmul": matmul_flop_jit,
    "aten::mm": matmul_flop_jit,
    **ELEMENTWISE,
}
"""fvcore's table, which programs import to extend it."""


class FlopCountAnalysis(JitModelAnalysis):
    """Count the flops of a forward; a multiply-accumulate is one flop.

    Every operator that multiplies and accumulates counts with the MACs that torchgauge reports,
    attention, recurrent layers and fused kernels included; the normalisations, pooling and
    resizing that fvcore counts do so by its convention (``ELEMENTWISE``).

    Example:
        >>> import torch
        >>> flops = FlopCountAnalysis(nn.Linear(1000, 10), torch.ones(1, 1000))
        >>> flops.total(), flops.by_operator()
        (10000, Counter({'linear': 10000}))
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        super().__init__(model, inputs)
        self.set_op_handle(**ELEMENTWISE)
        self._product_handle = _macs

    def macs(self, module_name: str = "") -> int:
        """Return multiply-accumulates alone: what ``report.totals.forward_macs`` says."""
        name = self.canonical_module_name(module_name)
        return sum(op.macs for op in self._operators if name in self._belongs_to(op.call))


def _macs(operator: Operator) -> Counter[str]:
    return Counter({simple_name(operator.kind): operator.macs})


def flop_count(
    model: nn.Module, inputs: Any, supported_ops: Mapping[str, Handle] | None = None
) -> tuple[defaultdict[str, float], Counter[str]]:
    """Return Gflops by operator, and how often each operator without a handle ran.

    Args:
        model: The model.
        inputs: A tuple of arguments.
        supported_ops: Handles that are added or take the place of others.
    """
    analysis = FlopCountAnalysis(model, inputs).set_op_handle(**dict(supported_ops or {}))
    giga: defaultdict[str, float] = defaultdict(float)
    giga.update({op: flops / 1e9 for op, flops in analysis.by_operator().items()})
    return giga, analysis.unsupported_ops()
