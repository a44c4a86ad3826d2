"""Custom rules: functions of a module, its inputs and its output that say what a call costs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import nn

from torchgauge.compat.running import ModelRun
from torchgauge.errors import UsageError
from torchgauge.trace.data_dependent import DataDependentError
from torchgauge.trace.failures.missing_data import needs_values
from torchgauge.trace.inspect.describe import tensors_in
from torchgauge.trace.torch_internals.modes import DispatchMode

Rule: TypeAlias = Callable[[Any, tuple[Any, ...], Any], Any]
"""Takes the module, its positional inputs and its output; adds to ``module.total_ops``."""


def rule_for(kind: type[nn.Module], rules: Mapping[type[nn.Module], Rule | None]) -> Rule | None:
    """Return the rule of the nearest class in the order of inheritance."""
    for base in kind.__mro__:
        if base in rules:
            return rules[base]
    return None


class RuleObserver:
    """Asks the rules after each call of a module; see ``torchgauge.compat.running.run``."""

    def __init__(self, rules: Mapping[type[nn.Module], Rule | None]) -> None:
        self._rules = rules

    def __call__(
        self, path: str, module: nn.Module, args: tuple[Any, ...], output: Any
    ) -> float | Exception | None:
        """Return what the rule says for this call, ``None`` where there is no rule.

        What it raises is returned: the run goes on, so that the model is not blamed for it.
        """
        rule = rule_for(type(module), self._rules)
        if rule is None:
            return None
        counted = _copy_to_count_on(module)
        try:
            with _ShapesAlone():
                rule(counted, args, output)
                total: Any = counted.total_ops
                return float(total.sum() if isinstance(total, torch.Tensor) else total)
        except Exception as error:
            return _about_values(rule, error) if needs_values(error) else error

    def counts(self, run: ModelRun) -> dict[int, float]:
        """Return what rules said, by the index of the call.

        Raises:
            Exception: what a rule raised.
        """
        for _, found in run.observed:
            if isinstance(found, Exception):
                raise found
        return dict(run.observed)


def _copy_to_count_on(module: nn.Module) -> nn.Module:
    """Return a shallow copy with counters on it: the same tensors, nothing that it is given stays.

    Both counters are float64 tensors of one element, as in thop; a rule may also put a number.
    """
    counted = copy.copy(module)
    for name in ("_parameters", "_buffers", "_modules"):
        counted.__dict__[name] = dict(module.__dict__[name])
    for name in ("total_ops", "total_params"):
        counted._buffers.pop(name, None)
        counted.__dict__[name] = torch.zeros(1, dtype=torch.float64)
    return counted


class _ShapesAlone(DispatchMode):
    """Refuses to mix a tensor with values and one without, which torch lets pass in places."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = list(tensors_in((args, kwargs)))
        if len({tensor.is_meta for tensor in tensors}) > 1:
            raise DataDependentError(str(func))
        return func(*args, **kwargs)


def _about_values(rule: Rule, error: Exception) -> UsageError:
    name = getattr(rule, "__qualname__", type(rule).__qualname__)
    found = UsageError(
        f"the rule {name}() counts from values, and a simulated run has only shapes",
        hint="use shapes: y.numel(), x[0].shape",
    )
    found.__cause__ = error
    return found
