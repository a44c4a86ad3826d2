"""Which formula counts which operator: the registry behind ``register_flop_formula``.

A name is a qualified overload (``"aten.mm.default"``) or a packet (``"aten.mm"``), which stands
for every overload and for the in-place variant (``"aten.mm_"``). The most exact name wins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import TypeAlias, TypeVar

from torchgauge.devices.tables import rows_beside
from torchgauge.estimate.arguments import ShapeNotVisibleError as ShapeNotVisibleError
from torchgauge.facts.trace import OpRecord

FlopFormula: TypeAlias = Callable[[OpRecord], int]
"""A pure function of the recorded shapes that returns matmul-like FLOPs, 2 per MAC."""

_Formula = TypeVar("_Formula", bound=FlopFormula)

_NAME = re.compile(r"\w+(\.\w+)*")
_formulas: dict[str, FlopFormula] = {}


class DependsOnValuesError(ShapeNotVisibleError):
    """The shapes are known, but values decide how much is multiplied."""


def register_flop_formula(
    *targets: object, replace: bool = False
) -> Callable[[_Formula], _Formula]:
    """Register the decorated function as the FLOP formula of one or more operators.

    Args:
        *targets: Names (``"mylib.myop"``, ``"mylib::myop"``, ``"mylib.myop.default"``) or torch
            operators (``torch.ops.mylib.myop``, ``torch.ops.mylib.myop.default``).
        replace: Take the place of a formula that is already there.

    Raises:
        ValueError: No target, a target that names no operator, or one that has a formula.

    Example:
        >>> @register_flop_formula("mylib.gated_mm")
        ... def gated_mm(op: OpRecord) -> int:
        ...     (m, k), (_, n) = op.args[0].shape, op.args[1].shape
        ...     return 2 * m * k * n
        >>> unregister_flop_formula("mylib.gated_mm")
    """
    names = tuple(map(operator_name, targets))
    if not names:
        raise ValueError("register_flop_formula needs at least one operator name")

    def register(formula: _Formula) -> _Formula:
        taken = sorted(set(names) & _formulas.keys())
        if taken and not replace:
            raise ValueError(
                f"{', '.join(taken)} already has a FLOP formula; pass replace=True to change it"
            )
        _formulas.update(dict.fromkeys(names, formula))
        find_flop_formula.cache_clear()
        return formula

    return register


def register_table(module: str, formula: Callable[[Mapping[str, str]], FlopFormula]) -> None:
    """Register a formula for each row of a module's table (``module`` is its ``__file__``)."""
    for row in rows_beside(module):
        register_flop_formula(row["operator"])(formula(row))


def unregister_flop_formula(target: object) -> None:
    """Forget the formula registered under exactly this name.

    Raises:
        ValueError: No formula has this name.
    """
    name = operator_name(target)
    if name not in _formulas:
        raise ValueError(f"{name} has no FLOP formula to unregister")
    del _formulas[name]
    find_flop_formula.cache_clear()


def operator_name(target: object) -> str:
    """Return the dotted name of an operator given as text or as a torch object.

    >>> operator_name("aten::mm")
    'aten.mm'
    """
    name = str(target).replace("::", ".")  # str(torch.ops.aten.mm.default) is "aten.mm.default"
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{target!r} names no operator; pass its name ('mylib.myop') or torch.ops.mylib.myop"
        )
    return name


@cache  # emptied whenever the registry changes
def find_flop_formula(name: str) -> FlopFormula | None:
    """Return the formula of a qualified overload, ``None`` where there is none."""
    return next((_formulas[key] for key in (name, *packets(name)) if key in _formulas), None)


def short_name(name: str) -> str:
    """Return an operator's name without its overload.

    >>> short_name("aten.mm.default")
    'aten.mm'
    """
    return name.rpartition(".")[0] if name.count(".") > 1 else name


def packets(name: str) -> tuple[str, ...]:
    """Return the packet of an overload, then the packet it is the in-place variant of.

    >>> packets("aten.add_.Tensor")
    ('aten.add_', 'aten.add')
    """
    packet, _, _ = name.rpartition(".")
    if "." not in packet:  # a higher-order operator has neither namespace nor overload
        return ()
    return (packet, packet[:-1]) if packet.endswith("_") else (packet,)
