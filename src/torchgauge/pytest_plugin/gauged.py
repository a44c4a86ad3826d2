"""What the ``gauge`` fixture gives: a model's figures, and what holds of them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from torchgauge.budget.layers import heaviest_layers
from torchgauge.budget.limits import MEASURES
from torchgauge.facts.report import Report
from torchgauge.pytest_plugin.figures import figure_of
from torchgauge.pytest_plugin.snapshots import Snapshots
from torchgauge.units import format_bytes

if TYPE_CHECKING:
    from torchgauge.request import InputSize


class Verdict:
    """Something that is true or false, with the lines that say why."""

    def __init__(self, name: str, *, holds: bool, lines: list[str]) -> None:
        self.name = name
        self.holds = holds
        self._lines = lines
        self.was_looked_at = False

    def __bool__(self) -> bool:
        self.was_looked_at = True
        return self.holds

    def __repr__(self) -> str:
        return f"<{self._lines[0].rstrip(':')}>"

    @property
    def text(self) -> str:
        """Return all that there is to say."""
        return "\n".join(self._lines)


class Gauge:
    """Makes a ``Gauged`` of a model; see the fixture."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots
        self._verdicts: list[Verdict] = []

    def __call__(self, model: Any, input_size: InputSize | None = None, **options: Any) -> Gauged:
        """Return the figures of a model; the arguments are those of ``torchgauge.analyze``."""
        return Gauged(model, input_size, options, self._snapshots, self._verdicts)

    def overlooked(self) -> str | None:
        """Return what is false and was never asserted; ``None`` where there is nothing."""
        for verdict in self._verdicts:
            if not verdict.holds and not verdict.was_looked_at:
                return f"gauge(…).{verdict.name} is false and was not asserted:\n{verdict.text}"
        return None

    def failed(self) -> list[Verdict]:
        """Return what is false and was asserted."""
        return [item for item in self._verdicts if item.was_looked_at and not item.holds]


class Gauged:
    """One model, analysed when a figure is first asked for."""

    def __init__(
        self,
        model: Any,
        input_size: InputSize | None,
        options: dict[str, Any],
        snapshots: Snapshots,
        verdicts: list[Verdict],
    ) -> None:
        self._model = model
        self._input_size = input_size
        self._options = options
        self._snapshots = snapshots
        self._verdicts = verdicts

    def __repr__(self) -> str:
        return f"gauge({type(self._model).__name__})"

    @cached_property
    def report(self) -> Report:
        """The whole report."""
        from torchgauge.api import analyze

        return analyze(self._model, self._input_size, **self._options)

    @property
    def params(self) -> int:
        """The number of parameters."""
        return self._figure("params", "max-params")

    @property
    def trainable_params(self) -> int:
        """The number of parameters that are trained."""
        return self._figure("trainable_params", "max-trainable-params")

    @property
    def param_bytes(self) -> int:
        """The bytes of the parameters."""
        return self._figure("param_bytes", "max-param-bytes")

    @property
    def macs(self) -> int:
        """The multiply-adds of the forward."""
        return self._figure("macs", "max-macs")

    @property
    def peak_memory(self) -> int:
        """The most bytes of tensors at once."""
        return self._figure("peak_memory", "peak-memory")

    @property
    def device_memory(self) -> int:
        """The bytes that the GPU shows as used; needs ``device="T4"``."""
        return self._figure("device_memory", "device-memory")

    @property
    def step_time(self) -> float:
        """The predicted milliseconds of a step; needs ``device="T4"``."""
        found: float = figure_of(self.report, "step_time", "step-time")
        return found

    @property
    def uncounted(self) -> tuple[str, ...]:
        """The operators whose work is not counted."""
        return tuple(gap.op for gap in self.report.not_counted)

    def fits(self, device: str, batch: int | None = None) -> Verdict:
        """Return whether a step fits on a GPU; ``batch`` says that the sizes have no batch."""
        from torchgauge.api import fits

        options = {name: value for name, value in self._options.items() if name != "device"}
        if batch is not None:
            options["batch_size"] = batch
        asked = {"device": device, "alternatives": False, **options}
        found = fits(self._model, self._input_size, search=False, **asked)
        name = f"fits({device!r}{'' if batch is None else f', batch={batch}'})"
        step = found.devices[0]
        needed, usable = format_bytes(step.device_bytes), format_bytes(step.usable_bytes)
        lines = [f"{found.model_name}: {needed} needed, {step.device} has {usable}"]
        if not step.fits:
            if found.batch_size is not None:
                larger = fits(self._model, self._input_size, **asked).largest_batch
                runs = None if larger is None else larger.runs
                lines.append(f"  the largest batch that fits: {runs or 'none'}")
            lines.append(f"  peak at: {found.peak_at}")
            lines += self._heaviest(device, options)
        return self._kept(Verdict(name, holds=step.fits, lines=lines))

    def matches_snapshot(self, name: str = "", *, within: float = 0.0) -> Verdict:
        """Return whether the figures are those of the snapshot that ``--gauge-update`` wrote.

        ``within`` is the share by which a figure may differ: 0.02 for 2 %. Without it the layers
        must be the same too.
        """
        different = self._snapshots.differences(self.report, name, within)
        called = f"matches_snapshot({name!r})" if name else "matches_snapshot()"
        return self._kept(Verdict(called, holds=not different, lines=different or ["the same"]))

    def _figure(self, name: str, key: str) -> int:
        found: int = figure_of(self.report, name, key)
        return found

    def _kept(self, verdict: Verdict) -> Verdict:
        self._verdicts.append(verdict)
        return verdict

    def _heaviest(self, device: str, options: dict[str, Any]) -> list[str]:
        from torchgauge.api import analyze

        report = analyze(self._model, self._input_size, device=device, **options)
        layers = heaviest_layers(report, MEASURES["peak-memory"])
        return [
            "  largest at the peak:",
            *(f"    {item.path or '(model)'} {item.type}: {format_bytes(item.value)}"
              for item in layers),
        ]  # fmt: skip
