"""A report's tables as dataframes of pandas or polars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

from torchgauge.errors import MissingExtraError, UsageError
from torchgauge.facts.pictures.step import Step
from torchgauge.facts.query import COST_FIELDS, Cost, forward_calls, own_costs, parent_path
from torchgauge.facts.report import ModuleReport, Report
from torchgauge.figures.needs import check_ran, known_step, step_for

LIBRARIES = ("pandas", "polars")
Columns = dict[str, Sequence[Any]]


def frame(report: Report, what: str, library: str | None) -> Any:
    """Return a table of a report; see ``Report.to_dataframe``."""
    if what not in _TABLES:
        raise UsageError(f"there is no table {what!r}", hint=f"choose {', '.join(_TABLES)}")
    name = chosen_library(library)
    columns = _TABLES[what](report)
    if name == "pandas":
        import pandas

        empty = {key: "float64" for key in _unknown(columns) if key.endswith("_ms")}
        return pandas.DataFrame(columns).astype(empty)
    import polars

    types = {
        key: polars.Float64 if key.endswith("_ms") else polars.String for key in _unknown(columns)
    }
    return polars.DataFrame(
        {key: list(values) for key, values in columns.items()}, schema_overrides=types
    )


def _unknown(columns: Columns) -> list[str]:
    """Return the columns that hold nothing, which have a type all the same."""
    return [key for key, values in columns.items() if all(value is None for value in values)]


def chosen_library(library: str | None) -> str:
    """Return the library to use.

    Raises:
        UsageError: it is not known.
        MissingExtraError: it is not installed, or none is.
    """
    if library is not None and library not in LIBRARIES:
        raise UsageError(
            f"there are no dataframes of {library!r}", hint=f"choose {' or '.join(LIBRARIES)}"
        )
    for name in LIBRARIES if library is None else (library,):
        if find_spec(name) is not None:
            return name
    missing = library or "pandas or polars"
    raise MissingExtraError(
        f"{missing} is needed to make dataframes and is not installed",
        hint=f"pip install {library or 'pandas'}",
    )


def _modules(report: Report) -> Columns:
    own = own_costs(report)
    whole = _with_inner(report, own)
    modules = report.module_list
    columns: Columns = {
        "path": [module.path for module in modules],
        "type": [module.type for module in modules],
        "depth": [module.depth for module in modules],
        "calls": [len(forward_calls(module)) for module in modules],
        "output_shape": [_output(module) for module in modules],
        "shared_with": [module.shared_with for module in modules],
        "buffers": [module.buffers for module in modules],
        "buffer_bytes": [module.buffer_bytes for module in modules],
    }
    for prefix, costs in (("", whole), ("own_", own)):
        for name in COST_FIELDS:
            if prefix and name == "peak_allocated_bytes":
                continue  # a peak has no part of its own
            known = report.time is not None or not name.endswith("time_ms")
            columns[prefix + name] = [
                getattr(costs[module.path], name) if known else None for module in modules
            ]
    return columns


def _with_inner(report: Report, own: dict[str, Cost]) -> dict[str, Cost]:
    """Return what each module costs with everything below it; shared parts count once."""
    whole = dict(own)
    for path in sorted(report.modules, key=lambda path: -path.count(".")):
        parent = parent_path(path)
        while parent is not None and parent not in whole:
            parent = parent_path(parent)
        if parent is not None:
            whole[parent] = whole[parent] + whole[path]
    return whole


def _output(module: ModuleReport) -> str | None:
    """Return the shapes that the first call returned."""
    calls = forward_calls(module)
    shapes = [value.shape for value in calls[0].outputs if value.shape is not None] if calls else []
    return ", ".join(f"[{', '.join(map(str, shape))}]" for shape in shapes) or None


def _operators(report: Report) -> Columns:
    step = step_for(report, "the table of operators")
    ops = step.operators
    nothing = [None] * len(ops.op)
    timed = bool(ops.time_ms)
    return {
        "op": ops.op,
        "name": _texts(step, ops.name),
        "module": _texts(step, ops.module),
        "phase": _texts(step, ops.phase),
        "recompute": ops.recompute,
        "inputs": _texts(step, ops.inputs),
        "outputs": _texts(step, ops.outputs),
        "flops": ops.flops,
        "elementwise_flops": ops.elementwise_flops,
        "moved_bytes": ops.nbytes,
        "time_ms": ops.time_ms if timed else nothing,
        "start_ms": ops.start_ms if timed else nothing,
        "roof_ms": ops.roof_ms if timed else nothing,
        "kind": _texts(step, ops.kind) if timed else nothing,
        "bound_by": _texts(step, ops.bound_by) if timed else nothing,
    }


def _timeline(report: Report) -> Columns:
    check_ran(report, "the timeline")
    assert report.memory is not None
    points = report.memory.timeline
    columns: Columns = {
        "op": [point.op for point in points],
        "phase": [str(point.phase) for point in points],
        "live_bytes": [point.live_bytes for point in points],
    }
    if report.trace is not None:
        roles = known_step(report.trace).memory.roles
        columns |= {f"{role}_bytes": values for role, values in roles.items()}
    return columns


def _texts(step: Step, numbers: Sequence[int]) -> list[str]:
    return [step.texts[number] for number in numbers]


_TABLES: dict[str, Callable[[Report], Columns]] = {
    "modules": _modules,
    "operators": _operators,
    "timeline": _timeline,
}
