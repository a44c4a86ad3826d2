"""Traces of cases, kept between runs: tracing is the slow part, estimating is not."""

from __future__ import annotations

import hashlib
import importlib.metadata
import pickle
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

import torchgauge as tg
from benchmarks.memory_sets.cases import MemoryCase, TensorSpec
from benchmarks.memory_sets.gpus import platform_of
from torchgauge.facts.trace import Trace
from torchgauge.request import Inputs
from torchgauge.trace.inputs.plan import plan_inputs
from torchgauge.trace.isolate.isolation import collector_paused
from torchgauge.trace.kernels.base import VirtualDevice
from torchgauge.trace.kernels.cuda import virtual_device
from torchgauge.trace.run.run_plan import RunPlan
from torchgauge.trace.run.runs import run
from torchgauge.trace.step.training import as_channels_last

_LIBRARIES = ("torch", "torchvision", "timm", "transformers", "peft")


def trace_of(case: MemoryCase, directory: Path | None = None) -> Trace:
    """Return the trace of a case's step, from the directory if it has it.

    Raises:
        Exception: whatever the model, or the simulation, raised.
    """
    target = platform_of(case)
    device = virtual_device(target.compute_capability, target.torch_release)

    def make() -> Trace:
        return traced(case.model, case.inputs, case.scenario, device, case.id)

    return kept(directory / f"{_digest(case)}.pickle" if directory else None, make)


def kept(path: Path | None, make: Callable[[], Trace]) -> Trace:
    """Return the trace of a file, which is made and written if it is not there."""
    if path is not None and path.is_file():
        trace: Trace = pickle.loads(path.read_bytes())
        return trace
    trace = make()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(trace, protocol=pickle.HIGHEST_PROTOCOL))
    return trace


@collector_paused()
def traced(
    build: Callable[[], nn.Module],
    inputs: Iterable[TensorSpec],
    scenario: tg.Scenario,
    target: VirtualDevice,
    name: str,
    loss: Callable[[Any], torch.Tensor] | None = None,
) -> Trace:
    """Build a model on the meta device and trace its step; one input without a name is alone.

    Raises:
        Exception: whatever the model, or the simulation, raised.
    """
    with tg.meta_construction():
        model = build()
    tensors = {spec.name: spec.make() for spec in inputs}
    if scenario.channels_last:
        tensors = {name: as_channels_last(tensor) for name, tensor in tensors.items()}
    given = tensors[""] if list(tensors) == [""] else tensors
    plan = plan_inputs(model, Inputs(data=given))
    assert plan is not None
    request = RunPlan(
        model=model, plan=plan, scenario=scenario, loss=loss, model_name=name, target=target
    )
    outcome = run(request)
    if outcome.error is not None:
        raise outcome.error
    return outcome.trace


def _digest(case: MemoryCase) -> str:
    text = f"{case.key} {platform_of(case)} {sources_digest()}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@cache
def sources_digest() -> str:
    """Return a digest of the code and the libraries that make a trace."""
    package = Path(tg.__file__).parent
    digest = hashlib.sha256(torch.__version__.encode())
    for path in sorted([*(package / "trace").rglob("*.py"), package / "facts" / "trace.py"]):
        digest.update(path.read_bytes())
    for name in _LIBRARIES:
        try:
            digest.update(f"{name} {importlib.metadata.version(name)}".encode())
        except importlib.metadata.PackageNotFoundError:
            continue
    return digest.hexdigest()
