"""What a loader gives: inputs, targets and how many samples."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

from torchgauge.advise.check.proof import tensors_in
from torchgauge.errors import UsageError
from torchgauge.models.build import how_it_failed

TARGETS: Final = ("labels", "label", "targets", "target", "y")
"""Keys of a dict under which targets lie, in this order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One call of the model, and what it should have returned."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    targets: Any
    samples: int


def batches_of(loader: Any, name: str, model: nn.Module) -> Iterator[Batch]:
    """Yield the batches of a loader, on the device of the model.

    Args:
        loader: an iterable of ``(inputs, targets)`` or dicts, or a function that returns one.
        name: what it is called in messages.
        model: whose forward takes them.

    Raises:
        UsageError: the loader raises, gives nothing, or something else.
    """
    takes = _names(model)
    device = next((t.device for t in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    count = 0
    for item in _items(loader, name):
        count += 1
        yield _batch(_moved(item, device), name, takes)
    if not count:
        raise UsageError(f"{name} gives no batch", hint="give it at least one (inputs, targets)")


def _items(loader: Any, name: str) -> Iterator[Any]:
    """Yield what a loader gives; whatever it raises is the user's to see."""
    try:
        made = loader() if callable(loader) and not isinstance(loader, Iterable) else loader
        source = iter(made)
    except (Exception, SystemExit) as error:
        raise _failed(name, error) from error
    while True:
        try:
            item = next(source)
        except StopIteration:
            return
        except (Exception, SystemExit) as error:
            raise _failed(name, error) from error
        yield item


def _failed(name: str, error: BaseException) -> UsageError:
    return UsageError(
        f"{name} {how_it_failed(error)}",
        hint="it has to be an iterable of (inputs, targets) or dicts, or a function that returns "
        "one",
    )


def _batch(item: Any, name: str, takes: frozenset[str] | None) -> Batch:
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    targets: Any = None
    if isinstance(item, Mapping):
        given = dict(item)
        targets = next((given[key] for key in TARGETS if key in given), None)
        kwargs = {k: v for k, v in given.items() if takes is None or k in takes}
        if not kwargs:
            raise UsageError(
                f"{name} gives dicts with {', '.join(map(str, given)) or 'nothing'}, and the "
                "model's forward takes none of that",
                hint="use the names of the forward's arguments",
            )
    elif isinstance(item, (tuple, list)) and len(item) > 1:
        *inputs, targets = item
        (first,) = inputs if len(inputs) == 1 else (tuple(inputs),)
        if isinstance(first, Mapping):
            kwargs = dict(first)
        else:
            args = tuple(first) if isinstance(first, (tuple, list)) else (first,)
    else:
        inside = item[0] if isinstance(item, (tuple, list)) and item else item
        args = (inside,)
    sizes = [t.shape[0] for t in tensors_in([*args, *kwargs.values()]) if t.dim()]
    if not sizes:
        raise UsageError(
            f"{name} gives {type(item).__name__}, which holds no tensor",
            hint="give (inputs, targets) of tensors, or dicts of them",
        )
    return Batch(args=args, kwargs=kwargs, targets=targets, samples=sizes[0])


def _names(model: nn.Module) -> frozenset[str] | None:
    """Return what a forward takes by name; ``None`` where it takes anything."""
    parameters = inspect.signature(model.forward).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(parameter.name for parameter in parameters)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_moved(item, device) for item in value]
    return value
