"""Weights of linear layers in 8 bits, by torchao. Its import takes seconds: only on request."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from torch import nn

from torchgauge.advise.subject import Subject
from torchgauge.changes.change import Change
from torchgauge.facts.loop.advice import Accuracy
from torchgauge.models.sources.library import quiet_library
from torchgauge.units import format_number_of


class Int8Weights:
    """Store the weights of linear layers in 8 bits, at inference."""

    name = "int8-weights"
    about = "weights of linear layers in 16 or 32 bits at inference, instead of 8"

    def look(self, subject: Subject) -> Iterator[Change | str]:
        """Yield one change for all layers."""
        if subject.report.scenario.is_training:
            yield "weights of 8 bits cannot be trained"
            return
        if find_spec("torchao") is None:
            yield "torchao is not installed: pip install torchao"
            return
        found = tuple(path for path, _ in subject.of_type(nn.Linear) if path in subject.calls)
        if not found:
            yield "no linear layer is called"
            return
        yield Change(
            rule=self.name,
            axis="weights",
            text=f"store the weights of {format_number_of(len(found), 'linear layer')} in 8 bits",
            why="at inference weights are only read; each output keeps a scale",
            where=found,
            accuracy=Accuracy.SMALL,
            cost="weights are rounded to 8 bits with a scale for each output",
            source="Dettmers et al., LLM.int8(), arXiv 2208.07339; torchao",
            snippet=(
                "from torchao.quantization import Int8WeightOnlyConfig, quantize_",
                "quantize_(model, Int8WeightOnlyConfig())",
            ),
            keeps_state=False,
        )

    def rewrite(self, model: nn.Module, change: Change) -> None:
        """Quantize the layers of the copy."""
        wanted = set(change.where)
        with quiet_library():
            from torchao.quantization import Int8WeightOnlyConfig, quantize_

            quantize_(
                model,
                Int8WeightOnlyConfig(),
                filter_fn=lambda module, path: isinstance(module, nn.Linear) and path in wanted,
            )
