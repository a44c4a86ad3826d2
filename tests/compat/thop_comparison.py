"""thop 0.1.1 and ours on the same model, layer by layer: what differs, and by which mechanism.

Both run on the meta device. ``python tests/compat/thop_comparison.py`` writes the table.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "models")] if __name__ == "__main__" else []
TABLE = HERE / "thop_differences.csv"
COLUMNS = ("model", "what", "original", "ours", "who_is_right", "why")
ITSELF = "(itself)"

from flop_zoo import ZOO, Entry  # noqa: E402

from torchgauge.compat.thop import profile  # noqa: E402

NOT_ON_META = ("hf-deberta-v2", "hf-wav2vec2", "hf-mixtral", "hf-qwen3-moe")
"""Models that ask for values, or for an operator that has no shape rule for float32 there."""
COMPARED = [
    name
    for name, entry in ZOO.items()
    if entry.sizes is not None
    and (not isinstance(entry.sizes, dict) or len(entry.sizes) == 1)
    and name not in NOT_ON_META
]
ELEMENTWISE = {
    "count_normalization", "count_softmax", "count_avgpool", "count_adap_avgpool", "count_prelu",
    "count_upsample",
}  # fmt: skip
RECURRENT = {"count_rnn", "count_gru", "count_lstm", "count_rnn_cell", "count_gru_cell",
             "count_lstm_cell"}  # fmt: skip


def inputs_of(entry: Entry) -> tuple[torch.Tensor, ...]:
    """Return meta tensors for the positional arguments."""
    sizes = list(entry.sizes.values()) if isinstance(entry.sizes, dict) else entry.sizes
    sizes = sizes if isinstance(sizes, list) else [sizes]
    dtypes = entry.dtypes or ("float32",) * len(sizes)
    return tuple(
        torch.zeros(size, dtype=getattr(torch, dtype), device="meta")
        for size, dtype in zip(sizes, dtypes, strict=True)
    )


def leaves(children: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float, float]]:
    """Yield ``(path, macs, params)`` of what has nothing below; a container's own by its path."""
    for name, (macs, params, below) in children.items():
        path = prefix.removesuffix(".") if name == ITSELF else f"{prefix}{name}"
        if below:
            yield from leaves(below, f"{path}.")
        else:
            yield path, macs, params


def differences(name: str) -> list[dict[str, str]]:
    """Return the rows of the table for a model."""
    import thop

    entry = ZOO[name]
    model = entry.meta_model()
    inputs = inputs_of(entry)
    macs, params, layers = profile(model, inputs, ret_layer_info=True)
    ours = {path: (m, p) for path, m, p in leaves(layers)}
    assert macs == sum(found[0] for found in ours.values())
    everything = sum(parameter.numel() for parameter in model.parameters())
    assert params == sum(found[1] for found in ours.values()) == everything
    facts = Facts(model, inputs)
    try:
        their_macs, their_params, layers = thop.profile(
            model, inputs, verbose=False, ret_layer_info=True
        )
    except Exception as error:
        raised = f"{type(error).__name__}: {str(error).splitlines()[0][:60]}"
        return [_line(name, "it runs", raised, f"{macs:.0f} MACs", "?")]
    theirs = {path: (m, p) for path, m, p in leaves(layers)}
    if not theirs:  # a layer by itself
        theirs = {"": (their_macs, their_params)}
    return [
        *_compared(name, theirs, ours, facts),
        *_total(name, "macs", their_macs, macs, theirs, ours, facts),
        *_total(name, "params", their_params, params, theirs, ours, facts),
    ]


Layers = dict[str, tuple[float, float]]


def _compared(name: str, theirs: Layers, ours: Layers, facts: Facts) -> Iterator[dict[str, str]]:
    sums: defaultdict[tuple[str, str, str], list[float]] = defaultdict(lambda: [0, 0, 0])
    for path, column, their, our, why in _differing(theirs, ours, facts):
        entry = sums[column, facts.kind(path), why]
        entry[0], entry[1], entry[2] = entry[0] + their, entry[1] + our, entry[2] + 1
    for (column, kind, why), (their, our, count) in sums.items():
        yield _line(name, f"{column} of {kind} ×{count}", f"{their:.0f}", f"{our:.0f}", why)


def _differing(
    theirs: Layers, ours: Layers, facts: Facts
) -> Iterator[tuple[str, str, float, float, str]]:
    for path in dict.fromkeys((*theirs, *ours)):
        for index, (column, explain) in enumerate(
            (("macs", facts.why_macs), ("params", facts.why_params))
        ):
            their, our = (found.get(path, (0, 0))[index] for found in (theirs, ours))
            if their != our:
                yield path, column, their, our, explain(path, their, our)


def _total(
    name: str, column: str, their: float, our: float, theirs: Layers, ours: Layers, facts: Facts
) -> Iterator[dict[str, str]]:
    if their != our:
        found = _differing(theirs, ours, facts)
        whys = sorted({why for _, of, _, _, why in found if of == column})
        yield _line(name, f"total {column}", f"{their:.0f}", f"{our:.0f}", "+".join(whys) or "?")


class Facts:
    """What explains a difference: thop's rules, and which modules are called."""

    def __init__(self, model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        from thop.profile import register_hooks

        self._modules = dict(model.named_modules(remove_duplicate=False))
        self._first = {id(module): path for path, module in model.named_modules()}
        self._shared = {
            id(module) for path, module in self._modules.items() if self._is_repeat(path)
        }
        self._rules = register_hooks
        self._called: set[int] = set()
        handles = [
            module.register_forward_hook(lambda m, x, y: self._called.add(id(m)))
            for module in model.modules()
        ]
        was_training = model.training
        model.eval()
        with torch.no_grad():
            model(*inputs)
        model.train(was_training)
        for handle in handles:
            handle.remove()
        owners: dict[int, str] = {}
        self._tied: set[str] = set()
        for path, module in model.named_modules():
            for parameter in module.parameters(recurse=False):
                if owners.setdefault(id(parameter), path) != path:
                    self._tied.add(path)

    def kind(self, path: str) -> str:
        """Return the class of the module."""
        return type(self._modules[path]).__name__

    def why_macs(self, path: str, theirs: float, ours: float) -> str:
        """Name why MACs differ; ``?`` unless thop's number is understood."""
        module = self._modules[path]
        rule = getattr(self._rules.get(type(module)), "__name__", "")
        if self._is_repeat(path) or (id(module) in self._shared and ours and not theirs % ours):
            return "registered_twice"
        if rule in ELEMENTWISE and ours == 0:
            return "elementwise"
        if rule in RECURRENT and ours < theirs:
            return "recurrent_gates"
        if rule == "count_convNd" and module.transposed:
            return "transposed"
        return "no_rule" if theirs == 0 and not rule else "?"

    def why_params(self, path: str, theirs: float, ours: float) -> str:
        """Name why parameters differ."""
        module = self._modules[path]
        if self._is_repeat(path):
            return "registered_twice"
        if path in self._tied and theirs > ours:
            return "tied"
        if theirs == 0:
            if type(module) not in self._rules:
                return "no_rule"
            return "?" if id(module) in self._called else "never_called"
        return "?"

    def _is_repeat(self, path: str) -> bool:
        return self._first[id(self._modules[path])] != path


def _line(model: str, what: str, original: str, ours: str, why: str) -> dict[str, str]:
    return dict(zip(COLUMNS, (model, what, original, ours, "ours", why), strict=True))


if __name__ == "__main__":
    with TABLE.open("w", newline="", encoding="utf-8") as target:
        table = csv.DictWriter(target, COLUMNS, lineterminator="\n")
        table.writeheader()
        for model_name in COMPARED:
            table.writerows(differences(model_name))
    print(f"wrote {TABLE.name}: {len(COMPARED)} models", file=sys.stderr)
