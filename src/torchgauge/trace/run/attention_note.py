"""Which attention was traced: releases of a library choose differently for the same model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from torch import nn

from torchgauge.facts.trace import OpRecord, Phase
from torchgauge.trace.inspect.modules import modules_of

_LIBRARIES = ("transformers", "timm", "diffusers", "torchvision")
_FUSED = re.compile(
    r"aten\._?(scaled_dot_product_\w*attention\w*|flash_attention_forward"
    r"|efficient_attention_forward)\."
)
_PRODUCTS = ("aten.bmm.", "aten.baddbmm.")
_SOFTMAX = ("aten._softmax.", "aten._safe_softmax.")


def attention_note(root: nn.Module, ops: Iterable[OpRecord]) -> Iterator[str]:
    """Yield what attention was, for models of libraries: who wrote their own knows it."""
    kinds = {type(module) for module in modules_of(root)}
    packages = {kind.__module__.partition(".")[0] for kind in kinds}
    if packages.isdisjoint(_LIBRARIES):
        return
    found: dict[str, None] = {}
    between: dict[int, int] = {}
    """By call: 1 after a product, 2 after the softmax that followed it."""
    for op in ops:
        if op.phase is not Phase.FORWARD:
            continue
        if fused := _FUSED.match(op.name):
            found.setdefault(f"the fused kernel {fused[1]}")
        elif op.name.startswith(_PRODUCTS):
            if between.get(op.call) == 2:
                found.setdefault("matrix products and a softmax")
            between[op.call] = 1
        elif op.name.startswith(_SOFTMAX) and between.get(op.call) == 1:
            between[op.call] = 2
    if found:
        yield f"attention was traced as {' and as '.join(found)}"
