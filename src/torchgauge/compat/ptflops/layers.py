"""ptflops' two views of the layers: the annotated ``repr``, and operators of direct children."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
from torch import nn

from torchgauge.compat.ptflops.costs import Costs
from torchgauge.compat.ptflops.utils import flops_to_string, params_to_string

_GLOBAL = "Global"


def annotated(
    costs: Costs, batch: int, flops_units: str | None, param_units: str | None, precision: int
) -> str:
    """Return the model's ``repr`` with parameters and MACs in front of each module's settings.

    Every module has the figures of its subtree. One that is registered again has zeros there,
    so that the figures of children and what a module does itself sum to its own.
    """
    annotation = _Annotation(costs, batch, (flops_units, param_units, precision))
    return repr(annotation.copy("", costs.run.model)[0])


class _Annotation:
    """Makes a copy of the module tree that prints figures; it shares everything else."""

    def __init__(self, costs: Costs, batch: int, units: tuple[str | None, str | None, int]) -> None:
        self._costs = costs
        self._batch = batch
        self._units = units
        self._total_macs = max(1, costs.total_macs // batch)
        self._total_params = max(1, costs.run.report.totals.params)
        self._seen: set[int] = set()

    def copy(self, path: str, module: nn.Module) -> tuple[nn.Module, int, int]:
        """Return a copy of a module, and the parameters and MACs of its subtree."""
        is_again = id(module) in self._seen
        self._seen.add(id(module))
        params = 0 if is_again else self._costs.run.own_params(path)
        macs = 0 if is_again else self._costs.own_macs.get(path, 0)
        children: dict[str, nn.Module | None] = {}
        for name, child in module._modules.items():
            children[name] = child
            if child is not None and not isinstance(module, torch.jit.ScriptModule):
                inner = f"{path}.{name}" if path else name
                copied, inner_params, inner_macs = self.copy(inner, child)
                children[name] = copied
                params, macs = params + inner_params, macs + inner_macs
        if isinstance(module, torch.jit.ScriptModule):  # its repr cannot be changed
            return module, params, macs
        copy: nn.Module = object.__new__(type(module))
        copy.__dict__.update(module.__dict__, _modules=children)
        text = self._text(params, macs, module.extra_repr())
        copy.__dict__["extra_repr"] = lambda: text
        return copy, params, macs

    def _text(self, params: int, macs: int, settings: str) -> str:
        flops_units, param_units, precision = self._units
        per_sample = macs / self._batch
        return ", ".join(
            (
                params_to_string(params, param_units, precision),
                f"{params / self._total_params:.3%} Params",
                flops_to_string(per_sample, flops_units, precision),
                f"{per_sample / self._total_macs:.3%} MACs",
                settings,
            )
        )


def zero_op_lines(costs: Costs) -> Iterator[str]:
    """Yield a line per type of module that ran or waits there without spending any MAC."""
    modules = costs.run.modules
    spent: set[type] = {type(costs.run.model)} if costs.total_macs else set()
    for path, macs in costs.own_macs.items():
        while macs and path:
            spent.add(type(modules[path]))
            path = path.rpartition(".")[0]
    for kind in dict.fromkeys(type(module) for module in reversed(list(modules.values()))):
        if kind not in spent and kind not in (nn.Sequential, nn.ModuleList):
            yield f"Warning: module {kind.__name__} is treated as a zero-op."


def operator_lines(
    costs: Costs, verbose: bool, per_layer: bool, units: str | None, precision: int
) -> list[str]:
    """Return the lines of the ``aten`` backend: warnings in order, then MACs by operator."""
    lines: list[str] = []
    counted: list[tuple[str, str, int]] = []
    for op in costs.ops:
        if op.is_ignored:
            lines.append(f"Warning: {op.packet} operation is ignored")
        elif not op.is_counted:
            lines += [f"Warning: {op.packet} operation is treated as a zero-op"] * verbose
        else:
            counted.append((op.path, op.packet, op.macs))
    if not per_layer:
        return lines
    for path, macs in costs.hooked.items():
        counted.append((path, type(costs.run.modules.get(path)).__name__, macs))
    counts: dict[str, Counter[str]] = {}
    for path, kind, macs in counted:
        for name in dict.fromkeys((_GLOBAL, path.partition(".")[0] or _GLOBAL)):
            counts.setdefault(name, Counter())[kind] += macs
    lines.append("Total:" + flops_to_string(costs.total_macs, units, precision))
    for name, by_kind in counts.items():
        lines.append(f"Module:  {name}")
        lines += [f"{kind}: {flops_to_string(n, units, precision)}" for kind, n in by_kind.items()]
        lines.append("")
    return lines
