"""Products of float32 on tensor cores: TF32 rounds the inputs to a 10-bit mantissa."""

from __future__ import annotations

from collections.abc import Iterator

from torchgauge.advise.rules.how_it_runs import ScenarioOnly, gpu_of
from torchgauge.advise.subject import Subject
from torchgauge.changes.change import Change
from torchgauge.facts.loop.advice import Accuracy
from torchgauge.facts.precision import arithmetic_of, dtypes_of
from torchgauge.facts.scenario import Precision


class Tf32(ScenarioOnly):
    """Propose TF32 where a step multiplies in float32."""

    name = "tf32"
    about = "products in float32 on a GPU whose tensor cores support TF32"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield one change."""
        device, precision = gpu_of(subject), Precision(subject.report.scenario.precision)
        if device is None:
            yield "the step runs on a CPU"
            return
        arithmetic = arithmetic_of(precision, dtypes_of(subject.report))
        if precision.autocast_dtype is not None or arithmetic != "fp32":
            yield f"the products are computed in {arithmetic}"
            return
        if not device.supports("tf32"):
            yield f"{device.name} has no TF32"
            return
        yield Change(
            rule=self.name,
            axis="precision",
            text="allow TF32 in products",
            why="float32 products do not use the tensor cores unless TF32 is allowed",
            accuracy=Accuracy.SMALL,
            cost="inputs of products are rounded to a 10-bit mantissa",
            source="PyTorch documentation, Numerical accuracy, TensorFloat-32",
            snippet=('torch.set_float32_matmul_precision("high")',),
            scenario={"precision": Precision.TF32},
        )
