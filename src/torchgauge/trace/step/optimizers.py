"""Optimizers of other libraries, by the memory that they take; they update nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from torchgauge.errors import ScenarioError

BLOCK = 256
"""Elements that share one scale."""
SMALLEST = 4096
"""Elements below which a tensor's states stay in float32."""
_MAP_ENTRIES = 256
"""Values that 8 bits stand for: one table for signed and one for unsigned numbers."""


class Adam8bit(torch.optim.Optimizer):
    """AdamW with 8-bit states, as ``bitsandbytes.optim.AdamW8bit`` lays them out.

    Per element one byte for each of the two moments, per block of 256 elements one float32 scale
    for each; tensors below 4,096 elements keep float32 moments. The kernel updates in place and
    takes no temporaries.

    Source: ``Optimizer2State.init_state`` and ``update_step`` in bitsandbytes'
    ``bitsandbytes/optim/optimizer.py`` (0.45 and later: blocks of 256; 2,048 before).
    """

    def __init__(self, params: Iterable[torch.Tensor], lr: float = 1e-3) -> None:
        super().__init__(params, {"lr": lr})
        self._maps: tuple[torch.Tensor, ...] = ()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Make the states of every parameter that has a gradient.

        Raises:
            ScenarioError: for real tensors, which it cannot update.
        """
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter)

    def _update(self, parameter: torch.Tensor) -> None:
        if not parameter.is_meta:
            raise ScenarioError(
                "adamw-8bit is simulated here and cannot train",
                hint="measure with optimizer='bitsandbytes.optim:AdamW8bit'",
            )
        state = self.state[parameter]
        if not state:
            state.update(self._new_states(parameter))
        parameter.add_(0.0)  # stands for the one kernel, which works in place

    def _new_states(self, parameter: torch.Tensor) -> dict[str, Any]:
        count = parameter.numel()
        small = count < SMALLEST
        dtype = torch.float32 if small else torch.uint8
        states = {name: torch.zeros_like(parameter, dtype=dtype) for name in ("state1", "state2")}
        if small:
            return states
        if not self._maps:
            self._maps = tuple(parameter.new_empty(_MAP_ENTRIES, dtype=torch.float32) for _ in "12")
        blocks = -(-count // BLOCK)
        scales = {
            name: parameter.new_zeros(blocks, dtype=torch.float32)
            for name in ("absmax1", "absmax2")
        }
        return {**states, **dict(zip(("qmap1", "qmap2"), self._maps, strict=True)), **scales}
