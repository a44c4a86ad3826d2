"""Activation checkpointing of a model's repeated blocks: which there are, and in what manner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from torchgauge.facts.scenario import Checkpointing

_Contexts: TypeAlias = tuple[AbstractContextManager[Any], AbstractContextManager[Any]]

_PRODUCTS = ("mm", "addmm", "linear")
"""Of these, every second output is kept and every other computed again."""
_KEPT = (
    "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention", "_scaled_dot_product_flash_attention_for_cpu", "max",
)  # fmt: skip
"""Their outputs are all kept.

Source: ``_op_sac_save_list`` and the policy of the option ``op`` in torchtitan's
``torchtitan/distributed/activation_checkpoint.py`` and ``models/llama3/infra/parallelize.py``
(2025); ``addmm`` stands for a product with a bias, which torchtitan's models do not have, and the
CPU's attention for the GPU's."""


def checkpoint_blocks(root: nn.Module, kind: Checkpointing) -> int:
    """Checkpoint each repeated block of a copied model; return how many there are.

    A block is a child of a ``ModuleList`` or ``Sequential`` that has siblings of its class,
    children and parameters: the layers of a transformer, the blocks of a ResNet stage.
    """
    run = _RUNS[kind]
    count = 0
    for block in _blocks(root):
        block.__dict__["forward"] = partial(run, block.forward)
        count += 1
    return count


def _blocks(root: nn.Module) -> Iterator[nn.Module]:
    for module in root.modules():
        if not isinstance(module, (nn.ModuleList, nn.Sequential)):
            continue
        kinds = Counter(type(child) for child in module.children())
        for child in module.children():
            repeated = kinds[type(child)] > 1 and any(True for _ in child.children())
            if repeated and any(True for _ in child.parameters()):
                yield child


def _reentrant(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Only positional arguments can be differentiated; libraries bind the others, as here."""
    return checkpoint(partial(forward, **kwargs), *args, use_reentrant=True)


def _contexts() -> _Contexts:
    """Return the contexts of one block's forward and of its recomputation."""
    contexts: _Contexts = create_selective_checkpoint_contexts(_Policy())
    return contexts


class _Policy:
    """Keep what is expensive to compute again, but of matrix products only every second."""

    def __init__(self) -> None:
        self._products = 0

    def __call__(self, context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        if operator in _PRODUCT_OPERATORS:
            self._products += 1
            is_kept = self._products % 2 == 1
        else:
            is_kept = operator in _KEPT_OPERATORS
        return CheckpointPolicy.MUST_SAVE if is_kept else CheckpointPolicy.PREFER_RECOMPUTE


def _operators(names: tuple[str, ...]) -> frozenset[Any]:
    packets = (getattr(torch.ops.aten, name, None) for name in names)
    return frozenset(packet.default for packet in packets if packet is not None)


_PRODUCT_OPERATORS = _operators(_PRODUCTS)
_KEPT_OPERATORS = _operators(_KEPT)

_RUNS: dict[Checkpointing, Callable[..., Any]] = {
    Checkpointing.NON_REENTRANT: partial(checkpoint, use_reentrant=False),
    Checkpointing.REENTRANT: _reentrant,
    Checkpointing.SELECTIVE: partial(checkpoint, use_reentrant=False, context_fn=_contexts),
}
"""How a block's forward is run, by kind."""
