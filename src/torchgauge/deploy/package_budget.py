"""Whether a package keeps within its budgets, and what would help when it does not.

A way out is named only when it is one for this model, and when the prediction says it is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import torch
from torch import nn

from torchgauge.deploy.export.signature import BATCH
from torchgauge.deploy.memory_table import MemoryTable
from torchgauge.deploy.parts import Package
from torchgauge.errors import CheckFailed
from torchgauge.units import format_bytes, format_milliseconds

Predict: TypeAlias = Callable[[int, Mapping[str, int]], float]
"""Returns the milliseconds of one forward for a batch and other sizes."""
_HALF_BYTES = 2
"""Of a number in bfloat16 or float16."""


def check_memory(package: Package) -> None:
    """Check the memory at the largest sizes on the device, the last of the package's tables.

    Raises:
        CheckFailed: it is more than the budget.
    """
    table, most = package.memory[-1], package.request.budget_bytes
    peak = table.lines[-1].peak_bytes(package.request.budget_batch)
    if most is None or peak <= most:
        return
    ways = list(_memory_ways(package, most))
    raise CheckFailed(
        f"{_what(package)} takes {format_bytes(peak)} on {table.device}, the "
        f"budget is {format_bytes(most)}; nothing was written",
        hint="; ".join(ways) or _no_way(table, most, peak),
    )


def _memory_ways(package: Package, most: int) -> Iterator[str]:
    table, batch = package.memory[-1], package.request.budget_batch
    line = table.lines[-1]
    fits = table.largest_batch(line.up_to, most)
    if _smallest_batch(package) <= fits < batch:
        yield f"--budget-batch {fits}, the largest that fits"
    for shorter in reversed(table.lines[:-1]):
        if (peak := shorter.peak_bytes(batch)) <= most:
            yield f"--longest {max(shorter.up_to.values())}: {format_bytes(peak)}"
            break
    saved = _saved_in_half(package.model)
    if saved and line.peak_bytes(batch) - saved <= most:
        yield f"the model in bfloat16: its weights take {format_bytes(saved)} less"
    if table.device != "cpu":
        here = package.memory[0].lines[-1].peak_bytes(batch)
        if here <= most:
            yield f"serve it on the CPU, without --device: {format_bytes(here)}"


def _no_way(table: MemoryTable, most: int, peak: int) -> str:
    weights = table.parameter_bytes
    reason = (
        f"the weights alone take {format_bytes(weights)}"
        if weights > most
        else "neither a smaller batch nor lower precision is enough"
    )
    return f"use a smaller model, or --budget-memory {peak}B: {reason}"


def _saved_in_half(model: nn.Module) -> int:
    """Return the bytes that the weights would take less with two bytes a number."""
    return sum(
        weight.numel() * (weight.element_size() - _HALF_BYTES)
        for weight in (*model.parameters(), *model.buffers())
        if weight.dtype in (torch.float32, torch.float64)
    )


def check_time(package: Package, predict: Predict) -> None:
    """Check the time of one forward on the device.

    Raises:
        CheckFailed: it is more than the budget.
        UsageError: no time can be predicted for the device.
    """
    table, most = package.memory[-1], package.request.budget_ms
    if most is None:
        return
    taken = predict(package.request.budget_batch, table.lines[-1].up_to)
    if taken <= most:
        return
    raise CheckFailed(
        f"{_what(package)} takes {format_milliseconds(taken)} on {table.device}, "
        f"the budget is {format_milliseconds(most)}; nothing was written",
        hint="; ".join([*_time_ways(package, most, predict), "a faster --device"]),
    )


def _time_ways(package: Package, most: float, predict: Predict) -> Iterator[str]:
    table, batch = package.memory[-1], package.request.budget_batch
    line = table.lines[-1]
    smallest = _smallest_batch(package)
    batches = sorted({smallest, *(other for other in line.milliseconds if other >= smallest)})
    for smaller in reversed([other for other in batches if other < batch]):
        if (taken := predict(smaller, line.up_to)) <= most:
            yield f"--budget-batch {smaller}: {format_milliseconds(taken)}"
            break
    for shorter in reversed(table.lines[:-1]):
        if (taken := predict(batch, shorter.up_to)) <= most:
            yield f"--longest {max(shorter.up_to.values())}: {format_milliseconds(taken)}"
            break


def _smallest_batch(package: Package) -> int:
    """Return the smallest batch; where it is fixed, none is smaller than the one asked for."""
    sizes = package.signature.dimensions.get(BATCH)
    return package.request.budget_batch if sizes is None else max(sizes.minimum, 1)


def _what(package: Package) -> str:
    longest = package.memory[-1].lines[-1].up_to
    length = "".join(f", {name} up to {size}" for name, size in longest.items())
    has_batch = BATCH in package.signature.dimensions
    batch = f"a batch of {package.request.budget_batch}" if has_batch else "one forward"
    return f"{batch}{length}"
