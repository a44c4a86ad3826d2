"""``torchgauge.advise``: what to change in a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torchgauge.facts.loop.advice import Accuracy, Advice
from torchgauge.models.requests import request_of

if TYPE_CHECKING:
    from torch import nn

    from torchgauge.request import InputSize


def advise(
    model: nn.Module | str,
    input_size: InputSize | None = None,
    *,
    goal: str | None = None,
    allow: str = "retrain",
    rules: tuple[str, ...] | None = None,
    prove: bool = True,
    **options: Any,
) -> Advice:
    """Say what is wrong with a model and what it could do without, each change measured.

    A change is found in this model, applied to a copy, traced again, run for real where that takes
    seconds, and shown with what it came to; otherwise it is not shown. The model stays as it is:
    ``advice.suggestions[0].apply(model)`` returns a changed copy.

    Args:
        model: as ``analyze`` takes it.
        input_size: as ``analyze`` takes it.
        goal: ``"fit:RTX 3060 12GB"``, ``"params:-50%"``, ``"macs:600M"``, ``"memory:8GB"`` or
            ``"latency:20ms"``: the advice then holds the way there, measured step by step.
        allow: how far changes may go: ``"none"`` keeps what the model computes, ``"small"`` nearly
            keeps it, ``"retrain"`` makes another model.
        rules: names of rules; all but those that take long by default, and those too where a goal
            is not reached without them.
        prove: run changed copies for real on the CPU, up to 4 GiB of parameters and 60 GFLOPs.
        **options: those of ``analyze``.

    Raises:
        UsageError: no input, an unknown rule, or a goal that makes no sense.
        TorchGaugeError: what ``analyze`` raises.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> advise(net, (3, 2, 2)).figures["totals.params"]
    62
    """
    from torchgauge.advise.engine import AdviceOptions, advise_model

    asked = AdviceOptions(goal=goal, allow=Accuracy(allow), rules=rules, prove=prove)
    return advise_model(request_of(model, input_size, options), asked)
