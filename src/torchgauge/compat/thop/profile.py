"""``profile`` as thop has it: one run, custom rules in place of torchgauge's own counts.

Signatures: thop 0.1.1 (Lyken17/pytorch-OpCounter).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import nn

from torchgauge.analyze import as_module
from torchgauge.compat.running import run
from torchgauge.compat.thop.layers import LayerInfo, layer_info, unknown_work
from torchgauge.compat.thop.rules import Rule, RuleObserver, rule_for
from torchgauge.compat.thop.utils import prRed
from torchgauge.trace.inspect.wrappers import unwrap

Rules: TypeAlias = Mapping[type[nn.Module], Rule | None]

register_hooks: dict[type[nn.Module], Rule | None] = {}
"""Rules for every call, below ``custom_ops``. thop keeps its own here; torchgauge counts
operators and needs none, so what is in here is what you put in."""


def profile(
    model: nn.Module,
    inputs: Any,
    custom_ops: Rules | None = None,
    verbose: bool = True,
    ret_layer_info: bool = False,
    report_missing: bool = False,
) -> Any:
    """Return the MACs and the parameters of a model.

    MACs are multiply-accumulates of matrix products, convolutions, attention and recurrent
    cells, in a forward in evaluation mode. The model is not touched.

    Args:
        model: any module.
        inputs: the positional arguments of ``forward``, as a tuple.
        custom_ops: rules by class, ``fn(m, x, y)``, that add to ``m.total_ops``. A rule holds for
            subclasses too, the nearest class wins, and what it says takes the place of the count
            of the module with all that it calls. ``x`` and ``y`` have shapes and no values.
        verbose: print which custom rules apply.
        ret_layer_info: also return ``{name: (macs, params, children)}``.
        report_missing: print in red what could not be counted; implies ``verbose``.

    Returns:
        ``(macs, params)`` as floats, with ``ret_layer_info`` a third item. Its entries sum to the
        totals at every level; what a module with children does or owns itself is in the entry
        ``"(itself)"``.

    Raises:
        ModelError: the model failed; also an instance of the built-in class that it raised.
        UsageError: a rule made its count from values, which a simulated run does not have.
    """
    layers = _profile(model, inputs, custom_ops or {}, verbose, report_missing)
    if ret_layer_info:
        return layers.macs, layers.params, layers.as_thop()
    return layers.macs, layers.params


def profile_origin(
    model: nn.Module,
    inputs: Any,
    custom_ops: Rules | None = None,
    verbose: bool = True,
    report_missing: bool = False,
) -> tuple[float, float]:
    """Return the MACs and the parameters of a model: ``profile`` by its older name."""
    layers = _profile(model, inputs, custom_ops or {}, verbose, report_missing)
    return layers.macs, layers.params


def _profile(
    model: nn.Module, inputs: Any, custom_ops: Rules, verbose: bool, report_missing: bool
) -> LayerInfo:
    rules = {**register_hooks, **custom_ops}
    observer = RuleObserver(rules)
    if verbose or report_missing:
        for line in _rules_used(model, rules, custom_ops):
            print(line)
    found = run(model, input_data=_arguments(inputs), on_call=observer if rules else None)
    found.raise_error()
    counts = observer.counts(found)
    if report_missing:
        for line in unknown_work(found, counts):
            prRed(line)
    return layer_info(found, counts)


def _arguments(inputs: Any) -> Any:
    """Return the arguments; a tensor alone is one argument, where thop took it apart."""
    if isinstance(inputs, (torch.Tensor, Mapping)):
        return inputs
    return tuple(inputs)


def _rules_used(model: nn.Module, rules: Rules, custom_ops: Rules) -> Iterator[str]:
    """Yield a line per class of the model that a rule applies to, innermost modules first."""
    for kind in dict.fromkeys(_innermost_first(unwrap(as_module(model)))):
        rule = rule_for(kind, rules)
        if rule is None:
            continue
        name = getattr(rule, "__qualname__", type(rule).__qualname__)
        if rule is rule_for(kind, custom_ops):
            yield f"[INFO] Customize rule {name}() {kind}."
        else:
            yield f"[INFO] Register {name}() for {kind}."


def _innermost_first(
    module: nn.Module, seen: set[nn.Module] | None = None
) -> Iterator[type[nn.Module]]:
    seen = set() if seen is None else seen
    if module in seen:
        return
    seen.add(module)
    for child in module.children():
        yield from _innermost_first(child, seen)
    yield type(module)
