"""torch's own samples of every operator (``op_db``): their peak memory, and the order of results.

Each sample is run for real on the CPU beside its analysis: as it is, with its matrices transposed,
and with its images and volumes channels last. ``python tests/models/op_memory.py`` writes what is
not exact, one line per operator (``benchmarks/operator_peaks.csv``), and
``docs/operator-peaks.md``. A new line gets the reason ``?``, which a person replaces.
"""

from __future__ import annotations

import csv
import os
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler writes a line per run to stderr

import torch
from op_samples import ROOT, Call, full_name, operators, samples, step, tensors_in, total
from torch.utils._pytree import tree_map

import torchgauge as tg
from real_step import memory_profile, predicted_peak
from torchgauge.errors import ModelError
from torchgauge.trace.record.kernel_memory import one_thread
from torchgauge.trace.torch_internals.profiler import memory_changes

TABLE = ROOT / "benchmarks" / "operator_peaks.csv"
PAGE = ROOT / "docs" / "operator-peaks.md"
COLUMNS = ("operator", "compared", "off", "worst", "misplaced", "reason")
LARGEST = 2
"""Samples of an operator in inference, training and each order of elements."""
AS_IT_IS, TRANSPOSED, CHANNELS_LAST = "as it is", "transposed", "channels last"
ORDERS = (AS_IT_IS, TRANSPOSED, CHANNELS_LAST)
REASONS = {
    "small matrices": "LAPACK's work arrays and vectors, which are large only beside small "
    "matrices. With 100 rows the peak is off by at most 4 %; 10 % for `eigvalsh`, 15 % for "
    "`cholesky_solve`",
    "numbers": "numbers that become tensors, up to 24 bytes",
    "formula": "autograd takes another formula while a dispatch mode watches",
    "values": "depends on the values, so that it runs for real or the most is stated",
    "processor": "the kernel depends on the processor's instructions",
    "weights": "no layer has weights in this order: convolutions, norms",
    "unexplained": "not explained: few channels",
    "no rule": "no rule yet",
}
_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
Place = tuple[tuple[int, ...], tuple[int, ...]]


PLACES: list[tuple[int, Place]] = []
"""Of the last run: -1 and the place of each result; the index of a parameter, and its gradient's.

A global list, because a model is left as it was when it has been analyzed.
"""


class Noted(Call):
    """An operator whose results and gradients are noted: shapes, and strides that matter."""

    def forward(self, *tensors: torch.Tensor) -> Any:
        output = super().forward(*tensors)
        PLACES.extend((-1, place(tensor)) for tensor in tensors_in(output))
        return output

    def note(self, index: int, gradient: torch.Tensor | None) -> None:
        """Note a gradient of the parameter with that index."""
        if gradient is not None:
            PLACES.append((index, place(gradient)))


def place(tensor: torch.Tensor) -> Place:
    """Return the shape and the strides of dimensions that have more than one element."""
    shape = tuple(tensor.shape)
    if tensor.layout is not torch.strided or 0 in shape:
        return shape, ()
    return shape, tuple(step for size, step in zip(shape, tensor.stride(), strict=True) if size > 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """One sample: what was predicted, and what the allocator was asked for."""

    name: str
    order: str
    training: bool
    predicted: int
    real: int
    is_misplaced: bool
    """A result or a gradient has other strides."""

    @property
    def error(self) -> float:
        """Return the relative error of the peak."""
        return (self.predicted - self.real) / max(1, self.real)


def peaks(entry: Any) -> Iterator[Peak]:
    """Compare the largest samples of an operator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for training in (False, True):
            made = samples(entry, training=training, limit=None)
            for order in ORDERS:
                ordered = [one for one in (in_order(s, order) for s in made) if one is not None]
                for sample in sorted(ordered, key=_size)[-LARGEST:]:
                    found = compared(entry, sample, order, training=training)
                    if found is not None:
                        yield found


class Sample:
    """The arguments of an operator."""

    def __init__(self, args: tuple[Any, ...]) -> None:
        self.input, self.args, self.kwargs = args


def in_order(sample: Any, order: str) -> Sample | None:
    """Return a sample with its tensors in an order; ``None`` where that changes nothing."""
    changed: list[bool] = []

    def move(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
            return value
        tensor = value.detach()
        if order == TRANSPOSED and tensor.dim() > 1:
            tensor = tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
        elif order == CHANNELS_LAST and tensor.dim() in _LAST:
            tensor = tensor.contiguous(memory_format=_LAST[tensor.dim()])
        changed.append(order == AS_IT_IS or tensor.stride() != value.stride())
        return tensor.requires_grad_(value.requires_grad)

    moved = tree_map(move, (sample.input, sample.args, sample.kwargs))
    return Sample(moved) if any(changed) else None


def _size(sample: Any) -> int:
    parts = tensors_in((sample.input, sample.args, sample.kwargs))
    return sum(tensor.numel() for tensor in parts)


def compared(entry: Any, sample: Any, order: str, *, training: bool) -> Peak | None:
    """Analyze a sample and run it; ``None`` where PyTorch refuses it or differentiates nothing."""
    model = Noted(entry.op, sample, training=training)
    scenario = tg.Scenario(
        mode="training" if training else "inference", optimizer="none" if training else None
    )
    try:
        real = real_peak(model, training=training)
    except (AssertionError, RuntimeError):
        return None
    if real is None:
        return None
    really = sorted(PLACES)
    PLACES.clear()
    model.zero_grad(set_to_none=True)
    options = {"loss": total} if training else {}
    try:
        report = tg.analyze(model, input_data=tuple(model.inputs), scenario=scenario, **options)
        predicted = predicted_peak(report)
    except ModelError:  # off by all of it
        predicted = 0
    runs_twice = len(PLACES) > len(really)  # what reads values, to know them
    return Peak(
        name=full_name(entry),
        order=order,
        training=training,
        predicted=predicted,
        real=real,
        is_misplaced=not runs_twice and really != sorted(PLACES),
    )


@one_thread()
def real_peak(model: Noted, *, training: bool) -> int | None:
    """Return the most bytes that a sample has allocated at once."""
    changes: list[tuple[int, int]] = []
    for _ in range(3):  # on a busy machine the profiler may come back with nothing
        PLACES.clear()
        torch.manual_seed(0)
        with memory_profile() as profiler:
            kept = step(model, training=training)
        if training and kept[1] is None:
            return None
        changes = memory_changes(profiler.profiler)
        if changes:
            break
    held = most = 0
    for _, size in changes:
        held += size
        most = max(most, held)
    return most


# ------------------------------------------------------------------------ the table and the page


def read_table() -> dict[str, dict[str, str]]:
    """Return the lines of the table by operator."""
    with TABLE.open(newline="", encoding="utf-8") as lines:
        return {row["operator"]: row for row in csv.DictReader(lines)}


def write_table(found: Sequence[Peak]) -> list[dict[str, str]]:
    """Write a line for every operator of which a sample is off."""
    known = read_table() if TABLE.exists() else {}
    by_name: defaultdict[str, list[Peak]] = defaultdict(list)
    for peak in found:
        by_name[peak.name].append(peak)
    rows = []
    for name, peaks_of in sorted(by_name.items()):
        off = [peak for peak in peaks_of if peak.predicted != peak.real]
        misplaced = sum(peak.is_misplaced for peak in peaks_of)
        if off or misplaced:
            worst = max((peak.error for peak in off), key=abs, default=0.0)
            rows.append({
                "operator": name, "compared": str(len(peaks_of)), "off": str(len(off)),
                "worst": f"{worst:+.1%}", "misplaced": str(misplaced),
                "reason": known.get(name, {"reason": "?"})["reason"],
            })  # fmt: skip
    with TABLE.open("w", newline="", encoding="utf-8") as target:
        table = csv.DictWriter(target, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    return rows


def page(found: Sequence[Peak], rows: Sequence[dict[str, str]]) -> str:
    """Return the page of the documentation."""
    lines = [
        "# Peak memory of every operator on the CPU",
        "",
        "The largest two samples of each operator of `op_db`, PyTorch's own test suite, in",
        "inference and in training, run for real on the CPU: one thread, float32 where there is",
        "one. Their peak is compared to the byte with the profiler's memory events, and the",
        "strides of all results and gradients with those of the run. Written by",
        f"`python tests/models/op_memory.py` with torch {torch.__version__.partition('+')[0]}.",
        "",
        "| order of the arguments | samples | peak equal to the byte | all strides equal |",
        "|---|--:|--:|--:|",
    ]
    for order in ORDERS:
        chosen = [peak for peak in found if peak.order == order]
        exact = sum(peak.predicted == peak.real for peak in chosen)
        placed = sum(not peak.is_misplaced for peak in chosen)
        lines.append(f"| {order} | {len(chosen):,} | {exact:,} ({exact / len(chosen):.1%}) | "
                     f"{placed:,} ({placed / len(chosen):.1%}) |")  # fmt: skip
    count = len({peak.name for peak in found})
    lines += ["", f"Of {count} operators {count - len(rows)} have no sample that is off.", "",
              "The samples are small: 5 × 5 matrices, images of 4 × 4. A few bytes are a large",
              "share of them, and arrays that grow with the rows are larger than what grows with",
              "their square.", "", "## Why the others differ", "", "| reason | operators |",
              "|---|--:|"]  # fmt: skip
    reasons = Counter(row["reason"] for row in rows)
    lines += [f"| {text} | {reasons[key]} |" for key, text in REASONS.items()]
    lines += ["", "## One line each", "",
              "| operator | samples | peak off | worst | strides off | reason |",
              "|---|--:|--:|--:|--:|---|"]  # fmt: skip
    lines += [
        f"| `{row['operator']}` | {row['compared']} | {row['off']} | {row['worst']} | "
        f"{row['misplaced']} | {row['reason']} |"
        for row in rows
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    everything = [peak for entry in operators() for peak in peaks(entry)]
    PAGE.write_text(page(everything, write_table(everything)), encoding="utf-8")
    print(f"wrote {TABLE.name} and {PAGE.name}", file=sys.stderr)
