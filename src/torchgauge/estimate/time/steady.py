"""What a trace of one step holds that the steps after it do not do on the GPU.

A trace is of the first step, in which optimizers make their states; a predicted step is one of
many. Counters of steps lie in host memory where a GPU is used (``torch.optim``, not capturable, not
fused): reading and raising them launches nothing.
"""

from __future__ import annotations

from typing import Final

from torchgauge.facts.trace import OpRecord, Phase, Role, Trace

_MAKES_ZEROS: Final = frozenset(
    f"aten.{name}.default" for name in ("zeros_like", "zeros", "new_zeros", "full_like", "full")
)


def is_first_step_only(trace: Trace, op: OpRecord) -> bool:
    """Return whether an operator makes a state of the optimizer, with zeros in it.

    A state that begins as a copy (SGD's momentum) stands for the update that later steps do.
    """
    if op.phase is not Phase.OPTIMIZER or op.name not in _MAKES_ZEROS or trace.scenario.first_step:
        return False
    return any(trace.storages[index].role is Role.OPTIMIZER_STATE for index in op.writes)


def is_on_host(trace: Trace, op: OpRecord) -> bool:
    """Return whether all tensors of an operator lie in host memory."""
    touched = {*op.reads, *op.writes}
    return bool(touched) and all(trace.storages[index].is_host for index in touched)
