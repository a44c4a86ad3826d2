"""Measure common advice on example models and write the table of docs/advice.md (`make advice`).

Each row is a change that ``torchgauge.advise`` finds and measures, or two analyses side by side.
``--check`` writes nothing and exits with 1 when the table is stale.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

import torchgauge as tg
from torchgauge.advise.figures import figures_of
from torchgauge.facts.loop.advice import Suggestion
from torchgauge.models.torchvision_operators import define_missing_operators
from torchgauge.units import format_bytes, format_count, format_milliseconds

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "advice.md"
BEGIN: Final = "<!-- measured by scripts/advice_examples.py -->\n"
END: Final = "<!-- end of the measured table -->\n"
_FIGURES: Final[tuple[tuple[str, str, Callable[[float], str]], ...]] = (
    ("Weights", "totals.param_bytes", format_bytes),
    ("MACs", "totals.forward_macs", format_count),
    ("GPU memory", "memory.device_bytes", format_bytes),
    ("Time", "time.total_ms", format_milliseconds),
)

CNN: Final = (f"{ROOT / 'examples' / 'simple_cnn.py'}:SimpleCNN", (3, 224, 224))
ENCODER: Final = (f"{ROOT / 'examples' / 'transformer_training.py'}:encoder", (128, 512))
RESNET: Final = ("torchvision:resnet50", (3, 224, 224))
VIT: Final = ("torchvision:vit_b_16", (3, 224, 224))
LLAMA: Final = ("Llama of 1.2 B parameters", (4, 768))
TRAINING: Final[dict[str, Any]] = {"mode": "training", "optimizer": "adamw"}


@dataclass(frozen=True, kw_only=True)
class Example:
    """One row of the table."""

    habit: str
    model: tuple[str, tuple[int, ...]]
    step: str
    """What is run, for people."""
    options: Mapping[str, Any] = field(default_factory=dict)
    rule: str = ""
    words: str = ""
    """Part of the suggestion's text, where a rule has several."""
    after: Mapping[str, Any] | None = None
    """Options of the second analysis, where no rule makes the change."""


EXAMPLES: Final = (
    Example(habit="Global average pooling", model=CNN, step="inference",
            rule="global-pooling"),
    Example(habit="Depthwise separable convolution", model=CNN, step="inference",
            rule="depthwise-separable", words="features.3"),
    Example(habit="Grouped convolution", model=CNN, step="inference", rule="grouped-convolution"),
    Example(habit="Stride instead of a pool", model=CNN, step="inference",
            rule="stride-earlier", words="features.3"),
    Example(habit="Half of an early layer's channels", model=CNN, step="inference",
            rule="wide-early-maps"),
    Example(habit="Low-rank linear layers", model=VIT, step="inference", rule="low-rank"),
    Example(habit="Pruned channels", model=RESNET, step="inference", rule="prune", words="50%"),
    Example(habit="BatchNorm folded into convolutions", model=RESNET, step="inference, batch 32",
            options={"batch_size": 32}, rule="fold-batchnorm"),
    Example(habit="16 bits at inference", model=RESNET, step="inference, batch 32",
            options={"batch_size": 32}, rule="scenario", words="everything in"),
    Example(habit="8-bit weights", model=ENCODER, step="inference", rule="int8-weights"),
    Example(habit="Mixed precision", model=RESNET, step="training, batch 32",
            options=TRAINING | {"batch_size": 32}, rule="scenario", words="autocast"),
    Example(habit="TF32", model=VIT, step="training, batch 32",
            options=TRAINING | {"batch_size": 32}, rule="tf32"),
    Example(habit="Half of the batch", model=RESNET, step="training, batch 32",
            options=TRAINING | {"batch_size": 32}, after={"batch_size": 16}),
    Example(habit="Gradient accumulation over two halves", model=RESNET,
            step="training, batch 32", options=TRAINING | {"batch_size": 32}, rule="scenario",
            words="accumulate"),
    Example(habit="Activation checkpointing", model=ENCODER, step="training, batch 64",
            options=TRAINING | {"batch_size": 64}, rule="scenario", words="recompute"),
    Example(habit="Activations in host memory", model=ENCODER, step="training, batch 64",
            options=TRAINING | {"batch_size": 64}, rule="scenario", words="host memory"),
    Example(habit="Fused optimizer", model=ENCODER, step="training, batch 1",
            options=TRAINING | {"batch_size": 1}, rule="scenario", words="fused adamw"),
    Example(habit="Optimizer states of 8 bits", model=ENCODER, step="training, batch 1",
            options=TRAINING | {"batch_size": 1}, rule="scenario", words="8bit"),
    Example(habit="Loss in parts", model=LLAMA, step="training, batch 4",
            options=TRAINING | {"precision": "bf16"}, rule="chunked-loss"),
    Example(habit="Smaller images: 160 × 160", model=RESNET, step="training, batch 32",
            options=TRAINING | {"batch_size": 32}, after={"input_size": (3, 160, 160)}),
    Example(habit="torch.compile", model=ENCODER, step="inference, batch 1",
            options={"batch_size": 1}, rule="compile"),
)  # fmt: skip
DEVICE: Final = "A100-SXM4-40GB"


@cache
def _suggestions(
    model: tuple[str, tuple[int, ...]], rule: str, options: tuple[tuple[str, Any], ...]
) -> tuple[Suggestion, ...]:
    size: Any = model[1]
    more = dict(options)
    if model is LLAMA:
        words = torch.zeros(size, dtype=torch.int64)
        size, more["input_data"] = None, {"input_ids": words, "labels": words}
    made = _made(model, rule)
    return tg.advise(made, size, rules=(rule,), prove=False, **more).suggestions


def _made(model: tuple[str, tuple[int, ...]], rule: str) -> Any:
    """Return the model, or its spec where its structure is enough."""
    spec, _ = model
    if model is LLAMA:
        return _llama()
    if rule != "prune":
        return spec
    define_missing_operators()
    from torchvision.models import get_model

    torch.manual_seed(0)
    return get_model(spec.partition(":")[2], weights=None).eval()


def _llama() -> torch.nn.Module:
    define_missing_operators()
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        model: torch.nn.Module = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=128_256, hidden_size=2048, intermediate_size=8192,
                num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8,
                tie_word_embeddings=True,
            )
        )  # fmt: skip
    return model


def measured(example: Example) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Return the figures of a step before and after.

    Raises:
        LookupError: the rule does not find the change any more.
    """
    spec, size = example.model
    options: dict[str, Any] = {"device": DEVICE, **example.options}
    if example.after is not None:
        before = tg.analyze(spec, size, **options)
        changed = {"input_size": size, **options, **example.after}
        return figures_of(before), figures_of(tg.analyze(spec, **changed))
    suggestions = _suggestions(example.model, example.rule, tuple(sorted(options.items())))
    for found in suggestions:
        if example.words in found.text:
            known = {f.name: (f.before, f.after) for f in found.figures}
            return (
                {name: pair[0] for name, pair in known.items() if pair[0] is not None},
                {name: pair[1] for name, pair in known.items() if pair[1] is not None},
            )
    raise LookupError(f"{example.habit}: {[item.text for item in suggestions]}")


def row(example: Example) -> str:
    """Return a row of the Markdown table."""
    before, after = measured(example)
    name = example.model[0].rpartition(":")[2]
    cells = [example.habit, f"{name}, {example.step}"]
    return "| " + " | ".join([*cells, *_cells(before, after)]) + " |\n"


def _cells(before: Mapping[str, float], after: Mapping[str, float]) -> Iterator[str]:
    for _, name, form in _FIGURES:
        if name not in before or name not in after:
            yield "–"
        elif abs(after[name] / before[name] - 1) < 0.005:
            yield "same"
        else:
            share = (after[name] / before[name] - 1) * 100
            sign = "−" if share < 0 else "+"
            yield f"{form(before[name])} → {form(after[name])} ({sign}{abs(share):.0f} %)"


def table(examples: tuple[Example, ...] = EXAMPLES) -> str:
    """Return the Markdown table."""
    titles = ["Advice", "Model and step", *(title for title, _, _ in _FIGURES)]
    lines = ["| " + " | ".join(titles) + " |\n", "|---" * len(titles) + "|\n"]
    return "".join([*lines, *map(row, examples)])


def with_table(text: str, made: str) -> str:
    """Return the page with a new table."""
    head, _, rest = text.partition(BEGIN)
    return head + BEGIN + "\n" + made + "\n" + END + rest.partition(END)[2]


def main(arguments: list[str]) -> int:
    before = PAGE.read_text(encoding="utf-8")
    after = with_table(before, table())
    if before == after:
        return 0
    if "--check" in arguments:
        print("docs/advice.md is stale: run `make advice`", file=sys.stderr)
        return 1
    PAGE.write_text(after, encoding="utf-8")
    print("updated: docs/advice.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
