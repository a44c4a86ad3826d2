"""``torchgauge.advise``: what to change in a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torchgauge.errors import UsageError
from torchgauge.facts.loop.advice import Accuracy, Advice
from torchgauge.models.requests import request_of

if TYPE_CHECKING:
    from torch import nn

    from torchgauge.request import InputSize, Request


def advise(
    model: nn.Module | str,
    input_size: InputSize | None = None,
    *,
    goal: str | None = None,
    allow: str = "retrain",
    rules: tuple[str, ...] | None = None,
    prove: bool = True,
    patch: bool = False,
    check: Any = None,
    check_metric: Callable[[Any, Any], Any] | str | None = None,
    check_limit_s: float = 60.0,
    **options: Any,
) -> Advice:
    """Say what is wrong with a model and what it could do without, each change traced.

    A change is found in this model, applied to a copy, traced again, run for real where that takes
    seconds, and shown with what it came to; otherwise it is not shown. The model stays as it is:
    ``advice.suggestions[0].apply(model)`` returns a changed copy.

    Args:
        model: as ``analyze`` takes it.
        input_size: as ``analyze`` takes it.
        goal: ``"fit:RTX 3060 12GB"``, ``"params:-50%"``, ``"macs:600M"``, ``"memory:8GB"`` or
            ``"latency:20ms"``: the advice then holds the way there, traced step by step.
        allow: how far changes may go: ``"none"`` keeps what the model computes, ``"small"`` nearly
            keeps it, ``"retrain"`` makes another model.
        rules: names of rules; all but those that take long by default, and those too where a goal
            is not reached without them.
        prove: run changed copies for real on the CPU, up to 4 GiB of parameters and 60 GFLOPs.
        patch: also write each change as a diff of your own source, where that can be done
            honestly: ``suggestion.patch()``. The model has to be named: ``"model.py:Net"``.
        check: your data, an iterable of ``(inputs, targets)`` or dicts, a function that returns
            one, or ``"data.py:loader"``: each change is then measured on them, before and after.
        check_metric: a function of the outputs and targets of a batch, or ``"file.py:metric"``; by
            default accuracy, the mean squared error, or the loss that the model returns.
        check_limit_s: after how many seconds no further batch is run.
        **options: those of ``analyze``.

    Raises:
        UsageError: no input, an unknown rule, a goal, data or a metric that makes no sense.
        MissingExtraError: ``patch`` is asked for and libcst is not installed.
        TorchGaugeError: what ``analyze`` raises.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> advise(net, (3, 2, 2)).figures["totals.params"]
    62
    """
    from torchgauge.advise.engine import AdviceOptions, advise_model

    asked = AdviceOptions(goal=goal, allow=Accuracy(allow), rules=rules, prove=prove)
    request = request_of(model, input_size, options)
    advice = advise_model(request, asked)
    return completed(
        advice, request, patch=patch, check=check, metric=check_metric, limit_s=check_limit_s
    )


def completed(
    advice: Advice,
    request: Request,
    *,
    patch: bool = False,
    check: Any = None,
    metric: Callable[[Any, Any], Any] | str | None = None,
    limit_s: float = 60.0,
) -> Advice:
    """Return the advice with what else was asked for: patches, and a check on data.

    Raises:
        TorchGaugeError: what ``with_patches`` and ``with_check`` raise.
    """
    if metric is not None and check is None:
        raise UsageError("a metric without data measures nothing", hint="add check=…, --check …")
    if patch:
        from torchgauge.advise.patch.made import with_patches

        advice = with_patches(advice, request)
    if check is not None:
        from torchgauge.advise.check.made import with_check

        advice = with_check(advice, request, check, metric=metric, limit_s=limit_s)
    return advice
