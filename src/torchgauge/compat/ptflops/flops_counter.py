"""``get_model_complexity_info``: MACs and parameters of a forward, as ptflops gives them."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TextIO

import torch
from torch import nn

from torchgauge.analyze import model_error
from torchgauge.compat.ptflops.costs import Costs, costs_of, hook_observer
from torchgauge.compat.ptflops.layers import annotated, operator_lines, zero_op_lines
from torchgauge.compat.ptflops.utils import flops_to_string, params_to_string
from torchgauge.compat.running import ModelRun, run

__all__ = ["FLOPS_BACKEND", "flops_to_string", "get_model_complexity_info", "params_to_string"]


class FLOPS_BACKEND(Enum):  # ptflops' own name
    """What is printed per layer; both count every operator, and their totals are the same."""

    PYTORCH = "pytorch"
    """The model's ``repr`` with figures at every module."""
    ATEN = "aten"
    """Operators of the model and of its direct children."""


def get_model_complexity_info(
    model: nn.Module,
    input_res: tuple[int, ...],
    print_per_layer_stat: bool = True,
    as_strings: bool = True,
    input_constructor: Callable[[tuple[int, ...]], Any] | None = None,
    ost: TextIO | None = None,
    verbose: bool = False,
    ignore_modules: Sequence[Any] = (),
    custom_modules_hooks: Mapping[Any, Any] | None = None,
    backend: str | FLOPS_BACKEND = FLOPS_BACKEND.PYTORCH,
    flops_units: str | None = None,
    param_units: str | None = None,
    output_precision: int = 2,
    backend_specific_config: Mapping[str, Any] | None = None,
) -> tuple[str | int | None, str | int | None]:
    """Return MACs and parameters of a simulated forward in evaluation mode.

    Args:
        model: The model.
        input_res: Size of its input without the batch dimension, which is 1.
        print_per_layer_stat: Print the figures of every layer.
        as_strings: Return text with units instead of whole numbers.
        input_constructor: Makes the input from ``input_res``: a dict, or the one argument.
        ost: Where to print; standard output by default.
        verbose: Also print what does not contribute.
        ignore_modules: Types of modules (exactly) and operators whose own work is not counted.
        custom_modules_hooks: By type of module, ``hook(module, inputs, output)`` that adds to
            ``module.__flops__``; by operator, ``f(arguments, outputs)`` that returns MACs.
        backend: ``"pytorch"`` (of a tensor input, MACs of one sample) or ``"aten"``.
        flops_units: ``"GMac"``, ``"MMac"``, ``"KMac"``, ``"Mac"``; chosen by default.
        param_units: ``"B"``, ``"M"``, ``"K"``, ``""``; chosen by default.
        output_precision: Decimal places of the text.
        backend_specific_config: ``{"count_functional": False}`` counts ``torch.nn`` alone.

    Returns:
        ``(macs, params)``; ``(None, None)`` when the model fails, which is printed.

    Raises:
        AssertionError, ValueError: an argument is of a wrong kind, there is no such backend.
    """
    _check(model, input_res)
    kind = FLOPS_BACKEND(backend)
    inputs = None if input_constructor is None else input_constructor(tuple(input_res))
    hooks = dict(custom_modules_hooks or {})
    config = backend_specific_config or {}
    costs = costs_of(
        _run(model, tuple(input_res), inputs, hooks),
        ignored=ignore_modules,
        hooks=hooks,
        functional=kind is FLOPS_BACKEND.ATEN or config.get("count_functional", True),
    )
    printed = _Printed(verbose, print_per_layer_stat, (flops_units, param_units, output_precision))
    figures = printed.figures(costs, kind, inputs, sys.stdout if ost is None else ost)
    if figures is None or not as_strings:
        return figures or (None, None)
    return (
        flops_to_string(figures[0], flops_units, output_precision),
        params_to_string(figures[1], param_units, output_precision),
    )


@dataclass(frozen=True, slots=True)
class _Printed:
    """What is printed per layer."""

    verbose: bool
    per_layer: bool
    units: tuple[str | None, str | None, int]

    def figures(
        self, costs: Costs, kind: FLOPS_BACKEND, inputs: Any, stream: TextIO
    ) -> tuple[int, int] | None:
        """Print the layers and return MACs and parameters; ``None`` when the model failed."""
        flops_units, _, precision = self.units
        if kind is FLOPS_BACKEND.ATEN:
            lines = operator_lines(costs, self.verbose, self.per_layer, flops_units, precision)
            print(*lines, sep="\n", end="\n" * bool(lines), file=stream)
        if costs.run.error is not None:
            _print_failure(costs.run)
            return None
        batch = _batch(inputs) if kind is FLOPS_BACKEND.PYTORCH else 1
        if kind is FLOPS_BACKEND.PYTORCH:
            if self.verbose:
                for line in zero_op_lines(costs):
                    print(line, file=stream)
            if self.per_layer:
                print(annotated(costs, batch, *self.units), file=stream)
        return costs.total_macs // batch, costs.run.report.totals.params


def _check(model: Any, input_res: Any) -> None:
    if not isinstance(model, nn.Module):
        raise AssertionError(f"a {type(model).__name__} is not a torch.nn.Module")
    if not isinstance(input_res, (tuple, list)) or len(input_res) == 0:
        raise AssertionError(
            f"input_res is the size of the input without a batch, (3, 224, 224); got {input_res!r}"
        )


def _run(
    model: nn.Module, input_res: tuple[int, ...], inputs: Any, hooks: Mapping[Any, Any]
) -> ModelRun:
    observer = hook_observer(hooks)
    if inputs is None:
        return run(model, [(1, *input_res)], on_call=observer)
    data = dict(inputs) if isinstance(inputs, Mapping) else (inputs,)
    return run(model, input_data=data, on_call=observer)


def _batch(inputs: Any) -> int:
    """Return the samples in the first positional argument; the figures are those of one."""
    if isinstance(inputs, torch.Tensor) and inputs.dim() > 0:
        return max(1, len(inputs))
    return 1


def _print_failure(result: ModelRun) -> None:
    """Print which layer failed and why, on standard output and error as ptflops does."""
    error = model_error(result.run.outcome, result.report)
    error.__cause__ = result.error
    print(
        "Flops estimation was not finished successfully because of"
        f" the following exception: \n{type(error)}: {error}"
    )
    traceback.print_exception(error)
