"""Run the model for ``summary()``: in which mode, and what is left when it fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from torchgauge.analyze import as_module, model_error
from torchgauge.compat import running
from torchgauge.compat.running import ModelRun, pass_bytes
from torchgauge.compat.torchinfo.arguments import Given
from torchgauge.compat.torchinfo.enums import Mode
from torchgauge.compat.torchinfo.layer_info import LayerInfo
from torchgauge.compat.torchinfo.model_statistics import ModelStatistics
from torchgauge.compat.torchinfo.rows import make_rows
from torchgauge.compat.torchinfo.sizes import size_observer
from torchgauge.errors import ModelError, TorchGaugeError, UsageError
from torchgauge.facts.report import Report
from torchgauge.facts.trace import Phase
from torchgauge.trace.isolate.isolation import unheard


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What came of a run."""

    rows: list[LayerInfo]
    of_report: Callable[[], Report]
    """Makes the report when it is first asked for."""
    input_bytes: int = 0
    pass_bytes: int | None = None
    """``None`` when nothing ran."""
    notes: tuple[str, ...] = ()


class ForwardPassError(ModelError, RuntimeError):
    """The model failed. ``statistics`` holds the table up to the failing layer."""

    rows: list[LayerInfo]
    statistics: ModelStatistics


def run_pass(model: nn.Module, given: Given, batch_dim: int | None, mode: Mode) -> Pass:
    """Run the model, or list it when there is no input.

    A training run gives rows and memory at once. In ``eval`` the rows are those of an inference
    run, and the memory is that of a training step all the same, where the model can do one.

    Raises:
        ForwardPassError: when the model fails.
        ValueError: when the inputs make no sense.
    """
    try:
        model = as_module(model)
    except UsageError as error:
        raise TypeError(str(error)) from error
    start = partial(_run, model, given, batch_dim)
    if given.arrays and _forward_failed(start()):
        given = given.with_arrays(model.forward) or given
        start = partial(_run, model, given, batch_dim)
    if not given.runs:
        run = start()
        return Pass(rows=make_rows(model, run), of_report=run.make_report)
    notes: tuple[str, ...] = ()
    run = start(training=mode is Mode.TRAIN or (mode is Mode.SAME and model.training))
    if isinstance(run.error, TorchGaugeError):  # there is nothing to train
        run = start(training=False)
    elif _forward_failed(run) and _is_training(run) and mode is Mode.SAME:
        run, notes = _without_training(run, start)
    if _forward_failed(run):
        raise _failure(model, run)
    with unheard():  # the model ran above
        step = _run_for_memory(run, start)
    memory = step.memory
    return Pass(
        rows=make_rows(model, run),
        of_report=(step if _is_training(run) else run).make_report,
        input_bytes=given.array_bytes + (memory.input_bytes if memory is not None else 0),
        pass_bytes=pass_bytes(step) - given.array_bytes,
        notes=notes,
    )


def _run(
    model: nn.Module,
    given: Given,
    batch_dim: int | None,
    *,
    training: bool = False,
    for_rows: bool = True,
) -> ModelRun:
    try:
        return running.run(
            model,
            given.shapes,
            input_data=given.data,
            dtypes=given.dtypes,
            training=training,
            forward_kwargs=given.kwargs if given.runs else None,
            on_call=size_observer(batch_dim) if for_rows else None,
        )
    except UsageError as error:
        raise ValueError(str(error)) from error


def _is_training(run: ModelRun) -> bool:
    return run.trace.scenario.is_training


def _forward_failed(run: ModelRun) -> bool:
    """Return whether the model itself failed, not the loss or the backward."""
    failure = run.trace.failure
    return run.error is not None and (failure is None or failure.phase is Phase.FORWARD)


def _without_training(
    failed: ModelRun, start: Callable[..., ModelRun]
) -> tuple[ModelRun, tuple[str, ...]]:
    """Return the run in eval mode and a note on it, the failed one when that fails as well."""
    run = start(training=False)
    if _forward_failed(run):
        return failed, ()
    note = f"the model fails in train mode, so it ran in eval mode: {failed.error}"
    warnings.warn(note, UserWarning, stacklevel=6)
    return run, (note,)


def _run_for_memory(run: ModelRun, start: Callable[..., ModelRun]) -> ModelRun:
    """Return the run whose memory counts: a training step, or inference where none is possible.

    Models without a trainable parameter, or with integers as their output, have no backward.
    """
    if not _is_training(run):
        step = start(training=True, for_rows=False)
        return run if step.error is not None else step
    if run.error is None:
        return run
    inference = start(training=False, for_rows=False)
    return run if inference.error is not None else inference


def _failure(model: nn.Module, run: ModelRun) -> ForwardPassError:
    """Return torchinfo's error, with what failed and why, and the rows up to there."""
    rows = make_rows(model, run)
    executed = [row for row in rows if row.executed]
    cause = model_error(run.run.outcome, run.report)
    error = ForwardPassError(
        "Failed to run torchinfo. See above stack traces for more details. "
        f"Executed layers up to: {executed}\n{cause}\n"
        "  the table up to there: print(error.statistics)",
        report=run.report,
    )
    error.rows = rows
    error.__cause__ = cause
    cause.__cause__ = run.error
    return error
