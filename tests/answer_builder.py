"""One answer of each type, small."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import check_builder
import fit_builder
import report_builder as build
import torchgauge as tg
from torchgauge.compare.reports import compare_reports
from torchgauge.compare.times import compare_times
from torchgauge.environment.facts import Facts as Environment
from torchgauge.environment.findings import Diagnosis, Finding, Severity
from torchgauge.facts.answer import Model
from torchgauge.facts.explanation import Contribution, Explanation
from torchgauge.facts.fit import BatchCurve, BatchPoint, Verdict
from torchgauge.facts.loop.advice import Advice, Quiet
from torchgauge.facts.loop.checkpoints import CheckpointPlan, Least, MemoryGoal, Recomputed
from torchgauge.facts.loop.history import Analysis, History
from torchgauge.facts.loop.oom import OomExplanation, OomMessage, StatedBytes
from torchgauge.facts.memory import Peak
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.trace import Phase


def calibrated() -> Any:
    from torchgauge.measure.calibration.run import Calibrated

    roof = SimpleNamespace(flops_per_second=1e11, bytes_per_second=2e10)
    calibration: Any = SimpleNamespace(cpu="A processor, 4 threads", roof=roof, error=0.08)
    step: Any = SimpleNamespace(name="ResNet", predicted=0.010, measured=0.011)
    return Calibrated(calibration=calibration, path=Path("cpu.json"), steps=(step,))


def curve() -> BatchCurve:
    points = tuple(
        BatchPoint(
            batch=batch, step_ms=2.0 + batch, device_bytes=batch << 20, verdict=Verdict.FITS,
            bound_by="compute",
        )
        for batch in (1, 8, 64)
    )  # fmt: skip
    return BatchCurve(
        model_name="Net", device="T4", scenario=Scenario(device="T4"), error=0.2, points=points
    )


def advice() -> Advice:
    return Advice(
        tool_version="0.1.0", torch_version="2.13.0", model_name="Net", model_spec=None,
        scenario=Scenario(), batch_size=1, figures={"totals.params": 10.0}, faults=(),
        suggestions=(), quiet=(Quiet(rule="a rule", why="nothing to do"),),
    )  # fmt: skip


def explanation() -> Explanation:
    part = Contribution(
        name="aten.mm", module="fc", phase="forward", count=1, value=32.0, detail="[1, 8] × [8, 4]"
    )
    return Explanation(
        tool_version="0.1.0", figure="macs", place="totals.forward_macs", unit="MACs",
        definition="multiply-accumulates of the forward", value=32.0, contributions=(part,),
        model=Model(name="Net", spec=None), scenario=Scenario(),
    )  # fmt: skip


def out_of_memory() -> OomExplanation:
    size = StatedBytes(least=2**20, most=2**20)
    return OomExplanation(
        tool_version="0.1.0", torch_version="2.13.0", model_name="Net", model_spec=None,
        scenario=Scenario(device="T4"), batch_size=1, found=None, places=0, reason="too small",
        message=OomMessage(backend="CUDA", wording="2.2+", gpu=0, tried=size, allocated=size),
    )  # fmt: skip


def checkpoint_plan() -> CheckpointPlan:
    goal = MemoryGoal(text="at most 1 MiB", figure="memory.peak_allocated_bytes", most_bytes=2**20)
    return CheckpointPlan(
        tool_version="0.1.0", torch_version="2.13.0", model_name="Net", model_spec=None,
        scenario=Scenario(mode="training"), batch_size=1, goal=goal, fits=True, least=Least.FLOPS,
        recomputed=(Recomputed(place="a", type="Block", dropped_bytes=64, flops=32),), figures=(),
        peak_at=Peak(phase=Phase.BACKWARD, module="a", op="aten.mm.default"),
        snippet=("import torch",),
    )  # fmt: skip


def history() -> History:
    analyses = tuple(
        Analysis(
            number=number, at="2026-11-30T07:30:00+00:00", revision="abc", is_dirty=False,
            spec="net.py:Net", model_name="Net", settings=("inference",), batch_size=1, value=value,
        )
        for number, value in enumerate((100.0, 90.0), start=1)
    )  # fmt: skip
    return History(tool_version="0.1.0", figure="totals.params", analyses=analyses)


def answers() -> dict[str, Any]:
    """One answer of each type that says what it shows."""
    problem = Finding(name="no-gpu", severity=Severity.WARNING, problem="no GPU", commands=("ls",))
    found = [
        explanation(), out_of_memory(), checkpoint_plan(),
        advice(), check_builder.everything(), history(),
        compare_reports(build.transformer(2), build.transformer(3)),
        build.transformer(2), fit_builder.report(), curve(), calibrated(),
        compare_times(build.predicted(), build.measured()), tg.devices.find_device("T4"),
        tg.devices.search_devices("jetson"), Diagnosis(facts=Environment(), findings=(problem,)),
    ]  # fmt: skip
    return {f"{type(item).__module__}:{type(item).__qualname__}": item for item in found}
