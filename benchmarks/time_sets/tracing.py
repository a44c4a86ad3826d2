"""Traces of cases, kept between runs: tracing is the slow part, predicting is not."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

import torchgauge as tg
from benchmarks.memory_sets.tracing import sources_digest
from benchmarks.time_sets.cases import TimeCase
from torchgauge.devices import find_device
from torchgauge.report.model import Trace
from torchgauge.trace.inputs import plan_inputs
from torchgauge.trace.isolation import collector_paused
from torchgauge.trace.run import run
from torchgauge.trace.session import Request
from torchgauge.trace.virtual.cuda import virtual_device

INSTALLED = "2.13"


def trace_of(case: TimeCase, directory: Path | None = None) -> Trace:
    """Return the trace of a case's step, from the directory if it has it.

    Raises:
        Exception: whatever the model, or the simulation, raised.
    """
    path = directory / f"time-{_digest(case)}.pickle" if directory else None
    if path is not None and path.is_file():
        kept: Trace = pickle.loads(path.read_bytes())
        return kept
    trace = _traced(case)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(trace, protocol=pickle.HIGHEST_PROTOCOL))
    return trace


@collector_paused()
def _traced(case: TimeCase) -> Trace:
    with tg.meta_construction():
        model = case.build()
    tensors = {spec.name: spec.make() for spec in case.inputs}
    given = tensors[""] if list(tensors) == [""] else tensors
    plan = plan_inputs(
        model, None, given, batch_size=None, batch_dim=None, dtypes=None, forward_kwargs={}
    )
    assert plan is not None
    request = Request(
        model=model,
        plan=plan,
        scenario=case.scenario,
        loss=case.loss() if case.loss else None,
        model_name=case.id,
        target=virtual_device(_capability(case), case.scenario.torch_release or INSTALLED),
    )
    with _math_attention(case.math_attention_in_half):
        outcome = run(request)
    if outcome.error is not None:
        raise outcome.error
    return outcome.trace


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
