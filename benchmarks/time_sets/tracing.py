"""Traces of cases, kept between runs: tracing is the slow part, predicting is not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.memory_sets.tracing import kept, sources_digest, traced
from benchmarks.time_sets.cases import TimeCase
from torchgauge.devices import find_device
from torchgauge.facts.trace import Trace
from torchgauge.trace.kernels.cuda import virtual_device

INSTALLED = "2.13"


def trace_of(case: TimeCase, directory: Path | None = None) -> Trace:
    """Return the trace of a case's step, from the directory if it has it.

    Raises:
        Exception: whatever the model, or the simulation, raised.
    """
    device = virtual_device(_capability(case), case.scenario.torch_release or INSTALLED)

    def make() -> Trace:
        loss = case.loss() if case.loss else None
        with _math_attention(case.math_attention_in_half):
            return traced(case.build, case.inputs, case.scenario, device, case.id, loss)

    return kept(directory / f"time-{_digest(case)}.pickle" if directory else None, make)


@contextmanager
def _math_attention(in_half: bool) -> Iterator[None]:
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(in_half)
    try:
        yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)


def _capability(case: TimeCase) -> tuple[int, int]:
    capability = find_device(case.gpu).compute_capability
    assert capability is not None
    return capability


def _digest(case: TimeCase) -> str:
    text = f"{case.key} {_capability(case)} {sources_digest()}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]
