"""Whether a package keeps within its budgets, and what would help when it does not.

A way out is named only when it is one for this model, and when the prediction says it is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import nn

from torchgauge.deploy.export.signature import BATCH, Signature
from torchgauge.deploy.memory_table import MemoryLine, MemoryTable
from torchgauge.deploy.parts import PackageRequest
from torchgauge.errors import CheckFailed
from torchgauge.units import format_bytes, format_milliseconds

_HALF_BYTES = 2
"""Of a number in bfloat16 or float16."""


def check_memory(
    tables: Sequence[MemoryTable], signature: Signature, request: PackageRequest, model: nn.Module
) -> None:
    """Check the memory at the largest sizes on the device, the last of ``tables``.

    Raises:
        CheckFailed: it is more than the budget.
    """
    table = tables[-1]
    line = table.lines[-1]
    peak = line.peak_bytes(request.budget_batch)
    if request.budget_bytes is None or peak <= request.budget_bytes:
        return
    ways = list(_memory_ways(tables, signature, request, request.budget_bytes, model))
    raise CheckFailed(
        f"{_what(signature, request, line)} takes {format_bytes(peak)} on {table.device}, the "
        f"budget is {format_bytes(request.budget_bytes)}; nothing was written",
        hint="; ".join(ways) or _no_way(table, request.budget_bytes, peak),
    )


def _memory_ways(
    tables: Sequence[MemoryTable],
    signature: Signature,
    request: PackageRequest,
    most: int,
    model: nn.Module,
) -> Iterator[str]:
    table = tables[-1]
    line = table.lines[-1]
    fits = table.largest_batch(line.up_to, most)
    if _smallest_batch(signature, request) <= fits < request.budget_batch:
        yield f"--budget-batch {fits}, the largest that fits"
    for shorter in reversed(table.lines[:-1]):
        if (peak := shorter.peak_bytes(request.budget_batch)) <= most:
            yield f"--longest {max(shorter.up_to.values())}: {format_bytes(peak)}"
            break
    saved = _saved_in_half(model)
    if saved and line.peak_bytes(request.budget_batch) - saved <= most:
        yield f"the model in bfloat16: its weights take {format_bytes(saved)} less"
    if table.device != "cpu":
        here = tables[0].lines[-1].peak_bytes(request.budget_batch)
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


def check_time(
    table: MemoryTable,
    signature: Signature,
    request: PackageRequest,
    predict: Callable[[int, Mapping[str, int]], float],
) -> None:
    """Check the time of one forward; ``predict`` returns it for a batch and other sizes.

    Raises:
        CheckFailed: it is more than the budget.
        UsageError: no time can be predicted for the device.
    """
    if request.budget_ms is None:
        return
    line = table.lines[-1]
    taken = predict(request.budget_batch, line.up_to)
    if taken <= request.budget_ms:
        return
    ways = list(_time_ways(table, signature, request, request.budget_ms, predict))
    raise CheckFailed(
        f"{_what(signature, request, line)} takes {format_milliseconds(taken)} on {table.device}, "
        f"the budget is {format_milliseconds(request.budget_ms)}; nothing was written",
        hint="; ".join([*ways, "a faster --device"]),
    )


def _time_ways(
    table: MemoryTable,
    signature: Signature,
    request: PackageRequest,
    most: float,
    predict: Callable[[int, Mapping[str, int]], float],
) -> Iterator[str]:
    line = table.lines[-1]
    smallest = _smallest_batch(signature, request)
    batches = sorted({smallest, *(batch for batch in line.milliseconds if batch >= smallest)})
    for batch in reversed([batch for batch in batches if batch < request.budget_batch]):
        if (taken := predict(batch, line.up_to)) <= most:
            yield f"--budget-batch {batch}: {format_milliseconds(taken)}"
            break
    for shorter in reversed(table.lines[:-1]):
        if (taken := predict(request.budget_batch, shorter.up_to)) <= most:
            yield f"--longest {max(shorter.up_to.values())}: {format_milliseconds(taken)}"
            break


def _smallest_batch(signature: Signature, request: PackageRequest) -> int:
    """Return the smallest batch; where it is fixed, none is smaller than the one asked for."""
    sizes = signature.dimensions.get(BATCH)
    return request.budget_batch if sizes is None else max(sizes.minimum, 1)


def _what(signature: Signature, request: PackageRequest, line: MemoryLine) -> str:
    length = "".join(f", {name} up to {size}" for name, size in line.up_to.items())
    batch = f"a batch of {request.budget_batch}" if BATCH in signature.dimensions else "one forward"
    return f"{batch}{length}"
