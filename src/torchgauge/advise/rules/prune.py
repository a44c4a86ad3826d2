"""Structured pruning by torch-pruning: channels that go together leave together.

It takes seconds to minutes, so it is looked for only where it is asked for, ``rules=("prune",)``,
or where a goal is not reached without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from math import ceil, sqrt
from typing import Any

import torch
from torch import nn

from torchgauge.advise.subject import Subject
from torchgauge.changes.change import Change
from torchgauge.facts.loop.advice import Accuracy, Goal
from torchgauge.facts.report import Report
from torchgauge.facts.tensors import TensorSpec
from torchgauge.models.sources.library import quiet_library

_RATIOS = (0.3, 0.5)
"""Of the channels of each layer, where no goal says how many."""
_STEP, _MOST = 0.05, 0.9
_ALIGNED = 8


class Prune:
    """Remove the channels with the smallest weights, group by group."""

    name = "prune"
    about = "channels with the smallest weights, which a structured pruning removes"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield one change for each ratio."""
        if find_spec("torch_pruning") is None:
            yield "torch-pruning is not installed: pip install 'torchgauge[prune]'"
            return
        given = [value.tensor for value in subject.trace.inputs if value.tensor is not None]
        if len(given) != 1 or not given[0].dtype.startswith("float"):
            yield "only models with one input of floating-point numbers are pruned"
            return
        if any(tensor.is_meta for tensor in subject.model.parameters()):
            yield "the weights have no values, so none is known to be small"
            return
        ends = _ends(subject)
        if not ends:
            yield "no layer with weights makes the output, whose size has to stay"
            return
        for ratio in _ratios(subject.goal, subject.report):
            yield Change(
                rule=self.name,
                axis=self.name,
                label=f"{ratio:.0%} of the channels pruned",
                text=f"prune {ratio:.0%} of the channels of every layer",
                why="channels with the smallest weights change the output least",
                settings={"ratio": ratio, "size": _size(given[0]), "ends": ends},
                accuracy=Accuracy.RETRAIN,
                cost="has to be trained further; how much is lost depends on the data",
                source="Fang et al., DepGraph, arXiv 2301.12900",
                snippet=(
                    "import torch_pruning as tp",
                    f"tp.pruner.BasePruner(model, x, tp.importance.MagnitudeImportance(), "
                    f"pruning_ratio={ratio}, round_to={_ALIGNED}).step()",
                ),
                keeps_state=False,
            )

    def rewrite(self, model: nn.Module, change: Change) -> None:
        """Prune the copy once."""
        with quiet_library():
            import torch_pruning

        settings = change.settings
        modes = {module: module.training for module in model.modules()}
        heads = {
            module: count
            for module in model.modules()
            for count in (_heads_of(module),)
            if count is not None
        }
        tensor = next(model.parameters())
        example = torch.randn(*settings["size"], dtype=tensor.dtype, device=tensor.device)
        pruner = torch_pruning.pruner.BasePruner(
            model.eval(),
            example,
            importance=torch_pruning.importance.MagnitudeImportance(p=2),
            pruning_ratio=settings["ratio"],
            ignored_layers=[model.get_submodule(path) for path in settings["ends"]],
            num_heads=heads,
            round_to=_ALIGNED,
        )
        pruner.step()
        for module in model.modules():
            module.training = modes.get(module, False)


def _ratios(goal: Goal | None, report: Report) -> tuple[float, ...]:
    """Return which shares of the channels to remove: what a goal takes, and somewhat more.

    What lies between two layers shrinks by the square of the channels that stay.
    """
    figures = {
        "totals.params": report.totals.params,
        "totals.forward_macs": report.totals.forward_macs,
    }
    now = figures.get(goal.figure) if goal is not None else None
    if goal is None or not now or goal.most >= now:
        return _RATIOS
    least = ceil((1 - sqrt(max(goal.most, 0) / now)) / _STEP) * _STEP
    return tuple(dict.fromkeys(round(min(ratio, _MOST), 2) for ratio in (least, least + 2 * _STEP)))


def _size(spec: TensorSpec) -> list[int]:
    return [1, *spec.shape[1:]]


def _heads_of(module: nn.Module) -> int | None:
    """Return the number of heads of a module that splits its channels by it."""
    heads: Any = getattr(module, "num_heads", None)
    return heads if isinstance(heads, int) else None


def _ends(subject: Subject) -> list[str]:
    """Return the layers that make what the model returns: their sizes stay."""
    trace = subject.trace
    returned = set(trace.calls[0].output_storages) if trace.calls else set()
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return [
        path
        for path, module in subject.of_type(*layers)
        for call in subject.calls.get(path, ())
        if returned & set(call.output_storages)
    ]
