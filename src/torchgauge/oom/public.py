"""``torchgauge.explain_oom``: which layer ran out of memory, and what would have avoided it."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from torchgauge.facts.loop.oom import OomExplanation
from torchgauge.models.requests import request_of

if TYPE_CHECKING:
    from torch import nn

    from torchgauge.request import InputSize


def explain_oom(
    error: BaseException | str,
    model: nn.Module | str,
    input_size: InputSize | None = None,
    *,
    changes: bool = True,
    **options: Any,
) -> OomExplanation:
    """Say which allocation of a step an out-of-memory error is of, and what would have avoided it.

    The step is traced and replayed through a model of the caching allocator, under the memory that
    the message states. An allocation counts as found where that replay fails with the figures of
    the message. ``explanation.matches`` is false where none does: another configuration ran.

    Args:
        error: the exception, or a text that holds its message; with a traceback, better.
        model: as ``analyze`` takes it.
        input_size: as ``analyze`` takes it, with the batch that failed.
        changes: trace changes that might avoid it, or, where nothing matches, might match.
        **options: those of ``analyze``; ``device`` names the GPU.

    Raises:
        UsageError: no such error in the text, or no GPU is named.
        TorchGaugeError: what ``analyze`` raises.
    """
    from torchgauge.oom.engine import explain_message

    return explain_message(request_of(model, input_size, options), text_of(error), changes=changes)


def text_of(error: BaseException | str) -> str:
    """Return the text of an error with its traceback."""
    if isinstance(error, str):
        return error
    return "".join(traceback.format_exception(error))
