"""The choice of the rules for a platform, and how they are called."""

from __future__ import annotations

from torchgauge.estimate.memory.workspaces import losses, matrices
from torchgauge.estimate.memory.workspaces.cpu import rules as cpu
from torchgauge.estimate.memory.workspaces.cuda import attention, convolution, kernels
from torchgauge.estimate.memory.workspaces.operands import tensor
from torchgauge.estimate.memory.workspaces.platform import Platform, Rules, Workspaces
from torchgauge.facts.trace import OpRecord


def _complex_first(op: OpRecord, platform: Platform) -> tuple[int, ...]:
    """The result as complex numbers, whose real parts are copied.

    Source: ``unary_op_impl_with_complex_to_float_out`` in ``aten/src/ATen/native/UnaryOps.cpp``.
    """
    source = tensor(op, 0)
    return (source.nbytes,) if source.dtype.startswith("complex") else ()


_COMPLEX: Rules = dict.fromkeys(("aten.abs.default", "aten.angle.default"), _complex_first)
_EVERYWHERE: Rules = {**_COMPLEX, **losses.RULES}
_CUDA: Rules = {**attention.RULES, **convolution.RULES, **kernels.RULES, **matrices.RULES}
_RULES = {"cpu": {**cpu.RULES, **_EVERYWHERE}, "cuda": {**_CUDA, **_EVERYWHERE}}


def workspaces_for(platform: Platform) -> Workspaces:
    """Return the function that gives the workspaces of an op on that platform."""
    return Workspaces(rules=_RULES.get(platform.type, {}), platform=platform)
