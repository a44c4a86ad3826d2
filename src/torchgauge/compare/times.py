"""A predicted step beside the measured one: where the prediction holds and where it does not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from torchgauge.errors import UsageError
from torchgauge.facts.precision import dtypes_of, precision_text
from torchgauge.facts.query import own_costs
from torchgauge.facts.report import Report
from torchgauge.facts.time import OUTSIDE, StepTime, TimeComparison, TimeRow
from torchgauge.facts.trace import Phase


def compare_times(predicted: Report, measured: Report) -> TimeComparison:
    """Lay the times of a predicted and of a measured report side by side.

    Raises:
        UsageError: a report holds no times, or they are of different models or scenarios.
    """
    ours, theirs = _time_of(predicted, "predicted"), _time_of(measured, "measured")
    if list(predicted.modules) != list(measured.modules):
        raise UsageError(
            "the reports describe different models: their modules differ",
            hint="predict and measure the same model",
        )
    if predicted.scenario.mode != measured.scenario.mode:
        raise UsageError(
            f"one report is of {predicted.scenario.mode}, the other of {measured.scenario.mode}",
            hint="predict and measure the same scenario",
        )
    for what, one, other in (
        ("batch size", predicted.batch_size, measured.batch_size),
        ("precision", _precision_of(predicted), _precision_of(measured)),
        ("kind of device", _device_of(predicted), _device_of(measured)),
    ):
        if one != other:
            raise UsageError(
                f"the reports differ in the {what}: {one} and {other}",
                hint="predict and measure the same scenario",
            )
    total = TimeRow(name="total", kind="", predicted_ms=ours.total_ms, measured_ms=theirs.total_ms)
    return TimeComparison(
        model_name=measured.model_name,
        predicted_on=predicted.scenario.device,
        measured_on=theirs.measured.device if theirs.measured else measured.scenario.device,
        total=total,
        phases=tuple(_phases(ours, theirs)),
        modules=_worst_first(_modules(predicted, measured, ours, theirs)),
        operators=_worst_first(_operators(ours, theirs)),
    )


def _precision_of(report: Report) -> str:
    """Return the precision; of a model as built of one dtype, the one that casts nothing in it."""
    text = precision_text(report.scenario.precision, dtypes_of(report))
    return text.removeprefix("as built: ")


def _device_of(report: Report) -> str:
    return "cpu" if report.scenario.device == "cpu" else "gpu"


def _time_of(report: Report, what: str) -> StepTime:
    if report.time is None:
        raise UsageError(
            f"the {what} report holds no times",
            hint="measure() measures them; analyze() predicts them for a GPU or a calibrated CPU",
        )
    return report.time


def _worst_first(rows: Iterable[TimeRow]) -> tuple[TimeRow, ...]:
    return tuple(sorted(rows, key=lambda row: (-abs(row.difference_ms), row.name, row.kind)))


def _phases(ours: StepTime, theirs: StepTime) -> Iterable[TimeRow]:
    for phase in Phase:
        name = f"{phase}_ms"
        predicted, measured = getattr(ours, name), getattr(theirs, name)
        if predicted or measured:
            yield TimeRow(name=phase, kind="", predicted_ms=predicted, measured_ms=measured)


def _modules(
    predicted: Report, measured: Report, ours: StepTime, theirs: StepTime
) -> Iterable[TimeRow]:
    own, real = own_costs(predicted), own_costs(measured)
    for path, module in measured.modules.items():
        if own[path].time_ms or real[path].time_ms:
            yield TimeRow(
                name=path,
                kind=module.type,
                predicted_ms=own[path].time_ms,
                measured_ms=real[path].time_ms,
            )
    yield TimeRow(
        name=OUTSIDE, kind="", predicted_ms=ours.outside_ms, measured_ms=theirs.outside_ms
    )


def _operators(ours: StepTime, theirs: StepTime) -> Iterable[TimeRow]:
    both = [_by_operator(time) for time in (ours, theirs)]
    for name, phase in dict.fromkeys((*both[0], *both[1])):
        yield TimeRow(
            name=name,
            kind=phase,
            predicted_ms=both[0].get((name, phase), 0.0),
            measured_ms=both[1].get((name, phase), 0.0),
        )


def _by_operator(time: StepTime) -> Mapping[tuple[str, Phase], float]:
    found: defaultdict[tuple[str, Phase], float] = defaultdict(float)
    for op in time.ops:
        found[op.name, op.phase] += op.time_ms
    return found
