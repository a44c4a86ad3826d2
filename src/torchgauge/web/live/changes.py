"""What a reader of the page changes, by the names of the command line, and the request it makes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec

from torchgauge.errors import UsageError
from torchgauge.facts.scenario import Checkpointing, Scenario
from torchgauge.request import Inputs, Request, Size, changed, in_mode

Count = Annotated[int, msgspec.Meta(ge=1, le=2**40)]
Text = Annotated[str, msgspec.Meta(max_length=200)]
OFF = "off"
"""The value of ``checkpointing`` for none."""


class Changes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """What differs from the request that the server was started with; ``None`` for the same."""

    mode: Text | None = None
    batch_size: Count | None = None
    input_size: Annotated[list[Text], msgspec.Meta(max_length=16)] | None = None
    context: Count | None = None
    """The length of the sequences of tokens."""
    precision: Text | None = None
    optimizer: Text | None = None
    checkpointing: Text | None = None
    accumulation: Count | None = None
    device: Text | None = None


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request for an analysis."""

    client: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    """Which tab asks: a new question of a tab ends its last one."""
    model: Annotated[int, msgspec.Meta(ge=0)] = 0
    changes: Changes = Changes()
    language: Literal["en", "zh"] = "en"
    """Of the messages; figures and reports have none."""


class RanInput(msgspec.Struct, frozen=True):
    """An input as the report of the first run has it."""

    name: str
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    batch_dims: tuple[tuple[int, int], ...] = ()


class Ran(msgspec.Struct, frozen=True):
    """What the first run says of a model's inputs."""

    inputs: tuple[RanInput, ...] = ()
    batch_size: int | None = None

    @property
    def context(self) -> int | None:
        """Return the length of the sequences, ``None`` where the input is not one of tokens."""
        first = self.inputs[0] if self.inputs else None
        if first is None or first.shape is None or len(first.shape) != 2:
            return None
        return first.shape[1] if (first.dtype or "").startswith("int") else None


def read_question(body: bytes) -> Question:
    """Return what was asked.

    Raises:
        UsageError: it is not JSON of that form.
    """
    try:
        return msgspec.json.decode(body, type=Question)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(
            f"the question cannot be read: {error}",
            hint='send {"client": "…", "model": 0, "changes": {"batch-size": 8}}',
        ) from error


def changed_request(request: Request, ran: Ran, changes: Changes) -> Request:
    """Return the request with the changes; ``ran`` is what its first run said of its inputs.

    Raises:
        UsageError: a change has no meaning for the model.
        ScenarioError: the scenario that comes out contradicts itself.
    """
    return replace(
        request,
        inputs=_inputs(request.inputs, ran, changes),
        scenario=_scenario(request.scenario, changes),
    )


def _scenario(scenario: Scenario, changes: Changes) -> Scenario:
    if changes.mode is not None:
        scenario = in_mode(scenario, changes.mode)
    given: dict[str, Any] = {}
    for name in ("precision", "device", "accumulation"):
        if getattr(changes, name) is not None:
            given[name] = getattr(changes, name)
    if changes.optimizer is not None and changes.optimizer != scenario.optimizer:
        # Options and implementations are those of one optimizer.
        given |= {"optimizer_options": (), "optimizer_implementation": None}
        given["optimizer"] = changes.optimizer
    kind = changes.checkpointing
    if kind is not None:
        also_offloads = scenario.offload_activations and scenario.checkpointing_kind is not None
        given["offload_activations"] = also_offloads or kind == Checkpointing.OFFLOAD
        given["checkpointing"] = False if kind == OFF else kind
        if kind == OFF:
            given["checkpointed"] = ()
    return changed(scenario, given) if given else scenario


def checkpointing_of(scenario: Scenario) -> str:
    """Return the value of ``checkpointing`` that a scenario has."""
    if scenario.checkpointing_kind is None:
        return Checkpointing.OFFLOAD.value if scenario.offload_activations else OFF
    return scenario.checkpointing_kind.value


# ---------------------------------------------------------------------------- inputs


def _inputs(inputs: Inputs, ran: Ran, changes: Changes) -> Inputs:
    if changes.input_size is not None:
        inputs = _with_sizes(inputs, changes.input_size)
    if changes.context is not None:
        inputs = _with_context(inputs, ran, changes.context)
    if changes.batch_size is not None:
        inputs = _with_batch(inputs, ran, changes.batch_size)
    return inputs


def _with_sizes(inputs: Inputs, texts: Sequence[str]) -> Inputs:
    read = [_size(text) for text in texts]
    names = {name for name, _ in read}
    if None not in names and len(names) == len(read) and read:
        return replace(inputs, size={str(name): size for name, size in read})
    if names != {None}:
        raise UsageError(
            "some sizes have a name and some have none, or one has two sizes",
            hint="name each input (name=1,128) or none of them",
        )
    sizes = [size for _, size in read]
    return replace(inputs, size=sizes[0] if len(sizes) == 1 else sizes)


def _size(text: str) -> tuple[str | None, Size]:
    found = re.fullmatch(r"(?:\s*([^\W\d]\w*)\s*=)?\s*[\[(]?\s*(\d+(?:\s*,\s*\d+)*)\s*[\])]?", text)
    size = tuple(int(part) for part in found[2].split(",")) if found else ()
    if found is None or 0 in size:
        raise UsageError(f"{text!r} is not a size", hint="write 3,224,224 or name=1,128")
    return found[1], size


def has_batch(inputs: Inputs, ran: Ran) -> bool:
    """Return whether the sizes of the inputs are whole shapes, batch included."""
    if inputs.size is None or inputs.batch_size is not None:
        return False
    shapes = [given.shape for given in ran.inputs if given.shape is not None]
    ranks = [len(size) for size in sizes_of(inputs).values()]
    return ranks == [len(shape) for shape in shapes[: len(ranks)]]


def sizes_of(inputs: Inputs) -> dict[str, Size]:
    """Return the sizes as given, by name or by position (``""``, ``"1"``, …)."""
    size = inputs.size
    if size is None:
        return {}
    if isinstance(size, Mapping):
        return {name: tuple(one) for name, one in size.items()}
    if isinstance(size, int):
        return {"": (size,)}
    if all(isinstance(part, int) for part in size):
        return {"": tuple(size)}  # type: ignore[arg-type]
    return {str(number or ""): tuple(one) for number, one in enumerate(size)}  # type: ignore[arg-type]


def _resized(inputs: Inputs, ran: Ran, change: Callable[[Size, RanInput], Size]) -> Inputs:
    """Return the inputs with each size changed; ``change`` gets it and the input as it ran."""
    by_name = {given.name: given for given in ran.inputs}
    sizes = {
        name: change(size, by_name.get(name) or ran.inputs[min(number, len(ran.inputs) - 1)])
        for number, (name, size) in enumerate(sizes_of(inputs).items())
    }
    if isinstance(inputs.size, Mapping):
        return replace(inputs, size=sizes)
    listed = list(sizes.values())
    return replace(inputs, size=listed[0] if len(listed) == 1 else listed)


def _with_context(inputs: Inputs, ran: Ran, length: int) -> Inputs:
    before = ran.context
    if before is None:
        raise UsageError(
            "the model takes no sequence of tokens, so it has no context length",
            hint="change the input size",
        )
    if inputs.size is None:  # the source of the model gave them
        inputs = _spelled_out(inputs, ran)
    return _resized(
        inputs, ran, lambda size, _: (*size[:-1], length if size[-1] == before else size[-1])
    )


def _spelled_out(inputs: Inputs, ran: Ran) -> Inputs:
    """Return the inputs that ran as sizes without their batch."""
    shaped = [given for given in ran.inputs if given.shape]
    return replace(
        inputs,
        size={given.name: given.shape[1:] for given in shaped if given.shape},
        dtypes=[str(given.dtype) for given in shaped],
        batch_size=inputs.batch_size or ran.batch_size or 1,
    )


def _with_batch(inputs: Inputs, ran: Ran, batch: int) -> Inputs:
    if not has_batch(inputs, ran):
        return replace(inputs, batch_size=batch)
    if not can_change_batch(inputs, ran):
        raise UsageError(
            "which dimension of the inputs is the batch is not known", hint="change the input size"
        )

    def grown(size: Size, given: RanInput) -> Size:
        factors = dict(given.batch_dims)
        return tuple(
            batch * factors[dim] if dim in factors else length for dim, length in enumerate(size)
        )

    return _resized(inputs, ran, grown)


def can_change_batch(inputs: Inputs, ran: Ran) -> bool:
    """Return whether it is known what another batch would be."""
    if inputs.data is not None or ran.batch_size is None:
        return False
    return not has_batch(inputs, ran) or any(given.batch_dims for given in ran.inputs)
