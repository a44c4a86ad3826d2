"""Lay simulations beside records: ``python -m benchmarks.gpu_truth.compare FOLDER``."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import torch

import torchgauge as tg
from benchmarks.gpu_truth import zoo
from benchmarks.gpu_truth.cases import Case
from benchmarks.gpu_truth.schema import Record, Status, read_all
from benchmarks.gpu_truth.step import DTYPES
from torchgauge.compare.streams import StreamComparison, compare_traces
from torchgauge.errors import TorchGaugeError
from torchgauge.estimate.memory.pipeline import estimate_memory
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.trace import Trace
from torchgauge.trace.inputs.plan import InputPlan
from torchgauge.trace.run.run_plan import RunPlan
from torchgauge.trace.run.runs import run

_PRECISIONS = {"fp32": "fp32", "fp32-strict": "fp32", "tf32": "tf32", "bf16": "bf16"}


HAS_CUDA_KERNELS = find_spec("torchgauge.trace.kernels.cuda") is not None
"""Without it a step on a GPU is simulated with the CPU's kernels and optimizer loops."""
CPU_KERNELS = "simulated with the CPU's kernels: there is no virtual CUDA device yet"


class NotPredicted(Exception):
    """Why a record cannot be predicted yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was recorded and what is predicted for one case."""

    record: Record
    simulated: Trace | None = None
    why_not: str = ""
    streams: StreamComparison | None = None
    peak_bytes: int | None = None
    """The predicted peak of tensors; no allocator, no context."""

    @property
    def note(self) -> str:
        """Return what to know about the prediction, ``""`` where there is nothing."""
        on_gpu = self.record.environment.device == "cuda"
        return CPU_KERNELS if on_gpu and not HAS_CUDA_KERNELS and not self.why_not else ""

    @property
    def peak_error(self) -> float | None:
        """Return the relative error of the predicted allocated peak, ``None`` where unknown."""
        measured = self.record.peak_allocated_bytes
        if not measured or self.peak_bytes is None:
            return None
        return self.peak_bytes / measured - 1


def compare_all(folder: Path) -> Iterator[Comparison]:
    """Yield a comparison for every record below a folder."""
    for record in read_all(folder):
        yield compare_record(record)


def compare_record(record: Record) -> Comparison:
    """Simulate the case of a record and compare."""
    if record.status is not Status.OK or record.trace is None:
        kernels = record.case["kind"] == "micro" and record.status is Status.OK
        why = "kernels alone: nothing is predicted for them yet" if kernels else (
            f"ended as {record.status}"
        )  # fmt: skip
        return Comparison(record=record, why_not=why)
    try:
        simulated = simulate(record)
    except NotPredicted as reason:
        return Comparison(record=record, why_not=str(reason))
    return Comparison(
        record=record,
        simulated=simulated,
        streams=compare_traces(record.trace, simulated),
        peak_bytes=estimate_memory(simulated).peak_allocated_bytes,
    )


def simulate(record: Record) -> Trace:
    """Return the simulated trace of a record's case.

    Raises:
        NotPredicted: when the package cannot describe or run the case yet.
    """
    case = Case(**record.case)
    scenario = scenario_of(case, record.environment.device)
    spec = replace(zoo.spec_of(case.model), sources=(record.built_from,))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with tg.meta_construction():
                    model, _ = zoo.build(spec)
            except NotImplementedError:  # its constructor looks at values
                model, _ = zoo.build(spec)
    except zoo.Unavailable as error:
        raise NotPredicted(f"the model cannot be built here: {error}") from error
    args, kwargs = zoo.inputs(
        spec, case.batch, "cpu", DTYPES.get(case.precision, torch.float32),
        training=scenario.is_training,
    )  # fmt: skip
    plan = InputPlan(args=args, kwargs=kwargs)
    outcome = run(RunPlan(model=model, plan=plan, scenario=scenario, model_name=record.id))
    if outcome.error is not None:
        raise NotPredicted(f"the simulation fails: {outcome.error}"[:200])
    return outcome.trace


def scenario_of(case: Case, device: str) -> Scenario:
    """Return the scenario of a case.

    Raises:
        NotPredicted: when the package has no words for it yet.
    """
    if case.sdpa is not None:
        raise NotPredicted("not simulated yet: a chosen attention backend")
    usual = "for-loop" if device == "cpu" else "foreach"
    if case.implementation not in (None, usual):
        raise NotPredicted(f"not simulated yet: the {case.implementation} optimizer on {device}")
    spec = zoo.spec_of(case.model)
    training = case.mode == "training"
    try:
        return Scenario(
            mode=case.mode,
            device=device,
            precision=_PRECISIONS.get(case.precision, case.precision),
            optimizer=case.optimizer,
            loss=spec.loss if training else None,
            checkpointing=case.checkpointing,
        )
    except TorchGaugeError as error:
        raise NotPredicted(f"not simulated yet: {error}".splitlines()[0]) from error


def line(comparison: Comparison) -> str:
    """Return one line about a comparison."""
    name = f"{comparison.record.id:<42}"
    if comparison.why_not:
        return f"{name} –  {comparison.why_not}"
    streams, error = comparison.streams, comparison.peak_error
    assert streams is not None
    peak = "peak unknown" if error is None else f"peak {error:+.2%}"
    kinds = ", ".join(f"{number} {kind}" for kind, number in streams.by_kind().items())
    return (
        f"{name} {peak}  ops {streams.equal_ops}/{max(streams.real_ops, streams.simulated_ops)}"
        f" equal{'  ' + kinds if kinds else ''}{'  ' + comparison.note if comparison.note else ''}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="records whose id has this text")
    parser.add_argument("--differences", type=int, default=0, help="show so many, worst first")
    options = parser.parse_args()
    found = 0
    for record in read_all(options.folder):
        if options.only not in record.id:
            continue
        found += 1
        comparison = compare_record(record)
        print(line(comparison))
        streams = comparison.streams
        for difference in streams.differences[: options.differences] if streams else ():
            print(
                f"    {difference.kind:<8} {difference.phase} {difference.name} in "
                f"{difference.path or 'the model'}: {difference.real} ran, "
                f"{difference.simulated} simulated"
            )
    print(f"{found} records")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
