"""Selective checkpointing: of which operators the outputs are kept, and not computed again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache
from typing import Any, TypeAlias

import torch
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from torchgauge.errors import ScenarioError
from torchgauge.facts.choices.checkpointing import KeptOperator, Place
from torchgauge.facts.trace import OpRecord

Contexts: TypeAlias = tuple[AbstractContextManager[Any], AbstractContextManager[Any]]
"""Of the first forward, and of the one that computes again."""
KeptCalls: TypeAlias = defaultdict[Place, Counter[str]]
"""How often a forward of a place called each operator that it keeps, at most."""

_PRODUCTS = ("mm", "addmm", "linear")
"""Of these, every second output is kept and every other computed again."""
_EXPENSIVE = (
    "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention", "_scaled_dot_product_flash_attention_for_cpu", "max",
)  # fmt: skip
"""Their outputs are all kept.

Source: ``_op_sac_save_list`` and the policy of the option ``op`` in torchtitan's
``torchtitan/distributed/activation_checkpoint.py`` and ``models/llama3/infra/parallelize.py``
(2025); ``addmm`` stands for a product with a bias, which torchtitan's models do not have, and the
CPU's attention for the GPU's."""
_ATTENTION = "_scaled_dot_product_"
"""These are tagged as drawing random numbers, which they do only with a dropout."""


def keeping(kept: Sequence[KeptOperator], most: Counter[str]) -> Contexts:
    """Return contexts that keep the outputs of named calls of operators, and count those calls."""
    contexts: Contexts = create_selective_checkpoint_contexts(_Calls(kept, most))
    return contexts


def never_kept(places: Sequence[Place], calls: KeptCalls) -> Iterator[str]:
    """Yield a warning for each output that was to be kept and that no operator made."""
    for place in places:
        where = replace(place, kept=())
        for kept in place.kept:
            count = calls[place][kept.qualified]
            if count == 0:
                yield f"checkpointed: {where} does not call {kept.qualified}, so nothing is kept"
            elif kept.calls and max(kept.calls) >= count:
                yield (
                    f"checkpointed: {where} has no call {max(kept.calls)} of {kept.qualified} "
                    "(counted from 0), so nothing of it is kept"
                )


def keeping_what_is_expensive() -> Contexts:
    """Return contexts that keep what is expensive: of matrix products every second."""
    contexts: Contexts = create_selective_checkpoint_contexts(_EverySecondProduct())
    return contexts


def check_kept(place: Place) -> None:
    """Check that the outputs of what a place names can be kept.

    Raises:
        ScenarioError: PyTorch has no such operator; or without it the second forward would do
            something else than the first.
    """
    for kept in place.kept:
        operator = _operator(kept)
        if operator is None:
            raise ScenarioError(
                f"checkpointed={str(place)!r}: PyTorch has no operator {kept.qualified}",
                hint="write it as PyTorch prints it: addmm, convolution, max.dim",
            )
        if operator._schema.is_mutable:
            raise ScenarioError(
                f"checkpointed={str(place)!r}: {kept.qualified} writes in place, which the second "
                "forward would leave out",
                hint="keep the operator before it",
            )
        is_random = torch.Tag.nondeterministic_seeded in operator.tags
        if is_random and not kept.name.startswith(_ATTENTION):
            raise ScenarioError(
                f"checkpointed={str(place)!r}: {kept.qualified} draws random numbers, and those "
                "after it would be others in the second forward",
                hint="keep an operator that draws none",
            )


def can_be_kept(op: OpRecord) -> bool:
    """Return whether the outputs of an operator that ran can be kept.

    Not those of one that drew random numbers: where it does not run again, those after it draw
    other numbers than the first time.
    """
    operator = _operator(KeptOperator.of(op.name))
    if operator is None or operator._schema.is_mutable:
        return False
    if torch.Tag.nondeterministic_seeded not in operator.tags:
        return True
    names = [argument.name for argument in operator._schema.arguments]
    if not op.name.startswith(f"aten.{_ATTENTION}") or "dropout_p" not in names:
        return False
    number = names.index("dropout_p")
    dropout = op.args[number] if number < len(op.args) else dict(op.kwargs).get("dropout_p", 0.0)
    return dropout == 0.0


@cache
def writes_in_place(name: str) -> bool:
    """Return whether an operator writes into its arguments, by its qualified name."""
    operator = _operator(KeptOperator.of(name))
    return operator is None or operator._schema.is_mutable


def _operator(kept: KeptOperator) -> torch._ops.OpOverload | None:
    namespace, name, overload = kept.qualified.split(".")[:3]
    packet = getattr(getattr(torch.ops, namespace), name, None)
    found: torch._ops.OpOverload | None = getattr(packet, overload, None)
    return found


class _Calls:
    """A policy: keep named calls, counted for each operator.

    In PyTorch 2.6 the second forward asks the policy again, hence two counts.
    """

    def __init__(self, kept: Sequence[KeptOperator], most: Counter[str]) -> None:
        self._most = most
        self._kept = {operator.qualified: frozenset(operator.calls) for operator in kept}
        self._counts: Counter[tuple[str, bool]] = Counter()

    def __call__(self, context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        name = str(operator)
        calls = self._kept.get(name)
        if calls is None:
            return CheckpointPolicy.PREFER_RECOMPUTE
        number = self._counts[name, context.is_recompute]
        self._counts[name, context.is_recompute] += 1
        self._most[name] = max(self._most[name], number + 1)
        return _policy(not calls or number in calls)


class _EverySecondProduct:
    """A policy: keep what is expensive to compute again, but of products only every second."""

    def __init__(self) -> None:
        self._products: Counter[bool] = Counter()

    def __call__(self, context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        if operator in _PRODUCT_OPERATORS:
            self._products[context.is_recompute] += 1
            return _policy(self._products[context.is_recompute] % 2 == 1)
        return _policy(operator in _EXPENSIVE_OPERATORS)


def _policy(is_kept: bool) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if is_kept else CheckpointPolicy.PREFER_RECOMPUTE


def _operators(names: tuple[str, ...]) -> frozenset[Any]:
    packets = (getattr(torch.ops.aten, name, None) for name in names)
    return frozenset(packet.default for packet in packets if packet is not None)


_PRODUCT_OPERATORS = _operators(_PRODUCTS)
_EXPENSIVE_OPERATORS = _operators(_EXPENSIVE)
