"""The runs behind one table: two samples for the rows, the asked batch for the sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from torchgauge.analyze import as_module
from torchgauge.compat.running import ModelRun, batch_named, pass_bytes, run
from torchgauge.trace.copy.kept_copy import KeptCopies
from torchgauge.trace.inspect.wrappers import unwrap
from torchgauge.trace.isolate.isolation import unheard
from torchgauge.trace.run.watched import looks_only

Sizes = Sequence[tuple[int, ...]]
_ROW_BATCH = 2
"""How many samples torchsummary runs, so that batch norm works in training mode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryRun:
    """What a table is made of."""

    rows: ModelRun
    """The forward of two samples, with the model in the mode that it is in."""
    is_named: bool
    """Whether it is known which dimensions grow with the batch."""
    tensor_calls: frozenset[int]
    """Calls that returned a tensor, not a structure of tensors."""
    params: tuple[int, int]
    """All parameters and the trainable ones, each once."""
    input_bytes: int
    pass_bytes: int
    """What a step needs beside inputs and parameters at its peak."""
    param_bytes: int
    notes: tuple[str, ...] = ()
    """How the sizes were found, where that is not as usual."""


def run_summary(
    model: nn.Module, sizes: Sizes, dtypes: Sequence[torch.dtype] | None, batch: int
) -> SummaryRun:
    """Run a model on two samples, and on ``batch`` samples for the sizes.

    Raises:
        ModelError: the model's forward failed.
    """
    copies = KeptCopies()

    def of(samples: int, *, training: bool, rows_only: bool = False) -> ModelRun:
        shapes = [(samples, *size) for size in sizes]
        return run(
            model,
            shapes,
            dtypes=dtypes,
            training=training,
            on_call=_is_tensor,
            forward_only=rows_only,
            calls_only=rows_only,
            modules_only_of_failures=not rows_only and samples != _ROW_BATCH,
            copies=copies,
        )

    in_training = bool(getattr(unwrap(as_module(model)), "training", False))
    rows = of(_ROW_BATCH, training=in_training, rows_only=batch != _ROW_BATCH)
    if rows.forward_failed:
        rows.raise_error()
    with unheard():  # the model ran above
        sized, notes = _sized(rows, of, batch)
    return _with_sizes(rows, sized, notes)


def _sized(
    rows: ModelRun, of: Callable[..., ModelRun], batch: int
) -> tuple[ModelRun, tuple[str, ...]]:
    """Return the run whose sizes count, and how it differs from the one asked for."""
    notes: list[str] = []
    in_training = rows.is_training
    if batch == _ROW_BATCH and in_training and rows.error is None:
        sized = rows
    else:
        sized = of(batch, training=True)
    if sized.error is not None and sized.forward_failed and batch != _ROW_BATCH:
        other = of(_ROW_BATCH, training=True)
        if other.error is None:
            notes.append(
                f"Sizes are for a batch of {_ROW_BATCH}: the model cannot train on {batch}."
            )
            sized = other
    if sized.error is not None:
        notes.append("Sizes are those of a forward alone: the model has no backward.")
        sized = of(batch, training=False)
        sized.raise_error()
    return sized, tuple(notes)


def _with_sizes(rows: ModelRun, sized: ModelRun, notes: tuple[str, ...]) -> SummaryRun:
    outcome = rows.run.outcome
    finished = replace(outcome, trace=replace(rows.trace, failure=None), error=None)
    is_same_mode = rows.is_training and sized.is_training
    named = batch_named(
        replace(rows, run=replace(rows.run, outcome=finished)), sized if is_same_mode else None
    )
    totals, memory = rows.totals, sized.memory
    assert memory is not None
    return SummaryRun(
        rows=named,
        is_named=any(value.batch_dims for call in named.calls for value in call.outputs),
        tensor_calls=frozenset(index for index, _ in rows.observed),
        params=(totals.params, totals.trainable_params),
        input_bytes=memory.input_bytes,
        pass_bytes=pass_bytes(sized),
        param_bytes=memory.parameter_bytes,
        notes=notes,
    )


@looks_only
def _is_tensor(path: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> bool | None:
    return True if isinstance(output, torch.Tensor) else None
