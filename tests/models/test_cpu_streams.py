"""Ground truth: the simulated op stream is the one that the CPU really runs.

Kernels, shapes, dtypes, order, bytes allocated and the moments of freeing, for an inference and
for a training step with AdamW (optimizers by themselves: ``test_virtual_cuda.py``). Each exception
is listed with its reason, and must occur.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import pytest

import torchgauge as tg
from torchgauge.compare.streams import DifferenceKind, StreamComparison, compare_traces
from torchgauge.facts.trace import Execution
from torchgauge.request import Inputs
from torchgauge.trace.inputs.plan import plan_inputs
from torchgauge.trace.run.run_plan import RunPlan
from torchgauge.trace.run.session import Session

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.cpu_cases import CASES, SCENARIOS, Build, dtypes_of

pytestmark = pytest.mark.models

Key = tuple[DifferenceKind, str]
_K = DifferenceKind
EXCEPTIONS: dict[str, tuple[str, set[Key]]] = {
    "swin_t": (
        "assigning a number to a slice fills it on the CPU; on any other device, the meta device "
        "included, torch makes a tensor of the number and copies it (Python indexing, in C++)",
        {
            (_K.EXTRA, "aten.scalar_tensor.default"),
            (_K.EXTRA, "aten.copy_.default"),
            (_K.EXTRA, "aten.expand.default"),
            (_K.KERNEL, "aten.lift_fresh.default"),
            (_K.KERNEL, "aten.fill_.Tensor"),
        },
    ),
    "mixtral": (
        "the library's own code counts tokens per expert in float32 if the device is the CPU",
        {(_K.DTYPE, f"aten.{name}.default") for name in ("_to_copy", "histc", "cumsum")},
    ),
    "diffusion unet": (
        "the derivative of group norm keeps a channels-last layout if the device is the CPU, and "
        "copies to a contiguous one elsewhere (autograd's formula, in C++)",
        {(_K.EXTRA, "aten.clone.default")},
    ),
}
"""Per model: the reason, and the kinds of difference with the operators that they occur on."""
STEPS = ("inference", "adamw")


def traces(build: Build, size: Any, scenario: tg.Scenario) -> StreamComparison:
    model = build()
    plan = plan_inputs(model, Inputs(size=size, dtypes=dtypes_of(size)))
    found = []
    for execution in (Execution.REAL, Execution.SIMULATED, Execution.SIMULATED):
        request = RunPlan(
            model=model, plan=plan, scenario=scenario, model_name=type(model).__name__
        )
        outcome = Session(request, execution).run()
        assert outcome.error is None, outcome.error
        found.append(outcome.trace)
    gc.collect()
    return compare_traces(found[0], found[-1])


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.filterwarnings("ignore:.*:FutureWarning")
@pytest.mark.parametrize("scenario", STEPS)
@pytest.mark.parametrize("name", CASES)
def test_the_simulated_stream_is_the_real_one(name: str, scenario: str) -> None:
    build, size = CASES[name]
    comparison = traces(build, size, SCENARIOS[scenario])
    reason, allowed = EXCEPTIONS.get(name, ("", set()))
    unexpected = [d for d in comparison.differences if (d.kind, d.name) not in allowed]
    assert unexpected == [], (reason, unexpected[:5])
    assert comparison.real_ops == comparison.simulated_ops or allowed


def test_there_are_enough_of_them() -> None:
    assert len(CASES) - len(EXCEPTIONS) >= 40


def test_exceptions_still_occur() -> None:
    for name, (reason, allowed) in EXCEPTIONS.items():
        build, size = CASES[name]
        seen: set[Key] = set()
        for scenario in STEPS:
            comparison = traces(build, size, SCENARIOS[scenario])
            seen |= {(d.kind, d.name) for d in comparison.differences}
        assert reason and allowed <= seen, (name, allowed - seen)
