"""The answers to an assistant's questions: a short text, and figures as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchgauge.errors import ModelError
from torchgauge.facts.query import own_costs
from torchgauge.facts.report import Report
from torchgauge.facts.scenario import Scenario
from torchgauge.render import get_format
from torchgauge.render.page import Page
from torchgauge.request import Inputs, Request

_WIDTH = 100
_HEAVIEST = 10
_LAYERS = 20
_LEFT_OUT = ("timeline", "alive_at_peak")
"""Of the memory: one entry per operator says nothing to an assistant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What goes back to the assistant; picklable."""

    text: str
    data: dict[str, Any]


def summary(question: Mapping[str, Any]) -> Answered:
    """Answer what a model is and costs."""
    from torchgauge.render.pages.report import report_page

    report = _analyzed(question)
    text = _text(report_page(report, depth=question.get("depth") or 2))
    return Answered(text=text, data=_short(report))


def fit(question: Mapping[str, Any]) -> Answered:
    """Answer whether a step fits, and what would make it fit."""
    from torchgauge.fit.finder import FitOptions, fit_model
    from torchgauge.models.requests import build_for, check_runs, with_build
    from torchgauge.render.pages.fit import fit_page

    names: Sequence[str] = question["devices"]
    request = _request(question)
    made = build_for(request)
    check_runs(made)
    context = question.get("context")
    asked = with_build(request, made, without_inputs=context is not None)
    found = fit_model(asked, names, FitOptions(context=context))
    return Answered(text=_text(fit_page(found)), data=found.to_dict())


def compare(question: Mapping[str, Any]) -> Answered:
    """Answer what changes from one model, or scenario, to another."""
    from torchgauge.compare.reports import compare_reports
    from torchgauge.render.pages.loop.comparison import comparison_page

    before = _analyzed(question)
    changed = {key: value for key, value in question["changes"].items() if value is not None}
    after = _analyzed({**question, "model": question.get("other") or question["model"], **changed})
    found = compare_reports(before, after)
    data = found.to_dict()
    data["more_layers"] = max(0, len(data["layers"]) - _LAYERS)
    data["layers"] = data["layers"][:_LAYERS]
    return Answered(text=_text(comparison_page(found)), data=data)


def advise(question: Mapping[str, Any]) -> Answered:
    """Answer what is wrong with a model, and which changes reach a goal."""
    from torchgauge.advise.engine import AdviceOptions, advise_model
    from torchgauge.facts.loop.advice import Accuracy
    from torchgauge.models.requests import build_for, with_build
    from torchgauge.render.pages.loop.advice import advice_page

    request = _request(question)
    allow = Accuracy(question.get("accuracy") or Accuracy.RETRAIN)
    options = AdviceOptions(goal=question.get("goal"), allow=allow, prove=False)
    found = advise_model(with_build(request, build_for(request)), options)
    return Answered(text=_text(advice_page(found)), data=found.to_dict())


def devices(question: Mapping[str, Any]) -> Answered:
    """Answer which devices there are to predict for."""
    from torchgauge.devices import all_devices, search_devices
    from torchgauge.render.pages.devices import DeviceList, device_fields, devices_page
    from torchgauge.trace.local_gpus import local_gpus

    words = question.get("search") or ""
    found = search_devices(words) if words.strip() else all_devices()
    shown = DeviceList(devices=found, known=len(all_devices()), local=local_gpus())
    names = ("name", "kind", "usable_memory_bytes", "bandwidth_bytes_per_second")
    rows = [{name: device_fields(device)[name] for name in names} for device in found]
    here = [{"name": gpu.name, "total_bytes": gpu.total_bytes} for gpu in shown.local or ()]
    return Answered(text=_text(devices_page(shown)), data={"devices": rows, "local_gpus": here})


ANSWERS: dict[str, Callable[[Mapping[str, Any]], Answered]] = {
    "summary": summary,
    "fit": fit,
    "compare": compare,
    "advise": advise,
    "devices": devices,
}


# ------------------------------------------------------------------ request and report


def _request(question: Mapping[str, Any]) -> Request:
    fields: dict[str, Any] = {
        name: question[name]
        for name in ("mode", "device", "precision", "optimizer", "checkpointing", "accumulation")
        if question.get(name) is not None
    }
    return Request(
        spec=question["model"],
        settings=question.get("settings") or {},
        inputs=Inputs(
            size=_sizes(question.get("input_size")),
            dtypes=question.get("dtypes"),
            batch_size=question.get("batch_size"),
        ),
        scenario=Scenario(**fields),
    )


def _sizes(given: Any) -> Any:
    """Return sizes as ``Inputs`` takes them: JSON has lists."""
    if isinstance(given, Mapping):
        return {name: tuple(size) for name, size in given.items()}
    if given and isinstance(given[0], list):
        return [tuple(size) for size in given]
    return tuple(given) if given else None


def _analyzed(question: Mapping[str, Any]) -> Report:
    from torchgauge.analyze import analyze_model
    from torchgauge.models.requests import build_for, with_build

    request = _request(question)
    try:
        return analyze_model(with_build(request, build_for(request)))
    except ModelError as error:
        # The partial report does not travel to the server, and its text names the layer.
        raise replace_report(error) from error


def replace_report(error: ModelError) -> ModelError:
    """Return the error of a model without what ran before it."""
    return ModelError(error.message, hint=error.hint)


def _short(report: Report) -> dict[str, Any]:
    """Return the figures of a report and its heaviest layers, without the tree."""
    data = report.to_dict()
    data.pop("modules")
    for name in _LEFT_OUT:
        (data.get("memory") or {}).pop(name, None)
    if data.get("time"):
        data["time"].pop("ops", None)
    data["modules"] = len(report.modules)
    data["heaviest"] = _heaviest(report)
    return data


def _heaviest(report: Report) -> list[dict[str, Any]]:
    """Return the layers with the largest share of any figure, without their sub-modules."""
    names = ("params", "macs", "saved_activation_bytes", "activation_bytes", "time_ms")
    costs = own_costs(report)
    totals = {name: sum(getattr(cost, name) for cost in costs.values()) for name in names}

    def share(path: str) -> float:
        shares = (getattr(costs[path], name) / totals[name] for name in names if totals[name])
        return max(shares, default=0.0)

    ranked = sorted(costs, key=share, reverse=True)[:_HEAVIEST]
    return [
        {
            "path": path,
            "type": report.modules[path].type,
            **{name: value for name in names if (value := getattr(costs[path], name))},
        }
        for path in ranked
        if share(path)
    ]


def _text(page: Page) -> str:
    text: str = get_format("text", width=_WIDTH, details=False).render(page)
    return text
