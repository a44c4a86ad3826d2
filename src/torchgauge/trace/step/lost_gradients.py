"""Reentrant checkpoints none of whose inputs requires a gradient: nothing inside gets one.

PyTorch warns of it, of each line once and not where warnings are silenced; what fails is the
backward, or the loss, later and without the cause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.checkpoint as torch_checkpoint

from torchgauge.errors import ScenarioError
from torchgauge.trace.inspect.code_lines import code_line
from torchgauge.trace.step.training import NO_GRADIENT
from torchgauge.trace.torch_internals.replaced import replaced

_WHY = (
    "no input of this reentrant checkpoint requires a gradient, so nothing inside gets one; "
    "checkpoint(…, use_reentrant=False) does not need that, or call x.requires_grad_() before"
)


class LostGradients:
    """Remembers such checkpoints; ``layer`` returns the path of the module that is running."""

    def __init__(self, layer: Callable[[], str]) -> None:
        self._layer = layer
        self._places: dict[str, None] = {}

    @contextmanager
    def noticed(self) -> Iterator[None]:
        """Look at each reentrant checkpoint while the context is open.

        ``torch.utils.checkpoint.check_backward_validity`` is called in its forward (2.6–2.13).
        """
        original = getattr(torch_checkpoint, "check_backward_validity", None)
        if original is None:
            yield
            return

        def check(inputs: Iterable[Any]) -> None:
            given = list(inputs)
            if not any(item.requires_grad for item in given if isinstance(item, torch.Tensor)):
                line = code_line()
                place = (self._layer() or "the model itself") + (f" at {line}" if line else "")
                self._places[place] = None
            original(given)

        with replaced(torch_checkpoint, check_backward_validity=check):
            yield

    def warnings(self) -> tuple[str, ...]:
        """Return a line for each, for the report."""
        return tuple(f"{place}: {_WHY}" for place in self._places)

    def hint(self) -> str:
        """Return the hint for a step without gradients, ``""`` where these are not the cause."""
        lines = self.warnings()
        if not lines:
            return ""
        return f"in {lines[0]}" + (f" (and {len(lines) - 1} more)" if len(lines) > 1 else "")

    def explained(self, error: Exception) -> Exception:
        """Return the error to raise for one that may come from them."""
        if isinstance(error, ScenarioError) and error.message == NO_GRADIENT and self._places:
            return ScenarioError(error.message, hint=self.hint())
        return error
