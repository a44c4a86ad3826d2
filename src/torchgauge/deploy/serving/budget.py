"""How much memory a server may use, and the batch that fits into it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torchgauge.deploy.export.signature import (
    BATCH,
    Signature,
    TensorSignature,
    item_bytes,
    numbers_in,
)
from torchgauge.deploy.memory_table import MemoryTable
from torchgauge.deploy.serving.settings import Settings
from torchgauge.environment.limits import memory_limit_of, memory_of
from torchgauge.environment.surroundings import Surroundings
from torchgauge.errors import UsageError
from torchgauge.units import format_bytes

if TYPE_CHECKING:
    from torchgauge.deploy.serving.model import PackageFacts

_SHARE_OF_MACHINE = 0.8
"""Of what is free, when no limit was given: other processes want some."""
_SHARE_OF_GPU = 0.9
_DECODING_FACTOR = 28
"""Python objects beside the JSON text they are read from, at most: lists of one number, as in
``[1],`` (measured with Python 3.11; numbers in one long list take 12)."""
_REPLICA_BYTES = 512 * 2**20
"""Python, torch and Ray in a replica, before the weights."""
_HERE = Surroundings()


class BatchLimit:
    """The largest batch by sizes: what fits into the memory, and no more than asked for.

    Beside what the model takes, each sample has its outputs once more: cut out of the batch, they
    wait to be sent.

    Args:
        table: the prediction of the package.
        signature: for the sizes of the outputs.
        budget_bytes: what the model may use, weights included.
        max_batch: never more than this.
    """

    def __init__(
        self, table: MemoryTable, signature: Signature, budget_bytes: int, max_batch: int
    ) -> None:
        self.table = table
        self._outputs = signature.outputs
        self.budget_bytes = budget_bytes
        self._max_batch = max_batch
        self._known: dict[tuple[tuple[str, int], ...], int] = {}

    def __call__(self, sizes: Mapping[str, int]) -> int:
        """Return the limit; 0 when not even one sample of these sizes fits."""
        key = tuple(sorted(sizes.items()))
        if key not in self._known:
            if len(self._known) > 10_000:
                self._known.clear()
            fits = self.table.largest_batch(
                sizes, self.budget_bytes, answer_bytes(self._outputs, sizes)
            )
            self._known[key] = min(fits, self._max_batch)
        return self._known[key]


def answer_bytes(outputs: Sequence[TensorSignature], sizes: Mapping[str, int]) -> int:
    """Return the bytes of one sample's outputs."""
    one = {**sizes, BATCH: 1}
    return sum(numbers_in(tensor, one) * item_bytes(tensor.dtype) for tensor in outputs)


def batch_limit(facts: PackageFacts, settings: Settings, memory_limit: int | None) -> BatchLimit:
    """Return the limit for a server whose model is loaded.

    On the CPU the limit covers the whole process: what it uses now, the bodies of waiting
    requests, and one body being read are taken off, the weights are in it once.

    Raises:
        UsageError: not even one sample of the smallest sizes fits.
    """
    table, device = facts.memory, facts.device
    if device == "cpu":
        total = memory_limit if memory_limit is not None else available_bytes()
        used_elsewhere = max(resident_bytes() - table.parameter_bytes, 0)
        bodies = settings.max_pending_bytes + _DECODING_FACTOR * settings.max_body_bytes
        if memory_limit is None:
            total += resident_bytes()  # what is free does not hold what this process has already
        budget = total - used_elsewhere - bodies
    else:
        budget = memory_limit if memory_limit is not None else _gpu_bytes(device)
    return _checked(BatchLimit(table, facts.signature, budget, settings.max_batch))


def _checked(limit: BatchLimit) -> BatchLimit:
    smallest, budget = limit.table.lines[0], limit.budget_bytes
    if limit(smallest.up_to) < 1:
        raise UsageError(
            f"one sample takes {format_bytes(smallest.peak_bytes(1))}, "
            f"{format_bytes(max(budget, 0))} are left for the model",
            hint="use a larger --memory-limit, or a smaller --max-body and --max-pending",
        )
    return limit


def replica_limit(
    facts: PackageFacts, settings: Settings, memory_limit: int | None, replicas: int
) -> BatchLimit:
    """Return the limit for each of several replicas; ``memory_limit`` is that of one.

    Without a limit, what is free on this machine is divided among them: right for replicas that
    all run here, and no more than that elsewhere.

    Raises:
        UsageError: not even one sample of the smallest sizes fits, or the memory of GPUs that may
            be elsewhere was not said.
    """
    if facts.device != "cpu":
        if memory_limit is None:
            raise UsageError(
                "the memory of the GPUs that the replicas get is not known here",
                hint="set it: --memory-limit 16GiB",
            )
        limit = BatchLimit(facts.memory, facts.signature, memory_limit, settings.max_batch)
        return _checked(limit)
    share = memory_limit if memory_limit is not None else available_bytes() // replicas
    budget = share - _REPLICA_BYTES
    return _checked(BatchLimit(facts.memory, facts.signature, budget, settings.max_batch))


def available_bytes() -> int:
    """Return what a process may still take here: the machine's, or its container's, share of it."""
    total, available = memory_of(_HERE)
    if total is None:  # no /proc: not Linux
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free = total // 2 if available is None else available
    return int(min(free, memory_limit_of(_HERE) or free) * _SHARE_OF_MACHINE)


def resident_bytes() -> int:
    """Return what this process holds in memory now."""
    fields = (_HERE.read("/proc/self/statm") or "").split()
    if len(fields) > 1:
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _gpu_bytes(device: str) -> int:
    import torch

    free, _ = torch.cuda.mem_get_info(torch.device(device))
    # The weights are there already, and the context too; the table counts both.
    held = torch.cuda.memory_reserved(torch.device(device))
    return int((free + held) * _SHARE_OF_GPU)
