"""``summary()``: checks what was asked for, runs the model, prints the table."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from torchgauge.compat.torchinfo import arguments
from torchgauge.compat.torchinfo.enums import ColumnSettings, Mode, RowSettings, Verbosity
from torchgauge.compat.torchinfo.formatting import FormattingOptions
from torchgauge.compat.torchinfo.forward import ForwardPassError, Pass, run_pass
from torchgauge.compat.torchinfo.model_statistics import ModelStatistics
from torchgauge.trace.isolate.isolation import collector_paused

DEFAULT_COLUMN_NAMES = (ColumnSettings.OUTPUT_SIZE, ColumnSettings.NUM_PARAMS)
DEFAULT_ROW_SETTINGS = frozenset({RowSettings.DEPTH})

_cached_forward_pass: dict[str, Pass] = {}


def summary(
    model: nn.Module,
    input_size: Any = None,
    input_data: Any = None,
    batch_dim: int | None = None,
    cache_forward_pass: bool | None = None,
    col_names: Iterable[str] | None = None,
    col_width: int = 25,
    depth: int = 3,
    device: torch.device | str | None = None,
    dtypes: Sequence[Any] | None = None,
    mode: str | None = "same",
    row_settings: Iterable[str] | None = None,
    verbose: int | None = None,
    **kwargs: Any,
) -> ModelStatistics:
    """Summarize a model, and print the table unless ``verbose`` is 0.

    Args:
        model: the model; it is simulated, and neither moved nor changed.
        input_size: shape of the input, batch included, or a list of shapes.
        input_data: the input itself: a tensor, a list of arguments, a dict of keyword arguments.
            Without either, layers and parameters are listed and nothing runs.
        batch_dim: where to add a batch of 1 to each ``input_size``; shown sizes have 1 there.
        cache_forward_pass: keep the rows under the class name of the model, and take them from
            there again: a changed model or input is not noticed.
        col_names: columns, of ``ColumnSettings``.
        col_width: characters per column.
        depth: how deep rows are shown; at the limit a row stands for all below it.
        device: checked, and otherwise without effect: the run is simulated.
        dtypes: one per ``input_size``. Without them floats like the model's own parameters are
            taken, and integers where an embedding wants them.
        mode: ``train``, ``eval``, or ``same`` for as the model is set. ``None`` means ``eval``, as
            in torchinfo 1.8.0.
        row_settings: of ``RowSettings``.
        verbose: 0 prints nothing, 1 the table, 2 each weight too. By default 1, in an interactive
            interpreter or notebook 0.
        **kwargs: further arguments of the model's forward.

    Raises:
        ValueError, TypeError, RuntimeError: as torchinfo does. When the model fails, a
            ``ForwardPassError`` (a RuntimeError) whose ``statistics`` is the table up to there.
    """
    columns = _columns(
        col_names,
        input_data is not None or input_size is not None or arguments.has_tensor(kwargs),
    )
    rows = DEFAULT_ROW_SETTINGS if row_settings is None else {RowSettings(n) for n in row_settings}
    model_mode = Mode.EVAL if mode is None else Mode(mode)
    if verbose is None:
        verbose = Verbosity.QUIET if getattr(sys, "ps1", None) else Verbosity.DEFAULT
    if device is not None:
        torch.device(device)
    arguments.check(input_data, input_size, kwargs, columns, col_width, verbose)
    given = arguments.read(input_data, input_size, batch_dim, dtypes, kwargs)
    options = FormattingOptions(depth, verbose, columns, col_width, rows)
    result = _statistics(model, given, batch_dim, model_mode, bool(cache_forward_pass), options)
    if verbose > Verbosity.QUIET:
        print(result)
    return result


def _statistics(
    model: nn.Module,
    given: arguments.Given,
    batch_dim: int | None,
    mode: Mode,
    keep: bool,
    options: FormattingOptions,
) -> ModelStatistics:
    try:
        with collector_paused():
            done = _pass(model, given, batch_dim, mode, keep)
    except ForwardPassError as error:
        failed = error.report
        error.statistics = ModelStatistics(
            error.rows, given.sizes, 0, options, of_report=lambda: failed
        )
        raise
    return ModelStatistics(
        done.rows,
        given.sizes,
        done.input_bytes,
        options,
        total_output_bytes=done.pass_bytes,
        of_report=done.of_report,
        notes=done.notes,
    )


def _columns(names: Iterable[str] | None, has_input: bool) -> tuple[ColumnSettings, ...]:
    if names is not None:
        return tuple(ColumnSettings(name) for name in names)
    return DEFAULT_COLUMN_NAMES if has_input else (ColumnSettings.NUM_PARAMS,)


def _pass(
    model: nn.Module, given: arguments.Given, batch_dim: int | None, mode: Mode, keep: bool
) -> Pass:
    """Run the model; with ``keep`` take what was kept under the name of its class."""
    name = type(model).__name__
    if keep and name in _cached_forward_pass:
        return _cached_forward_pass[name]
    done = run_pass(model, given, batch_dim, mode)
    if keep:
        _cached_forward_pass[name] = done
    return done


def clear_cached_forward_pass() -> None:
    """Forget what ``cache_forward_pass`` kept."""
    _cached_forward_pass.clear()
