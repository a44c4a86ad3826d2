"""Another batch size, or another length of the sequences, of the inputs of a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torchgauge.errors import UsageError
from torchgauge.facts.report import Report
from torchgauge.request import Inputs, Size


@dataclass(frozen=True, slots=True, kw_only=True)
class RanInput:
    """An input as the report of a run has it."""

    name: str
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    batch_dims: tuple[tuple[int, int], ...] = ()
    """Dimensions that grow with the batch, each with its length for one sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a run says of a model's inputs."""

    inputs: tuple[RanInput, ...] = ()
    batch_size: int | None = None

    @property
    def context(self) -> int | None:
        """Return the length of the sequences, ``None`` where the input is not one of tokens."""
        first = self.inputs[0] if self.inputs else None
        if first is None or first.shape is None or len(first.shape) != 2:
            return None
        return first.shape[1] if (first.dtype or "").startswith("int") else None


def ran_of(report: Report) -> Ran:
    """Return what a report says of the inputs.

    Assumes: where no run of another batch named the dimensions that grow with it, it is the first
    one of each input that is as long as the batch.
    """
    named = any(value.batch_dims for value in report.inputs)
    batch = report.batch_size
    return Ran(
        inputs=tuple(
            RanInput(
                name=value.name,
                shape=value.tensor.shape,
                dtype=value.tensor.dtype,
                batch_dims=value.batch_dims
                if named
                else ((0, 1),) * (value.tensor.shape[:1] == (batch,)),
            )
            for value in report.inputs
            if value.tensor is not None
        ),
        batch_size=batch,
    )


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


def with_batch(inputs: Inputs, batch: int, ran: Ran | None = None) -> Inputs:
    """Return the inputs with another batch size; ``ran`` is what their run said of them.

    Raises:
        UsageError: the inputs are given as data, or do not say which dimension is the batch.
    """
    if ran is None:
        if inputs.batch_size is None:
            raise _no_batch()
        return replace(inputs, batch_size=batch)
    if inputs.data is not None:
        raise _no_batch()
    if not has_batch(inputs, ran):
        return replace(inputs, batch_size=batch)
    if not can_change_batch(inputs, ran):
        raise _no_batch()

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


def with_context(inputs: Inputs, ran: Ran, length: int) -> Inputs:
    """Return the inputs with sequences of another length.

    Raises:
        UsageError: the model takes no sequence of tokens.
    """
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


def _no_batch() -> UsageError:
    return UsageError(
        "which dimension of the inputs is the batch is not known", hint="change the input size"
    )


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


def _spelled_out(inputs: Inputs, ran: Ran) -> Inputs:
    """Return the inputs that ran as sizes without their batch."""
    shaped = [given for given in ran.inputs if given.shape]
    return replace(
        inputs,
        size={given.name: given.shape[1:] for given in shaped if given.shape},
        dtypes=[str(given.dtype) for given in shaped],
        batch_size=inputs.batch_size or ran.batch_size or 1,
    )
