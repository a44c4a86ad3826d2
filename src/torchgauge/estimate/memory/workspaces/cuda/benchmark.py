"""Where ``torch.backends.cudnn.benchmark`` empties the allocator's cache.

Before a convolution runs for the first time in a thread, PyTorch times the plans of cuDNN: it takes
the largest workspace among those that the device has room for, gives it back, and then calls
``emptyCache()``. Source: ``run_single_conv`` and ``generate_and_filter_plans`` in PyTorch's
``aten/src/ATen/native/cudnn/Conv_v8.cpp`` (2.0–2.13). How large that workspace is, cuDNN alone
knows; what is cached when it has been given back is gone with it, whatever its size.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from torchgauge.estimate.memory.workspaces.cuda.convolution import columns_bytes, runs_own_kernel
from torchgauge.estimate.memory.workspaces.operands import layout, tensor
from torchgauge.estimate.memory.workspaces.platform import Platform
from torchgauge.facts.trace import Layout, OpRecord, Phase, Trace

_FORWARD, _INPUT_GRADIENT, _WEIGHT_GRADIENT = range(3)
"""Operations of cuDNN. A transposed convolution runs the gradient's as its forward."""


def cache_clearings(trace: Trace, platform: Platform) -> frozenset[int]:
    """Return the operators of a first step that empty the cache before they run."""
    if not platform.cudnn_benchmark:
        return frozenset()
    known: set[Hashable] = set()
    found: set[int] = set()
    for op in trace.ops:
        # The plans are kept by thread, and the backward has its own.
        keys = {(op.phase is Phase.BACKWARD, *key) for key in _keys(op, platform)}
        if not keys <= known:
            found.add(op.index)
            known |= keys
    return frozenset(found)


def _keys(op: OpRecord, platform: Platform) -> Iterator[tuple[Hashable, ...]]:
    """Yield what PyTorch knows a plan by (``CacheKey``): one for each operation of cuDNN."""
    if op.name == "aten.convolution.default" and op.outputs:
        first, output, asked = 0, op.outputs[0], [_FORWARD]
    elif op.name == "aten.convolution_backward.default":
        first, output, mask = 1, tensor(op, 0), op.args[10]
        assert isinstance(mask, tuple)
        asked = [what for what in (_INPUT_GRADIENT, _WEIGHT_GRADIENT) if mask[what - 1]]
    else:
        return
    source, weight, settings = tensor(op, first), tensor(op, first + 1), op.args[first + 3 :]
    transposed, groups = settings[3], settings[5]
    layouts = layout(op, first) | layout(op, first + 1)
    is_last = Layout.SUGGESTS_CHANNELS_LAST in layouts
    if runs_own_kernel(source, weight, transposed, groups, is_last) or not source.numel:
        return
    if columns_bytes(op, first, output, platform):
        return
    if transposed:
        source = output
        asked = [(_INPUT_GRADIENT, _FORWARD, _WEIGHT_GRADIENT)[what] for what in asked]
    for what in asked:
        yield what, source.shape, weight.shape, source.dtype, is_last, *settings[:3], groups
