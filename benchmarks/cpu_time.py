"""Predicted beside measured times on the CPU at hand, for 20 models, after a calibration.

``python -m benchmarks.cpu_time`` calibrates first; ``--keep FILE`` uses a calibration that is there
or makes it there. The models were chosen before any of them was timed. ``--record`` writes what the
page on accuracy shows.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import io
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from torch import nn

import torchgauge as tg
from benchmarks.cpu_cases import Build, hugging_face, timm, torchvision
from torchgauge.devices.cpu_file import VARIABLE
from torchgauge.facts.query import own_costs
from torchgauge.facts.report import Report
from torchgauge.target import cpu_name

_BASE = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
_DECODER = {**_BASE, "num_key_value_heads": 2, "intermediate_size": 688, "vocab_size": 8000}


class Tagger(nn.Module):
    """Two layers of an LSTM over embedded words, ``[n, l]``."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(10_000, 256)
        self.lstm = nn.LSTM(256, 256, num_layers=2, batch_first=True)
        self.tags = nn.Linear(256, 40)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.tags(self.lstm(self.words(tokens))[0])  # type: ignore[no-any-return]


def segmenter() -> nn.Module:
    """Return a small U-shaped network without skips: convolutions down, transposed ones up."""
    layers: list[nn.Module] = []
    width = 3
    for outputs in (32, 64, 128):
        layers += [nn.Conv2d(width, outputs, 3, 2, 1), nn.GroupNorm(8, outputs), nn.SiLU()]
        width = outputs
    for outputs in (64, 32, 16):
        layers += [nn.ConvTranspose2d(width, outputs, 4, 2, 1), nn.GroupNorm(8, outputs), nn.SiLU()]
        width = outputs
    return nn.Sequential(*layers, nn.Conv2d(width, 4, 1))


RECORD = Path(__file__).with_name("cpu_time.csv")
COLUMNS = ("model", "mode", "cpu", "day", "predicted_ms", "measured_ms", "stated_error",
           "predicted_top", "measured_top", "agrees")  # fmt: skip
MODELS: dict[str, tuple[Build, tuple[int, ...]]] = {
    "resnet18": (torchvision("resnet18"), (1, 3, 224, 224)),
    "resnet50": (torchvision("resnet50"), (4, 3, 224, 224)),
    "vgg11": (torchvision("vgg11"), (1, 3, 224, 224)),
    "densenet121": (torchvision("densenet121"), (2, 3, 224, 224)),
    "mobilenet_v2": (torchvision("mobilenet_v2"), (4, 3, 224, 224)),
    "mobilenet_v3_large": (torchvision("mobilenet_v3_large"), (1, 3, 224, 224)),
    "efficientnet_b0": (torchvision("efficientnet_b0"), (2, 3, 224, 224)),
    "convnext_tiny": (torchvision("convnext_tiny"), (1, 3, 224, 224)),
    "regnet_y_400mf": (torchvision("regnet_y_400mf"), (1, 3, 224, 224)),
    "squeezenet1_1": (torchvision("squeezenet1_1"), (8, 3, 224, 224)),
    "shufflenet_v2_x1_0": (torchvision("shufflenet_v2_x1_0"), (2, 3, 224, 224)),
    "googlenet": (torchvision("googlenet", init_weights=False), (1, 3, 224, 224)),
    "vit_b_16": (torchvision("vit_b_16"), (1, 3, 224, 224)),
    "swin_t": (torchvision("swin_t"), (2, 3, 224, 224)),
    "timm mixer_s32": (timm("mixer_s32_224"), (4, 3, 224, 224)),
    "bert": (hugging_face("BertModel", "BertConfig", **_BASE, intermediate_size=1024), (4, 128)),
    "gpt2": (
        hugging_face("GPT2LMHeadModel", "GPT2Config", n_embd=256, n_layer=4, n_head=4), (2, 128),
    ),
    "llama": (hugging_face("LlamaForCausalLM", "LlamaConfig", **_DECODER), (1, 256)),
    "lstm": (Tagger, (8, 64)),
    "segmenter": (segmenter, (2, 3, 192, 192)),
}  # fmt: skip
MEASUREMENTS = 3
"""Of each model, one after the other; the median counts."""
TOP = 3
TIED = 0.1
"""Layers whose measured times differ by less are tied: as much lies between two measurements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model: milliseconds, the stated error, and whether the top layers agree."""

    name: str
    predicted_ms: float
    measured_ms: float
    stated_error: float
    predicted_top: tuple[str, ...]
    measured_top: tuple[str, ...]
    agrees: bool

    @property
    def error(self) -> float:
        """Return the relative error."""
        return abs(self.predicted_ms / self.measured_ms - 1.0)


def rows(names: Sequence[str], scenario: tg.Scenario) -> Iterator[Row]:
    """Predict and measure each model."""
    for name in names:
        build, size = MODELS[name]
        model = build()
        dtypes = [torch.long] if len(size) == 2 else None
        options: dict[str, Any] = {"scenario": scenario, "dtypes": dtypes}
        predicted = tg.analyze(model, size, **options)
        measured = [_measured(model, size, options) for _ in range(MEASUREMENTS)]
        yield row(name, predicted, measured)


def _measured(model: nn.Module, size: tuple[int, ...], options: dict[str, Any]) -> Report:
    return tg.measure(model, size, max_seconds=3.0, min_repetitions=7, **options)


def row(name: str, predicted: Report, measured: Sequence[Report]) -> Row:
    """Lay a prediction beside measurements of a model: beside their median, layer by layer too."""
    assert predicted.time is not None and predicted.time.predicted is not None
    ours, times = layers(predicted), [layers(report) for report in measured]
    parents = {path.rpartition(".")[0] for path in predicted.modules if path}
    theirs = {
        kind: median(found.get(kind, 0.0) for found in times)
        for kind in times[0]
        # What runs no operator itself is a container: its time is that of the profiler's marks.
        if kind in ours or kind not in parents
    }
    first, second = _top(ours), _top(theirs)
    least = min(theirs[kind] for kind in second)
    return Row(
        name=name,
        predicted_ms=predicted.time.total_ms,
        measured_ms=median(report.time.total_ms for report in measured if report.time is not None),
        stated_error=predicted.time.predicted.error,
        predicted_top=first,
        measured_top=second,
        agrees=all(theirs.get(kind, 0.0) >= (1.0 - TIED) * least for kind in first),
    )


def layers(report: Report) -> dict[str, float]:
    """Return the milliseconds of each kind of layer by itself.

    Layers of one class, with parameters and inputs of the same sizes, are one kind, named by the
    first of them: their times cannot be told apart but by noise.
    """
    own = own_costs(report)
    found: defaultdict[tuple[object, ...], list[tuple[str, float]]] = defaultdict(list)
    for path, module in report.modules.items():
        if module.calls and own[path].time_ms:
            first = module.calls[0]
            shapes = tuple(v.tensor.shape for v in first.inputs if v.tensor is not None)
            key = (module.type, module.own_params, shapes)
            found[key].append((path, own[path].time_ms))
    return {group[0][0]: fmean(time for _, time in group) for group in found.values()}


def _top(times: dict[str, float]) -> tuple[str, ...]:
    return tuple(sorted(times, key=lambda kind: -times[kind])[:TOP])


def measured(path: Path, scenario: tg.Scenario, names: Sequence[str] = tuple(MODELS)) -> list[Row]:
    """Calibrate unless the file is there, then predict and measure the models."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(path)
    try:
        if not path.exists():
            tg.calibrate(path)
        return list(rows(names, scenario))
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="a file for the calibration")
    parser.add_argument("--training", action="store_true", help="training steps, not inference")
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name}: this mode")
    parser.add_argument("models", nargs="*", default=list(MODELS))
    arguments = parser.parse_args()
    scenario = tg.Scenario(mode="training") if arguments.training else tg.Scenario()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.keep or Path(folder) / "cpu.json"
        found = measured(path, scenario, arguments.models)
        report(found)
        if arguments.record:
            record("training" if arguments.training else "inference", found)


def record(mode: str, found: Sequence[Row]) -> None:
    """Write what was found in a mode, with what it was found on; rows of others stay."""
    known = {(row["mode"], row["model"]): row for row in (_recorded() if RECORD.exists() else [])}
    for row in found:
        known[mode, row.name] = {
            "model": row.name,
            "mode": mode,
            "cpu": str(cpu_name(torch.get_num_threads(), str(torch.__version__))),
            "day": datetime.date.today().isoformat(),
            "predicted_ms": f"{row.predicted_ms:.4g}",
            "measured_ms": f"{row.measured_ms:.4g}",
            "stated_error": f"{row.stated_error:.4g}",
            "predicted_top": " ".join(row.predicted_top),
            "measured_top": " ".join(row.measured_top),
            "agrees": "yes" if row.agrees else "no",
        }
    with RECORD.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(known.values(), key=lambda row: row["mode"]))


def _recorded() -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(RECORD.read_text(encoding="utf-8"))))


def section() -> Iterator[str]:
    """Yield the lines of the page on accuracy, from the record."""
    recorded = _recorded()
    about = "; ".join(sorted({f"{row['cpu']}, {row['day']}" for row in recorded}))
    yield from ("## Time on a CPU", "")
    yield (
        "After `torchgauge measure --calibrate`, by `python -m benchmarks.cpu_time --record`: "
        f"{about}. "
        "Two cores of a virtual machine whose speed drifts by a fifth within minutes. The models "
        "were chosen before any was timed. The calibration was then improved with their errors "
        "in view, so other models may be further off. A kind of layer is all "
        "layers of one class and sizes. The top three agree if they are the same, or tied with "
        f"the third to within {TIED:.0%}."
    )
    yield from (
        "",
        "| | models | median | 90th percentile | worst | within ± stated | top 3 agree |",
    )
    yield "|---|--:|--:|--:|---|--:|--:|"
    for mode in dict.fromkeys(row["mode"] for row in recorded):
        yield _line(mode, [row for row in recorded if row["mode"] == mode])
    yield from ("", "| model | mode | measured | predicted ÷ measured |", "|---|---|--:|--:|")
    for row in recorded:
        took, predicted = float(row["measured_ms"]), float(row["predicted_ms"])
        yield f"| {row['model']} | {row['mode']} | {took:,.1f} ms | {predicted / took:.2f} |"
    yield from ("", *LIMITS.splitlines(), "")


def _line(mode: str, group: Sequence[Mapping[str, str]]) -> str:
    signed = {
        row["model"]: float(row["predicted_ms"]) / float(row["measured_ms"]) - 1.0 for row in group
    }
    sizes = sorted(abs(error) for error in signed.values())
    worst = max(signed, key=lambda name: abs(signed[name]))
    within = sum(abs(signed[row["model"]]) <= float(row["stated_error"]) for row in group)
    agree = sum(row["agrees"] == "yes" for row in group)
    ninth = sizes[min(len(sizes) - 1, int(0.9 * len(sizes)))]
    return (
        f"| {mode} | {len(group)} | {median(sizes):.1%} | {ninth:.1%} | {signed[worst]:+.1%} "
        f"{worst} | {within} | {agree} |"
    )


LIMITS = """\
Where not to trust it:

- *Which layers are the slowest*, if several take about as long. In four of five cases, one
  convolution or product is predicted to within 9 to 27 %, short rows of a softmax to within 40 %.
  Layers that are closer than that may change places. Of the 20 models in inference, the three
  slowest agreed in 19, 18, 18 and 19 during development, and in 19 of the record.
- *Python in a model's own forward* is predicted by the number of functions that it calls, each at
  the time of one in Python's library. A forward that loops within one function takes longer.
- *After the machine has become slower or faster* (other guests, its clock) than it was in the
  calibration, every time is off by as much. The training steps of the table were measured an hour
  before its calibration. In a slower hour, an earlier build predicted them 24 % too fast.
- *While something else runs* on the machine or its host. Predicted times assume a quiet machine.
- *Blocks of 32 MiB and more* (logits of a language model, the gradient of VGG's first linear layer)
  cost a fault per page if the C library maps them. Whether it does depends on what ran before; the
  prediction assumes that it does. GPT-2 in the table was measured in a process whose heap had
  space for its logits. In another process, with the faults, it took 48 ms and not 35. The C library
  may also return the end of its heap in every step (16,000 faults of a ResNet-50 at batch 4). None
  of that is predicted.
- *Max pooling* is timed on random numbers. Over inputs that are mostly zero, it takes little more
  than a third of that. The outputs of the layers before it decide.
- *Weights that stay in the cache*. The prediction assumes that every weight is in main memory.
  Recurrent cells that are not fused (GRU, RNN) are predicted two to three times too slow, small
  networks at batch 1 (weights of less than a few MiB) twice.
- *Batched products of matrices with gaps* (the shifted windows of Swin) run one by one and take
  up to eight times as long as predicted: a fifth of its step.
- *Operators that were not timed* (losses, grid sampling, spectral and sparse ones) get the time of
  others of their kind.
- *float16 and bfloat16*: products use one ratio to float32 for all sizes, at batch 1 three to four
  times too fast. Other operators are predicted by their bytes.
- *torch.compile* and quantized models are not predicted or have not been compared.
"""


def report(found: Sequence[Row]) -> None:
    """Print the rows, and what they come to."""
    for row in found:
        print(
            f"{row.name:20} {row.predicted_ms:9.2f} {row.measured_ms:9.2f} ms"
            f" {row.predicted_ms / row.measured_ms:6.2f}×"
            f"  {'' if row.agrees else f'{row.predicted_top} / {row.measured_top}'}"
        )
    errors = sorted(row.error for row in found)
    within = sum(row.error <= row.stated_error for row in found)
    print(
        f"median {median(errors):.1%}, worst {errors[-1]:.1%}, top {TOP} layers agree in"
        f" {sum(row.agrees for row in found)} of {len(found)}, within the stated error {within}"
    )


if __name__ == "__main__":
    main()
