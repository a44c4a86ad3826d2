"""An answer as the page takes it: its own JSON, and what its pictures are drawn from.

``web/src/types.ts`` declares the same to the page's program.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torchgauge.compare.reports import compare_reports
from torchgauge.facts.loop.advice import Advice, Checked, Patch, Suggestion
from torchgauge.facts.query import COST_FIELDS, own_costs
from torchgauge.facts.report import Report
from torchgauge.language import spoken, translated
from torchgauge.render.tree.parts import folded_siblings
from torchgauge.reports import estimate_trace, step_of

VERSION = 1


def page_data(
    *reports: Report,
    devices: Sequence[str] = (),
    language: str | None = None,
    live: bool = False,
    advice: Advice | None = None,
) -> dict[str, Any]:
    """Return what the page holds.

    Args:
        reports: one to show, or two to compare: the first is the baseline.
        devices: further GPUs to say of whether the step fits them.
        language: ``"en"`` or ``"zh"``; the browser's by default.
        live: whether a server answers the page's questions.
        advice: on the report that is shown.

    Raises:
        DeviceError: a device is not known.
        ScenarioError: a device runs other kernels than the step was traced with.
    """
    data: dict[str, Any] = {
        "version": VERSION,
        "answers": [answer_data(report, devices) for report in reports],
        "language": language,
        "live": live,
    }
    if len(reports) == 2:  # which layer is which: renamed and moved ones are recognised
        data["layers"] = compare_reports(*reports).to_dict()["layers"]
    if advice is not None:
        data["advice"] = advice_data(advice)
    return data


def answer_data(report: Report, devices: Sequence[str] = ()) -> dict[str, Any]:
    """Return a report with its step, its own costs by module and its folds."""
    numbers = {path: index for index, path in enumerate(report.modules)}
    own = own_costs(report)
    return {
        "report": report.to_dict(),
        "step": None if report.trace is None else step_of(report.trace, report.memory).to_dict(),
        "own": {
            name: [round(getattr(own[path], name), 6) for path in report.modules]
            for name in COST_FIELDS
        },
        "folds": [[numbers[path] for path in paths] for paths in folded_siblings(report)],
        "devices": list(_devices(report, devices)),
        "chinese": chinese(_sentences(report)),
    }


def advice_data(advice: Advice) -> dict[str, Any]:
    """Return advice with its sentences in Chinese: the page changes its language by itself."""
    faults = (text for fault in advice.faults for text in (fault.text, fault.why, fault.remedy))
    patches = (text for fault in advice.faults for text in _patch_texts(fault.patched))
    steps = (text for step in advice.path for text in (step.text, *_check_texts(step.check)))
    changes = (step.change for step in advice.path if step.change is not None)
    quiet = (item.why for item in advice.quiet)
    together = (text for item in advice.front for text in item.changes)
    texts = (
        *_texts((*advice.suggestions, *changes)),
        *faults,
        *patches,
        *steps,
        *_patch_texts(advice.path_patch),
        *quiet,
        *together,
        advice.nearest,
    )
    return {"advice": advice.to_dict(), "chinese": chinese(texts)}


def _sentences(report: Report) -> Iterator[str]:
    """Yield what the page says in the report's own words."""
    yield from (*report.assumptions, *report.warnings)
    yield from (gap.why for gap in report.not_counted)
    if report.failure is not None:
        yield report.failure.hint
    yield from _texts([report.suggestion] if report.suggestion else [])


def _texts(suggestions: Iterable[Suggestion]) -> Iterator[str]:
    for item in suggestions:
        yield from (item.text, item.why, item.cost, *item.proof, *_patch_texts(item.patched))
        yield from _check_texts(item.check)


def _check_texts(check: Checked | None) -> Iterator[str]:
    if check is not None:
        yield check.note


def _patch_texts(patched: Patch | None) -> Iterator[str]:
    if patched is not None:
        yield from (*patched.proof, patched.why_not)


def chinese(texts: Iterable[str]) -> dict[str, str]:
    """Return each text that has a translation, with it."""
    with spoken("zh"):
        found = {text: translated(text) for text in texts}
    return {text: other for text, other in found.items() if other != text}


def _devices(report: Report, names: Sequence[str]) -> list[dict[str, Any]]:
    found = [_device(report)]
    if report.trace is not None:
        found += [_device(estimate_trace(report.trace, name)) for name in names]
    return [row for row in found if row is not None]


def _device(report: Report) -> dict[str, Any] | None:
    memory = report.memory
    if memory is None or memory.device_bytes is None or memory.capacity_bytes is None:
        return None
    low, high = memory.intervals.get("device_bytes", (memory.device_bytes, memory.device_bytes))
    fits = "fits" if memory.fits else "does-not-fit"
    return {
        "device": report.scenario.device,
        "device_bytes": memory.device_bytes,
        "capacity_bytes": memory.capacity_bytes,
        "low_bytes": low,
        "high_bytes": high,
        "verdict": str(memory.verdict or fits),
        "total_ms": report.time.total_ms if report.time is not None else None,
    }
