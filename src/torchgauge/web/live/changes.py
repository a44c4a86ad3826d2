"""What a reader of the page changes, by the names of the command line, and the request it makes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec

from torchgauge.changes.change import Change, applied
from torchgauge.changes.inputs import Ran, with_context
from torchgauge.changes.optimizers import optimizer_fields
from torchgauge.changes.step import SCENARIO
from torchgauge.errors import UsageError
from torchgauge.facts.scenario import Checkpointing, Scenario
from torchgauge.request import Inputs, Request, Size, in_mode

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
    applied: Annotated[list[Text], msgspec.Meta(max_length=32)] = []
    """Keys of suggestions, in the order in which they are made."""
    language: Literal["en", "zh"] = "en"
    """Of the messages; figures and reports have none."""


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
    inputs, scenario = request.inputs, request.scenario
    if changes.input_size is not None:
        inputs = _with_sizes(inputs, changes.input_size)
    if changes.context is not None:
        inputs = with_context(inputs, ran, changes.context)
    if changes.mode is not None:
        scenario = in_mode(scenario, changes.mode)
    fields = _fields(scenario, changes)
    request = replace(request, inputs=inputs, scenario=scenario)
    if not fields and changes.batch_size is None:
        return request
    change = Change(rule=SCENARIO, text="", why="", batch=changes.batch_size, scenario=fields)
    return applied(change, request, ran=ran)


def _fields(scenario: Scenario, changes: Changes) -> dict[str, Any]:
    """Return the fields of the scenario that change."""
    given: dict[str, Any] = {}
    for name in ("precision", "device", "accumulation"):
        if getattr(changes, name) is not None:
            given[name] = getattr(changes, name)
    if changes.optimizer is not None and changes.optimizer != scenario.optimizer:
        given |= optimizer_fields(changes.optimizer)
    kind = changes.checkpointing
    if kind is not None:
        also_offloads = scenario.offload_activations and scenario.checkpointing_kind is not None
        given["offload_activations"] = also_offloads or kind == Checkpointing.OFFLOAD
        given["checkpointing"] = False if kind == OFF else kind
        if kind == OFF:
            given["checkpointed"] = ()
    return given


def checkpointing_of(scenario: Scenario) -> str:
    """Return the value of ``checkpointing`` that a scenario has."""
    if scenario.checkpointing_kind is None:
        return Checkpointing.OFFLOAD.value if scenario.offload_activations else OFF
    return scenario.checkpointing_kind.value


# ---------------------------------------------------------------------------- inputs


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
