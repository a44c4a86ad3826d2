"""Two reports → what changed. A pure function; nothing is traced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields

from torchgauge.compare.matching import matched
from torchgauge.facts.loop.comparison import (
    LAYER_FIGURES,
    ChangeKind,
    Comparison,
    Figure,
    LayerChange,
    Setting,
    VerdictChange,
)
from torchgauge.facts.query import Cost, has_run, own_costs, parent_path
from torchgauge.facts.report import Report
from torchgauge.version import __version__

_TOTALS = (
    "params", "trainable_params", "param_bytes", "buffer_bytes", "forward_macs", "forward_flops",
    "backward_flops", "total_flops", "elementwise_flops",
)  # fmt: skip
_MEMORY = (
    "peak_allocated_bytes", "device_bytes", "peak_reserved_bytes", "context_bytes",
    "minimum_bytes", "parameter_bytes", "gradient_bytes", "optimizer_bytes",
    "saved_activation_bytes", "input_bytes", "output_bytes",
)  # fmt: skip
_TIME = ("total_ms", "forward_ms", "loss_ms", "backward_ms", "optimizer_ms")
_OUTSIDE = {
    "params": "params", "trainable_params": "trainable_params", "param_bytes": "param_bytes",
    "macs": "forward_macs", "backward_flops": "backward_flops",
    "elementwise_flops": "elementwise_flops",
}  # fmt: skip
"""Layers' figures whose sum, with what no layer does, is a total of the model."""
_NOISE_MS = 1e-6
"""What rounding makes of equal times."""


def compare_reports(before: Report, after: Report) -> Comparison:
    """Return what changed from one report to the other; they may be of different scenarios."""
    layers = _Layers(before, after)
    return Comparison(
        tool_version=__version__,
        model_before=before.model,
        model_after=after.model,
        settings=tuple(_settings(before, after)),
        figures=tuple(_figures(before, after)),
        verdict=_verdict(before, after),
        layers=tuple(layers.changes()),
        outside=layers.outside(),
        notes=tuple(_notes(before, after)),
    )


# ------------------------------------------------------------------ the whole model


def _figures(before: Report, after: Report) -> Iterator[Figure]:
    for part, names in (("totals", _TOTALS), ("memory", _MEMORY), ("time", _TIME)):
        for name in names:
            pair = _figure(before, part, name), _figure(after, part, name)
            if pair != (None, None):
                yield Figure(name=f"{part}.{name}", before=pair[0], after=pair[1])


def _figure(report: Report, part: str, name: str) -> float | None:
    """Return a figure of a report; work that nobody ran is not known."""
    if name.endswith(("macs", "flops")) and not has_run(report):
        return None
    value: float | None = getattr(getattr(report, part), name, None)
    return value


def _settings(before: Report, after: Report) -> Iterator[Setting]:
    one, other = before.scenario, after.scenario
    pairs = [
        (item.name.replace("_", " "), getattr(one, item.name), getattr(other, item.name))
        for item in fields(one)
    ]
    pairs += [
        ("batch size", before.batch_size, after.batch_size),
        ("inputs", _inputs(before), _inputs(after)),
        ("execution", before.execution, after.execution),
        ("PyTorch", before.torch_version, after.torch_version),
    ]
    for name, left, right in pairs:
        if left != right:
            yield Setting(name=name, before=_text(left), after=_text(right))


def _inputs(report: Report) -> str:
    tensors = (value.tensor for value in report.inputs if value.tensor is not None)
    return ", ".join(f"{list(tensor.shape)} {tensor.dtype}" for tensor in tensors)


def _text(value: object) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in value.items()) or "none"
    return str(value)


def _verdict(before: Report, after: Report) -> VerdictChange | None:
    old, new = _verdict_of(before), _verdict_of(after)
    if old is None or new is None or old == new:
        return None
    return VerdictChange(
        device_before=before.scenario.device,
        device_after=after.scenario.device,
        before=old,
        after=new,
    )


def _verdict_of(report: Report) -> str | None:
    memory = report.memory
    if memory is None or memory.fits is None:
        return None
    return str(memory.verdict or ("fits" if memory.fits else "does-not-fit"))


def _notes(before: Report, after: Report) -> Iterator[Setting]:
    for name, old, new in (
        ("failed", _failures(before), _failures(after)),
        ("not counted", _gaps(before), _gaps(after)),
        ("guessed", before.guesses, after.guesses),
        ("warning", before.warnings, after.warnings),
    ):
        for text in old:
            if text not in new:
                yield Setting(name=name, before=text, after="")
        for text in new:
            if text not in old:
                yield Setting(name=name, before="", after=text)


def _failures(report: Report) -> tuple[str, ...]:
    failure = report.failure
    if failure is None:
        return ()
    return (f"{failure.path or 'the model itself'} in {failure.phase}: {failure.error}",)


def _gaps(report: Report) -> tuple[str, ...]:
    return tuple(f"{gap.op}: {gap.why}" for gap in report.not_counted)


# ------------------------------------------------------------------ layers


class _Layers:
    def __init__(self, before: Report, after: Report) -> None:
        self._before, self._after = before, after
        self._partners = matched(before, after)
        self._old, self._new = own_costs(before), own_costs(after)
        self._scale = {name: self._total(name) for name in LAYER_FIGURES}

    def changes(self) -> list[LayerChange]:
        """Return the layers that are not the same, those that carry most first."""
        new_ones = set(self._after.modules) - set(self._partners.values())
        gone = set(self._before.modules) - set(self._partners)
        found = [
            *self._pairs(),
            *self._alone(self._after, self._new, new_ones, ChangeKind.ADDED),
            *self._alone(self._before, self._old, gone, ChangeKind.REMOVED),
        ]
        return sorted(
            found, key=lambda item: (item.kind is ChangeKind.RENAMED, -self._weight(item))
        )

    def outside(self) -> dict[str, float]:
        """Return what of the totals' differences no layer carries."""
        found: dict[str, float] = {}
        for name, total in _OUTSIDE.items():
            whole = getattr(self._after.totals, total) - getattr(self._before.totals, total)
            found[name] = whole - self._summed(name)
        one, other = self._before.time, self._after.time
        if one is not None and other is not None:
            found["time_ms"] = other.total_ms - one.total_ms - self._summed("time_ms")
        return {name: value for name, value in found.items() if abs(value) > _NOISE_MS}

    def _summed(self, name: str) -> float:
        new = sum(getattr(cost, name) for cost in self._new.values())
        return float(new - sum(getattr(cost, name) for cost in self._old.values()))

    def _total(self, name: str) -> float:
        sums = (sum(getattr(cost, name) for cost in costs.values())
                for costs in (self._old, self._new))  # fmt: skip
        return float(max(sums))

    def _weight(self, change: LayerChange) -> float:
        """Return the largest share of any figure of the model that a change carries."""
        shares = (
            abs(value) / self._scale[name]
            for name, value in change.difference.items()
            if self._scale[name]
        )
        return max(shares, default=0.0)

    def _pairs(self) -> Iterator[LayerChange]:
        for path, other in self._partners.items():
            old, new = self._old[path], self._new[other]
            types = self._before.modules[path].type, self._after.modules[other].type
            is_equal = _same(old, new)
            if is_equal and types[0] == types[1] and path == other:
                continue
            kind = ChangeKind.RENAMED if is_equal and types[0] == types[1] else ChangeKind.CHANGED
            before, after = _figures_of(old, new)
            yield LayerChange(
                kind=kind,
                path_before=path,
                path_after=other,
                type_before=types[0],
                type_after=types[1],
                before=before,
                after=after,
            )

    def _alone(
        self, report: Report, costs: Mapping[str, Cost], paths: set[str], kind: ChangeKind
    ) -> Iterator[LayerChange]:
        """Yield the topmost of the modules that are there only once, with those below them."""
        groups: dict[str, list[str]] = {}
        tops: dict[str, str] = {}
        for path in report.modules:
            if path in paths:
                parent = parent_path(path)
                tops[path] = tops.get(parent, path) if parent is not None else path
                groups.setdefault(tops[path], []).append(path)
        is_new = kind is ChangeKind.ADDED
        for top, members in groups.items():
            cost = sum((costs[path] for path in members), start=Cost())
            figures = _figures_of(cost, cost)[0]
            kept = (None, report.modules[top].type) if is_new else (report.modules[top].type, None)
            yield LayerChange(
                kind=kind,
                path_before=None if is_new else top,
                path_after=top if is_new else None,
                type_before=kept[0],
                type_after=kept[1],
                modules=len(members),
                before={} if is_new else figures,
                after=figures if is_new else {},
            )


def _same(old: Cost, new: Cost) -> bool:
    return all(
        abs(getattr(old, name) - getattr(new, name)) <= _NOISE_MS * (name == "time_ms")
        for name in LAYER_FIGURES
    )


def _figures_of(old: Cost, new: Cost) -> tuple[dict[str, float], dict[str, float]]:
    names = [n for n in LAYER_FIGURES if getattr(old, n) or getattr(new, n)]
    return {n: getattr(old, n) for n in names}, {n: getattr(new, n) for n in names}
