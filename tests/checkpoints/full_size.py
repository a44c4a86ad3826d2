"""Plans of models at their full size, and what a real step with each has allocated.

Print the rows of docs/checkpoint-planner.md (an hour on one core, up to 17 GB of memory):
``PYTHONPATH=src:tests python tests/checkpoints/full_size.py [CASE …]``
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import torchgauge as tg
from real_step import predicted_peak, real_peak
from torchgauge.facts.loop.checkpoints import CheckpointPlan
from torchgauge.models.spec import build_model, parse_model_spec

KEEPS = (0.7, 0.5, 0.3)
LLAMA_1B = (
    "hf:llama(hidden_size=2048,intermediate_size=8192,num_hidden_layers=16,num_attention_heads=32,"
    "num_key_value_heads=8,vocab_size=128256,tie_word_embeddings=True,use_cache=False)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model, and the inputs of one step."""

    spec: str
    size: tuple[int, ...]
    tokens: int = 0
    """Of the vocabulary; 0 for images."""

    @property
    def options(self) -> dict[str, Any]:
        """Return what ``analyze`` has to know."""
        return {"optimizer": "none"} | ({"dtypes": ["int64"]} if self.tokens else {})

    def model(self) -> nn.Module:
        """Return the model with weights that are small numbers."""
        built = build_model(parse_model_spec(self.spec, {}), with_weights=False).model
        assert isinstance(built, nn.Module)
        built = built.to_empty(device="cpu")
        torch.manual_seed(0)
        with torch.no_grad():
            for tensor in (*built.parameters(), *built.buffers()):
                tensor.normal_(std=0.02) if tensor.is_floating_point() else tensor.zero_()
            for name, buffer in built.named_buffers():
                if name.endswith("running_var"):
                    buffer.fill_(1.0)
        return built

    def data(self) -> torch.Tensor:
        """Return the input of a step."""
        if self.tokens:
            return torch.randint(0, self.tokens, self.size)
        return torch.randn(self.size)


CASES = {
    "vit_l_16": Case(spec="torchvision:vit_l_16", size=(16, 3, 224, 224)),
    "resnet152": Case(spec="torchvision:resnet152", size=(16, 3, 224, 224)),
    "llama_1b": Case(spec=LLAMA_1B, size=(1, 2048), tokens=128256),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A plan, and the peak of a real step with it, beyond what was there before the step."""

    name: str
    keep: float
    plan: CheckpointPlan
    predicted_bytes: int
    real_bytes: int
    seconds: float

    def __str__(self) -> str:
        peak, work = (
            self.plan.figure(f) for f in ("memory.peak_allocated_bytes", "totals.total_flops")
        )
        blocks = self.plan.blocks
        return (
            f"{self.name} keep {self.keep:.0%} fits {self.plan.fits} peak {peak.before} -> "
            f"{peak.after} goal {self.plan.goal.most_bytes} flops {work.before} -> {work.after} "
            f"blocks {blocks.get(peak.name)} {blocks.get(work.name)} "
            f"places {len(self.plan.recomputed)} gap {self.plan.gap} "
            f"real - predicted {self.real_bytes - self.predicted_bytes} of {self.real_bytes} "
            f"{self.seconds:.0f} s"
        )


def run(name: str, keep: float) -> Row:
    """Plan a step, run it for real, and return both."""
    case = CASES[name]
    model = case.model()
    plan = tg.plan_checkpoints(model, case.size, keep=keep, **case.options)
    report = tg.analyze(
        model, case.size, mode="training", checkpointed=plan.checkpointed, **case.options
    )
    start = time.perf_counter()
    real = real_peak(plan.apply(model, in_place=True), case.data(), training=True)
    return Row(
        name=name, keep=keep, plan=plan, predicted_bytes=predicted_peak(report), real_bytes=real,
        seconds=time.perf_counter() - start,
    )  # fmt: skip


def main(names: list[str]) -> None:
    """Print a row for each case and share."""
    for name in names or list(CASES):
        for keep in KEEPS:
            print(run(name, keep), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
