"""What each module costs, in thop's nested form."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torchgauge.compat.running import ModelRun
from torchgauge.estimate.compute.modules import estimate_compute
from torchgauge.facts.trace import OUTSIDE

ITSELF = "(itself)"
"""Name of what a module with children does or owns outside of them; no module can have it."""


@dataclass(slots=True, kw_only=True)
class LayerInfo:
    """A module with everything below it. MACs are floats, as rules may say fractions."""

    macs: float = 0.0
    params: float = 0.0
    children: dict[str, LayerInfo] = field(default_factory=dict)

    def as_thop(self) -> dict[str, tuple[float, float, dict[str, Any]]]:
        """Return ``{name: (macs, params, children)}`` of what is below."""
        return {
            name: (item.macs, item.params, item.as_thop()) for name, item in self.children.items()
        }


def layer_info(run: ModelRun, counts: Mapping[int, float]) -> LayerInfo:
    """Return the tree of modules with MACs and parameters.

    ``counts`` are what rules said, by call. A module that is registered twice is counted under
    its first name.
    """
    macs = _own_macs(run, counts)
    ruled = {run.trace.calls[index].path for index in counts}
    infos: dict[str, LayerInfo] = {}
    for info in run.trace.modules:
        infos[info.path] = LayerInfo(
            macs=macs.get(info.path, 0.0),
            params=float(run.own_params(info.path)),
        )
        if info.path:
            parent, _, name = info.path.rpartition(".")
            infos[parent].children[name] = infos[info.path]
    for path in reversed(infos):  # children come after their parents
        _add_children(infos[path], is_root=not path, is_ruled=path in ruled)
    return infos[""]


def _add_children(info: LayerInfo, *, is_root: bool, is_ruled: bool) -> None:
    """Add what is below to a module; below one with a rule there is nothing to tell."""
    own = LayerInfo(macs=info.macs, params=info.params)
    for child in info.children.values():
        info.macs += child.macs
        info.params += child.params
    if is_ruled and not is_root:
        info.children = {}
    elif (info.children or is_root) and (own.macs or own.params):
        info.children = {ITSELF: own, **info.children}


def _own_macs(run: ModelRun, counts: Mapping[int, float]) -> dict[str, float]:
    """Return the MACs of each module's calls outside of sub-modules, by path.

    The call of a module with a rule has what the rule says, and the calls inside it nothing.
    """
    found: defaultdict[str, float] = defaultdict(float)
    covered = run.calls_inside(lambda call: call.index in counts)
    known = 0
    for call in run.calls:
        own = run.own_macs_of(call)
        known += own
        if covered.get(call.index) == call.index:
            found[call.path] += counts[call.index]
        elif call.index not in covered:
            found[call.path] += own
    found[""] += run.compute.totals["forward"] // 2 - known
    return dict(found)


def unknown_work(run: ModelRun, counts: Mapping[int, float]) -> Iterator[str]:
    """Yield a line per operator without a formula, module never called, work outside torch.

    What runs inside a module with a rule is the rule's business.
    """
    covered = run.calls_inside(lambda call: call.index in counts)
    trace = replace(run.trace, ops=tuple(op for op in run.trace.ops if op.call not in covered))
    for item in estimate_compute(trace).not_counted:
        calls = f"{item.calls} call" + "s" * (item.calls > 1)
        yield f"[WARN] Cannot find rule for {item.op} ({calls}). Treat it as zero Macs."
    for item in run.report.not_counted:
        if not item.calls or item.op.startswith(OUTSIDE):
            yield f"[WARN] {item.op}: {item.why}."
