"""``torch.compile``: element-wise chains in one kernel, and fewer launches."""

from __future__ import annotations

from collections.abc import Iterator

from torchgauge.advise.rules.how_it_runs import ScenarioOnly, gpu_of
from torchgauge.advise.subject import Subject
from torchgauge.changes.change import Change
from torchgauge.units import format_percent


class Compile(ScenarioOnly):
    """Propose ``torch.compile`` on a GPU whose time is predicted."""

    name = "compile"
    about = "kernels launched one by one, instead of fused by torch.compile"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield one change; the time predictor says what it gains."""
        time = subject.report.time
        if gpu_of(subject) is None or time is None or time.bound_by is None:
            yield "the time on this device is not predicted"
            return
        if subject.report.scenario.compiled:
            yield "the step is compiled already"
            return
        launch = time.bound_by.get("launch", 0.0)
        yield Change(
            rule=self.name,
            axis="compile",
            text="compile the model",
            why=f"{format_percent(round(launch, 2), 1.0)} of the time goes to launches, and "
            "element-wise kernels read and write what one kernel could keep",
            cost="the first step of each input shape compiles; memory is that of the eager step",
            source="Ansel et al., PyTorch 2, ASPLOS 2024",
            snippet=("model = torch.compile(model)",),
            scenario={"compiled": True},
        )
