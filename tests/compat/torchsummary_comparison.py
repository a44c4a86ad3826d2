"""torchsummary 1.5.1 and ours on the same model: where rows differ, and by which mechanism.

The original runs on the meta device, which costs nothing: what it prints does not depend on
values. ``python tests/compat/torchsummary_comparison.py`` writes the table of differences.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "models")] if __name__ == "__main__" else []
TABLE = HERE / "torchsummary_differences.csv"
COLUMNS = ("model", "what", "original", "ours", "who_is_right", "why")

from flop_zoo import ZOO, Entry  # noqa: E402

from torchgauge.compat.running import ModelRun  # noqa: E402
from torchgauge.compat.torchsummary.rows import rows_of  # noqa: E402
from torchgauge.compat.torchsummary.runs import run_summary  # noqa: E402


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of a table; ``path`` where it is known whose it is."""

    kind: str
    shape: str
    params: int
    path: str = ""
    is_repeat: bool = False
    is_copy: bool = False
    """One more row of the same call: the original's hook is there once per registration."""


def sizes_of(entry: Entry) -> list[tuple[int, ...]] | None:
    """Return the shapes by position without the batch, ``None`` where torchsummary has no way."""
    sizes = entry.sizes
    if isinstance(sizes, dict):
        sizes = list(sizes.values()) if len(sizes) == 1 else None
    if sizes is None:
        return None
    return [size[1:] for size in (sizes if isinstance(sizes, list) else [sizes])]


ASKS_FOR_VALUES = ("hf-deberta-v2", "hf-wav2vec2")
"""Models that the original cannot run on meta, where it runs here."""
COMPARED = [
    name
    for name, entry in ZOO.items()
    if sizes_of(entry) is not None and name not in ASKS_FOR_VALUES
]


def original_rows(
    model: nn.Module, sizes: list[tuple[int, ...]], device: str = "meta"
) -> tuple[list[Row], int]:
    """Return the rows that torchsummary prints, and its total.

    It makes its inputs with ``torch.rand(...).type(torch.FloatTensor)``: on the CPU whatever the
    default device. A dtype in that place keeps them on meta.
    """
    from torchsummary import summary

    printed = io.StringIO()
    with (
        mock.patch.object(torch, "FloatTensor", torch.float32),
        torch.device(device),
        contextlib.redirect_stdout(printed),
    ):
        summary(model, sizes, device="cpu")
    lines = printed.getvalue().split("=" * 64)[1].strip("\n").splitlines()
    rows = []
    for line in lines:
        match = re.fullmatch(r" *(\S+)-\d+  +(\S.*?) +([\d,]+)", line)
        assert match is not None, line
        rows.append(Row(kind=match[1], shape=match[2], params=int(match[3].replace(",", ""))))
    total = re.search(r"Total params: ([\d,]+)", printed.getvalue())
    assert total is not None
    return rows, int(total[1].replace(",", ""))


def our_rows(model: nn.Module, entry: Entry, sizes: list[tuple[int, ...]]) -> tuple[Any, ...]:
    """Return our rows with the modules they are of, and the run."""
    run = run_summary(model, sizes, None, 1)
    shown = rows_of(run, -1, with_root=False)
    hidden = (nn.Sequential, nn.ModuleList)
    calls = [
        call
        for call in run.rows.completed_calls
        if call.path and not isinstance(run.rows.modules[call.path], hidden)
    ]
    calls += [call for call in run.rows.completed_calls if not call.path][: len(shown) - len(calls)]
    assert len(calls) == len(shown)
    hooks: Counter[nn.Module] = Counter()
    model.apply(lambda module: hooks.update([module]))
    rows, seen = [], set()
    for call, row in zip(calls, shown, strict=True):
        first = Row(
            kind=row.name.rpartition("-")[0],
            shape=row.output_shape,
            params=row.params,
            path=call.path,
            is_repeat=call.path in seen,
        )
        copies = hooks[run.rows.modules[call.path]] - 1
        rows += [first, *[replace(first, is_copy=True)] * copies]
        seen.add(call.path)
    return rows, run


def differences(name: str) -> list[dict[str, str]]:
    """Return the rows of the table for a model."""
    entry = ZOO[name]
    sizes = sizes_of(entry)
    assert sizes is not None
    model = entry.meta_model()
    ours, run = our_rows(model, entry, sizes)
    everything = sum(parameter.numel() for parameter in model.parameters())
    assert sum(row.params for row in ours if not row.is_copy) == run.params[0] == everything
    try:
        theirs, total = original_rows(model, sizes)
    except Exception as error:
        first = str(error).splitlines()[0][:60]
        raised = f"{type(error).__name__}: {first}"
        return [_line(name, "it runs", raised, f"{len(ours)} rows", crash_reason(error))]
    found = list(_compared(name, theirs, ours, run.rows))
    if total != run.params[0]:
        lines = [line for line in found if not line["what"].startswith("shape")]
        whys = sorted({why for line in lines for why in line["why"].split("+")})
        found.append(
            _line(name, "total params", str(total), str(run.params[0]), "+".join(whys) or "?")
        )
    return found


def crash_reason(error: Exception) -> str:
    """Name why the original fails."""
    text = str(error)
    if isinstance(error, AttributeError) and "attribute 'size'" in text:
        return "structured_output"
    if isinstance(error, AttributeError) and "'int' object has no attribute 'numpy'" in text:
        return "no_weight"
    return "float_indices" if isinstance(error, RuntimeError) and "indices" in text else "?"


def _compared(
    name: str, theirs: list[Row], ours: list[Row], run: ModelRun
) -> Iterator[dict[str, str]]:
    matcher = SequenceMatcher(
        None, [row.kind for row in theirs], [row.kind for row in ours], autojunk=False
    )
    more: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    shapes: dict[tuple[str, str], tuple[str, str, int]] = {}
    params: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    facts = Facts(run)
    for _, a, a_end, b, b_end in matcher.get_opcodes():
        if [r.kind for r in theirs[a:a_end]] != [r.kind for r in ours[b:b_end]]:
            for row in theirs[a:a_end]:
                more[row.kind, "?"][0] += 1
            for row in ours[b:b_end]:
                more[row.kind, "root_row" if not row.path else "?"][1] += 1
            continue
        for their, our in zip(theirs[a:a_end], ours[b:b_end], strict=True):
            if our.is_copy:
                more[our.kind, "registered_twice"][0] += 1
                continue
            if their.shape != our.shape:
                key = (our.kind, why_shape(their.shape, our.shape))
                first = shapes.get(key, (their.shape, our.shape, 0))
                shapes[key] = (*first[:2], first[2] + 1)
            if their.params != our.params:
                sums = params[our.kind, facts.why_params(their, our)]
                sums[0], sums[1], sums[2] = (
                    sums[0] + their.params, sums[1] + our.params, sums[2] + 1,
                )  # fmt: skip
    for (kind, why), (before, after) in more.items():
        yield _line(name, f"rows of {kind}", f"+{before}", f"+{after}", why)
    for (kind, why), (before_shape, after_shape, count) in shapes.items():
        yield _line(name, f"shape of {kind} ×{count}", before_shape, after_shape, why)
    for (kind, why), (before, after, count) in params.items():
        yield _line(name, f"params of {kind} ×{count}", str(before), str(after), why)


def why_shape(theirs: str, ours: str) -> str:
    """Name why shapes differ: the first number is no batch, or the batch is elsewhere."""
    first, second = ([int(n) for n in re.findall(r"-?\d+", text)] for text in (theirs, ours))
    if len(first) == len(second) and all(
        a == b or a == -1 or b == -1 for a, b in zip(first, second, strict=True)
    ):
        return "batch_dimension"
    return "?"


class Facts:
    """What explains a difference, read from the user's own modules."""

    def __init__(self, run: ModelRun) -> None:
        self._run = run
        self._with_row = {
            call.path
            for call in run.completed_calls
            if not isinstance(run.modules[call.path], (nn.Sequential, nn.ModuleList))
        }

    def why_params(self, theirs: Row, ours: Row) -> str:
        """Name why parameters differ; ``?`` unless the original's number is understood."""
        module = self._run.modules[ours.path]
        read = [getattr(module, name, None) for name in ("weight", "bias")]
        if theirs.params != sum(t.numel() for t in read if isinstance(t, torch.Tensor)):
            return "?"
        if ours.is_repeat:
            return "repeated_call"
        whys = []
        own = dict(module.named_parameters(recurse=False))
        if own.keys() - {"weight", "bias"}:
            whys.append("other_names")
        left_over = [
            item
            for path, items in self._run.own_parameters.items()
            for item in items
            if path != ours.path and self._owner(path) == ours.path and item.shared_with is None
        ]
        if left_over:
            whys.append("never_called")
        return "+".join(whys) or "?"

    def _owner(self, path: str) -> str:
        while path and path not in self._with_row:
            path = path.rpartition(".")[0]
        return path


def _line(model: str, what: str, original: str, ours: str, why: str) -> dict[str, str]:
    return dict(zip(COLUMNS, (model, what, original, ours, "ours", why), strict=True))


if __name__ == "__main__":
    with TABLE.open("w", newline="", encoding="utf-8") as target:
        table = csv.DictWriter(target, COLUMNS, lineterminator="\n")
        table.writeheader()
        for model_name in COMPARED:
            table.writerows(differences(model_name))
    print(f"wrote {TABLE.name}: {len(COMPARED)} models", file=sys.stderr)
