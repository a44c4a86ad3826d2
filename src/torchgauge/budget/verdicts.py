"""A report and its limits → what came of each. Pure functions; nothing is traced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torchgauge.budget.baselines import settings_changed
from torchgauge.budget.layers import grown_layers, heaviest_layers
from torchgauge.budget.limits import FITS, MEASURES, NOTHING_UNCOUNTED, Limit, Measure
from torchgauge.facts.fit import DeviceFit, Verdict
from torchgauge.facts.loop.check import LayerShare, LimitCheck, Outcome, Unit
from torchgauge.facts.report import Report
from torchgauge.loop.worker import Answered
from torchgauge.units import format_number_of

_VERDICTS = {
    Verdict.FITS: "fits",
    Verdict.FRAGMENTED: "fits only by giving cached memory back",
    Verdict.TOO_CLOSE: "too close to call",
    Verdict.DOES_NOT_FIT: "does not fit",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What relative limits are held against."""

    report: Report | None = None
    lacking: str = ""
    """Why there is no report."""
    hint: str = ""

    def unusable_for(self, report: Report) -> str:
        """Return why the figures of another question cannot be compared; ``""`` if they can."""
        if self.report is None:
            return self.lacking
        changed = ", ".join(settings_changed(self.report, report))
        return f"the baseline is of another scenario: {changed}" if changed else ""


def checked(
    limits: tuple[Limit, ...], answered: Answered, baseline: Baseline
) -> Iterator[LimitCheck]:
    """Yield what came of each limit; ``fits`` yields one for each device."""
    report = answered.report
    assert report is not None
    for limit in limits:
        if limit.key == FITS:
            yield from (_of_device(limit, device, answered) for device in answered.devices)
        elif limit.key == NOTHING_UNCOUNTED:
            yield _uncounted(limit, report)
        else:
            yield _of_figure(limit, report, baseline)


def _of_figure(limit: Limit, report: Report, baseline: Baseline) -> LimitCheck:
    measure = MEASURES[limit.key]
    found = LimitCheck(
        key=limit.key,
        figure=measure.figure,
        unit=measure.unit,
        written=limit.written,
        line=limit.line,
        outcome=Outcome.ERROR,
        value=measure.value_of(report),
    )
    if found.value is None:
        return replace(found, detail=measure.lacking, hint=measure.hint)
    before = None
    if limit.is_relative:
        if why := baseline.unusable_for(report):
            return replace(found, detail=why, hint=baseline.hint)
        assert baseline.report is not None
        before = measure.value_of(baseline.report)
        if before is None:
            why = f"the baseline does not hold {measure.figure}"
            return replace(found, detail=why, hint=baseline.hint)
    most = limit.limit(before)
    found = replace(found, limit=most, baseline=before)
    if found.value is not None and found.value <= most:
        return replace(found, outcome=Outcome.OK)
    return replace(
        found, outcome=Outcome.OVER, layers=_layers(report, baseline, measure, limit.is_relative)
    )


def _layers(
    report: Report, baseline: Baseline, measure: Measure, is_relative: bool
) -> tuple[LayerShare, ...]:
    if is_relative and baseline.report is not None:
        grown = grown_layers(baseline.report, report, measure)
        if grown:
            return grown
    return heaviest_layers(report, measure)


def _uncounted(limit: Limit, report: Report) -> LimitCheck:
    gaps = report.not_counted
    return LimitCheck(
        key=limit.key,
        figure="not_counted",
        unit=Unit.OPERATORS,
        written=limit.written,
        line=limit.line,
        outcome=Outcome.OVER if gaps else Outcome.OK,
        value=len(gaps),
        limit=0,
        detail="; ".join(f"{gap.op} ({gap.calls} ×): {gap.why}" for gap in gaps),
    )


def _of_device(limit: Limit, device: DeviceFit, answered: Answered) -> LimitCheck:
    detail = _VERDICTS[device.verdict]
    report = answered.report
    layers: tuple[LayerShare, ...] = ()
    if not device.fits and report is not None:
        layers = heaviest_layers(report, MEASURES["peak-memory"])
        if device.device in answered.largest:
            largest = answered.largest[device.device]
            alone = "not even one sample does"
            detail += f"; {alone}" if largest is None else f"; the largest batch is {largest}"
    return LimitCheck(
        key=limit.key,
        figure="memory.device_bytes",
        unit=Unit.BYTES,
        written=device.device,
        line=limit.line,
        outcome=Outcome.OK if device.fits else Outcome.OVER,
        value=device.device_bytes,
        limit=device.usable_bytes - device.other_programs_bytes,
        detail=detail,
        layers=layers,
    )


def doubts_of(report: Report) -> Iterator[str]:
    """Yield what ``--strict`` does not let pass."""
    for gap in report.not_counted:
        yield f"not counted: {gap.op} ({format_number_of(gap.calls, 'call')}): {gap.why}"
    yield from (f"guessed: {text}" for text in report.guesses)
    yield from (f"warning: {text}" for text in report.warnings)
