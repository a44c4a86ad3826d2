"""The model as a tree of parts whose costs add up; equal neighbours are folded into one part.

A part is a module, a bare parameter of a module that has sub-modules, or what such a module
computes itself, outside its sub-modules. Which parts sum to the totals: those without children.
A part's cost is the sum over its whole subtree, and over all the copies that were folded into it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby

from torchgauge.facts.query import Cost, call_cost, children_by_path, forward_calls, own_costs
from torchgauge.facts.report import CallCost, ModuleReport, Report
from torchgauge.facts.trace import NamedValue, ParameterInfo

FUNCTIONAL = "(functional)"
"""The name of what a module computes itself, outside its sub-modules."""

DEFAULT_WORK = ("macs", "backward_flops", "saved_activation_bytes", "activation_bytes")

_FEWEST_BLOCKS, _FEWEST_LAYERS = 2, 3
_LEAST_BUSY = 0.02


class Kind(StrEnum):
    """What a part is."""

    MODULE = "module"
    PARAMETER = "parameter"
    """A bare ``nn.Parameter`` of a module that has sub-modules."""
    WORK = "work"
    """What a module that has sub-modules computes itself."""
    CALLS = "calls"
    """Some of the calls of a module whose calls differ; its costs are within the module's."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """One row of the table before it is written."""

    kind: Kind
    path: str
    name: str
    """Relative to the parent; ``0–11`` when twelve equal siblings were folded."""
    label: str
    """The path for people: ``layers.0–11.fc1``."""
    type: str
    depth: int
    cost: Cost
    calls: tuple[CallCost, ...] = ()
    """Forward calls of the module (the first of the folded ones)."""
    module: ModuleReport | None = None
    parameter: ParameterInfo | None = None
    fold: int = 1
    """How many equal siblings this part stands for."""
    copies: int = 1
    """How many modules it stands for, those inside folded parents included."""
    children: tuple[Part, ...] = ()


def build_parts(
    report: Report,
    *,
    expand: bool = False,
    work: Collection[str] = DEFAULT_WORK,
) -> Part:
    """Return the root's part.

    Args:
        report: the report.
        expand: keep equal siblings apart, and give each different call of a module a part.
        work: the cost fields of which a non-zero value makes ``(functional)`` parts appear.
    """
    return _Builder(report, expand, work).part(report.modules[""], label="")


def folded_siblings(report: Report) -> list[list[str]]:
    """Return the paths of each run of equal siblings that the table folds into one row."""
    builder = _Builder(report, expand=False, work=DEFAULT_WORK)
    builder.part(report.modules[""], label="")
    return builder.folds


def innermost(part: Part) -> Iterator[Part]:
    """Yield the parts that sum to the totals: those without children."""
    if not part.children or part.children[0].kind is Kind.CALLS:
        yield part
        return
    for child in part.children:
        yield from innermost(child)


class _Builder:
    def __init__(self, report: Report, expand: bool, work: Collection[str]) -> None:
        self._own = own_costs(report)
        self._children = children_by_path(report)
        self._expand = expand
        self._work = tuple(work)
        self._ids: dict[object, int] = {}
        self._model_name = report.model_name
        self.folds: list[list[str]] = []
        self._busy_types = _busy_types(report, self._own, self._children)

    def part(self, module: ModuleReport, label: str) -> Part:
        below = self._children[module.path]
        part = Part(
            kind=Kind.MODULE,
            path=module.path,
            name=module.name or self._model_name,
            label=label or self._model_name,
            type=module.type,
            depth=module.depth,
            cost=self._own[module.path],
            calls=forward_calls(module),
            module=module,
        )
        if not below:
            return replace(part, children=_different_calls(part)) if self._expand else part
        modules = [self.part(child, _join(label, child.name)) for child in below]
        if not self._expand:
            modules = self._folded(modules, label)
        children = (*self._parameters(module, label), *modules, *self._functional(module, label))
        cost = sum((child.cost for child in modules), start=part.cost)
        return replace(part, children=children, cost=cost)

    def _parameters(self, module: ModuleReport, label: str) -> Iterator[Part]:
        for item in module.own_parameters:
            if item.is_buffer:
                continue
            name = item.name.rpartition(".")[2]
            counted = item.numel if item.shared_with is None else 0
            cost = Cost(
                params=counted,
                trainable_params=counted if item.trainable else 0,
                param_bytes=item.stored_bytes if item.shared_with is None else 0,
            )
            yield Part(
                kind=Kind.PARAMETER,
                path=item.name,
                name=name,
                label=_join(label, name),
                type="Parameter",
                depth=module.depth + 1,
                cost=cost,
                parameter=item,
            )

    def _functional(self, module: ModuleReport, label: str) -> Iterator[Part]:
        own = self._own[module.path]
        if module.type in self._busy_types or any(getattr(own, field) for field in self._work):
            cost = replace(own, params=0, trainable_params=0, param_bytes=0, gradient_bytes=0)
            yield Part(
                kind=Kind.WORK,
                path=module.path,
                name=FUNCTIONAL,
                label=f"{label or self._model_name} {FUNCTIONAL}",
                type="",
                depth=module.depth + 1,
                cost=cost,
            )

    def _folded(self, parts: list[Part], label: str) -> list[Part]:
        """Fold runs of equal siblings whose names count up: those of other names differ in role."""
        folded: list[Part] = []
        for equal in self._runs(parts):
            fewest = _FEWEST_BLOCKS if equal[0].children else _FEWEST_LAYERS
            if len(equal) < fewest:
                folded.extend(equal)
                continue
            self.folds.append([part.path for part in equal])
            name = range_name(equal[0].name, equal[-1].name)
            folded.append(
                replace(
                    _relabelled(_merged(equal), _join(label, equal[0].name), _join(label, name)),
                    name=name,
                    fold=len(equal),
                )
            )
        return folded

    def _runs(self, parts: list[Part]) -> list[list[Part]]:
        runs: list[list[Part]] = []
        for part in parts:
            before = runs[-1][-1] if runs else None
            if (
                before is not None
                and _follows(before.name, part.name)
                and (self._identity(before) == self._identity(part))
            ):
                runs[-1].append(part)
            else:
                runs.append([part])
        return runs

    def _identity(self, part: Part) -> int:
        """Return a number that is the same for parts that look and cost the same."""
        below = tuple((child.name, self._identity(child)) for child in part.children)
        calls = tuple(_call_key(call) for call in part.module.calls) if part.module else ()
        cost = replace(part.cost, peak_allocated_bytes=0, time_ms=0.0, backward_time_ms=0.0)
        key = (part.kind, part.type, cost, _own_key(part), calls, below)  # peaks and times differ
        return self._ids.setdefault(key, len(self._ids))


def _busy_types(
    report: Report,
    own: Mapping[str, Cost],
    children: Mapping[str, tuple[ModuleReport, ...]],
) -> frozenset[str]:
    """Return the types of containers that take part of the step by themselves.

    Every container takes some time; by type, so that equal blocks remain equal.
    """
    if report.time is None:
        return frozenset()
    spent: defaultdict[str, float] = defaultdict(float)
    for path, module in report.modules.items():
        if children[path]:
            spent[module.type] += own[path].time_ms
    least = _LEAST_BUSY * report.time.total_ms
    return frozenset(kind for kind, milliseconds in spent.items() if milliseconds >= least)


def range_name(first: str, last: str) -> str:
    """Name a run of numbered siblings; the beginning that they share is not repeated.

    >>> range_name("0", "11"), range_name("block_0", "block_11")
    ('0–11', 'block_0–11')
    """
    return f"{first}–{last.removeprefix(_numbered(first)[0])}"


def _follows(before: str, name: str) -> bool:
    """Return whether a name is the next one of a count.

    >>> _follows("9", "10"), _follows("block1", "block2"), _follows("query", "key")
    (True, True, False)
    """
    (stem, number), (other, following) = _numbered(before), _numbered(name)
    return bool(number and following) and stem == other and int(following) == int(number) + 1


def _numbered(name: str) -> tuple[str, str]:
    """Return a name without the number at its end, and that number."""
    stem = name.rstrip("0123456789")
    return stem, name.removeprefix(stem)


def _join(label: str, name: str) -> str:
    return f"{label}.{name}" if label else name


def _merged(parts: list[Part]) -> Part:
    """Return the first part with the costs of all of them, at every level."""
    children = tuple(
        _merged(list(same)) for same in zip(*(part.children for part in parts), strict=True)
    )
    cost = sum((part.cost for part in parts), start=Cost())
    copies = sum(part.copies for part in parts)
    return replace(parts[0], cost=cost, children=children, copies=copies)


def _relabelled(part: Part, old: str, new: str) -> Part:
    label = new + part.label.removeprefix(old)
    below = tuple(_relabelled(child, old, new) for child in part.children)
    return replace(part, label=label, children=below)


def _different_calls(part: Part) -> tuple[Part, ...]:
    """Return one part per run of equal calls, none when all calls are equal."""
    runs = [list(run) for _, run in groupby(part.calls, key=_call_key)]
    if len(runs) < 2:
        return ()
    parts, first = [], 1
    for run in runs:
        last = first + len(run) - 1
        name = f"call {first}" if first == last else f"calls {first}–{last}"
        cost = sum(map(call_cost, run), start=Cost())
        parts.append(
            Part(
                kind=Kind.CALLS,
                path=part.path,
                name=name,
                label=f"{part.label} {name}",
                type="",
                depth=part.depth + 1,
                cost=cost,
                calls=tuple(run),
            )
        )
        first = last + 1
    return tuple(parts)


def distinct_calls(calls: tuple[CallCost, ...]) -> int:
    """Return how many different calls there are (shapes and costs)."""
    return len({_call_key(call) for call in calls})


def _call_key(call: CallCost) -> object:
    return (
        _tensor_key(call.inputs), _tensor_key(call.outputs), call.forward_macs,
        call.backward_flops, call.elementwise_flops, call.output_bytes,
        call.saved_activation_bytes, call.recompute, call.completed,
    )  # fmt: skip


def _tensor_key(values: tuple[NamedValue, ...]) -> object:
    return tuple(
        (value.name, value.tensor.shape, value.tensor.dtype, value.batch_dims)
        for value in values
        if value.tensor is not None
    )


def _own_key(part: Part) -> object:
    items = part.module.own_parameters if part.module else ()
    shared = part.module.shared_with if part.module else None
    if part.parameter is not None:
        items = (part.parameter,)
    return (
        _relative(part.path, shared),
        part.module is None or part.module.has_forward,
        part.module.params if part.module else 0,
        tuple(
            (
                item.name.rpartition(".")[2], item.shape, item.dtype, item.trainable,
                item.is_buffer, item.is_lazy, _relative(item.name, item.shared_with),
            )
            for item in items
        ),
    )  # fmt: skip


def _relative(name: str, target: str | None) -> object:
    """Return how to get from ``name`` to ``target``: equal for equal blocks."""
    if target is None:
        return None
    own, other = name.split("."), target.split(".")
    same = 0
    while same < min(len(own), len(other)) and own[same] == other[same]:
        same += 1
    return len(own) - same, tuple(other[same:])
