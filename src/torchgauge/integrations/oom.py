"""Explain the out-of-memory error of a running loop, where it happens.

>>> with explaining("torchvision:resnet18", (8, 3, 224, 224), device="T4"):
...     pass  # the training loop
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torchgauge.errors import TorchGaugeError
from torchgauge.facts.loop.oom import OomExplanation

if TYPE_CHECKING:
    from torch import nn

    from torchgauge.request import InputSize


def _print(explanation: OomExplanation) -> None:
    from torchgauge.render import get_format
    from torchgauge.render.pages import page_of

    print(get_format("text").render(page_of(explanation)), file=sys.stderr)


@contextmanager
def explaining(
    model: nn.Module | str,
    input_size: InputSize | None = None,
    *,
    to: Callable[[OomExplanation], object] = _print,
    **options: Any,
) -> Iterator[None]:
    """Explain the first out-of-memory error that leaves the block, and let it go on.

    The error is raised as it was. Where it cannot be explained, a note of it says why.

    Args:
        model: that of the loop; it stays as it is, and nothing is allocated on the GPU.
        input_size: that of a batch, as ``explain_oom`` takes it.
        to: what gets the explanation; by default it is printed to stderr.
        **options: those of ``explain_oom``: ``optimizer``, ``precision``, ``device``, …
    """
    try:
        yield
    except RuntimeError as error:  # torch's OutOfMemoryError is one
        if "out of memory" in str(error).lower():
            _explain(error, model, input_size, to, options)
        raise


def _explain(
    error: RuntimeError,
    model: nn.Module | str,
    input_size: InputSize | None,
    to: Callable[[OomExplanation], object],
    options: dict[str, Any],
) -> None:
    from torchgauge.oom.public import explain_oom

    options = {"mode": "training", "device": "cuda", **options}
    try:
        to(explain_oom(error, model, input_size, **options))
    except TorchGaugeError as why:
        error.add_note(f"torchgauge cannot explain it: {why}")
