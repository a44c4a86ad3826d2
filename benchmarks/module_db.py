"""PyTorch's own suite of modules (``module_db``) against what torchgauge says of them.

Each module comes with the inputs that PyTorch tests it with: float32, once for evaluation and once
for training. ``python -m benchmarks.module_db`` compares the peaks of real steps on the CPU and
writes ``module_db.csv`` (one line per module and scenario that is not exact, with its reason) and
``docs/module-db.md``. Needs ``expecttest``.
"""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler writes a line per run to stderr

import torch
from torch import nn

import torchgauge as tg
from benchmarks.cpu_memory import Figure, Step, one_thread, real_peaks
from benchmarks.torch_suites import module_db

TABLE = Path(__file__).with_name("module_db.csv")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "module-db.md"
COLUMNS = ("module", "scenario", "compared", "off", "predicted_bytes", "real_bytes", "reason")
ALL = "all"
MOST = 12
"""Samples per module and scenario whose peak is compared: evenly spread where there are more."""
INFERENCE, TRAINING = "inference", "training"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One module with one of its inputs."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    training: bool

    @property
    def scenario(self) -> tg.Scenario:
        """Return evaluation, or a step of SGD; without parameters the inputs get gradients."""
        if not self.training:
            return tg.Scenario()
        has_parameters = any(p.requires_grad for p in self.module.parameters())
        return tg.Scenario(mode=TRAINING, optimizer="sgd" if has_parameters else "none")

    def analyze(self) -> tg.Report:
        """Return the report of the module in the sample's scenario."""
        return tg.analyze(self.module, input_data=self.args, scenario=self.scenario, **self.kwargs)


def names() -> list[str]:
    """Return the modules of the suite, each once."""
    return list(dict.fromkeys(info.name for info in module_db()))


def samples(name: str, *, training: bool, most: int | None = None) -> Iterator[Sample]:
    """Yield a module of the suite with each of its inputs, or ``most`` of them, evenly spread."""
    found = []
    for info in module_db():
        if info.name == name:
            torch.manual_seed(0)
            given = info.module_inputs_func(
                info, device="cpu", dtype=torch.float32, requires_grad=training, training=training
            )
            found += [(info, item) for item in given if item.forward_input is not None]
    if most is not None and len(found) > most:
        found = [found[place * len(found) // most] for place in range(most)]
    for info, item in found:
        torch.manual_seed(0)
        made = item.constructor_input
        module = info.module_cls(*made.args, **made.kwargs).to(torch.float32).train(training)
        given = item.forward_input
        yield Sample(
            module=module, args=tuple(leaf(a) for a in given.args),
            kwargs={key: leaf(value) for key, value in given.kwargs.items()}, training=training,
        )  # fmt: skip


def leaf(value: Any) -> Any:
    """Return an input whose gradient has no further history."""
    if isinstance(value, torch.Tensor):
        return value.detach().requires_grad_(value.requires_grad)
    return type(value)(map(leaf, value)) if isinstance(value, (list, tuple)) else value


def figures(name: str, *, training: bool) -> list[Figure]:
    """Return the peaks of the samples that can be compared.

    Left out: what has no gradient at all, and what PyTorch itself refuses.
    """
    taken, predicted = [], []
    with one_thread():
        for sample in samples(name, training=training, most=MOST):
            step = Step(sample.module, sample.args, sample.kwargs, sample.scenario)
            try:
                step.run()
                step.reset()
            except (RuntimeError, tg.ScenarioError):
                continue
            report = sample.analyze()
            assert report.memory is not None
            predicted.append(report.memory.peak_allocated_bytes)
            taken.append(step)
        real = real_peaks(taken) if taken else []
    scenario = TRAINING if training else INFERENCE
    return [
        Figure(name=name, scenario=scenario, predicted_bytes=ours, real_bytes=theirs)
        for ours, theirs in zip(predicted, real, strict=True)
    ]


def worst(compared: Iterable[Figure]) -> Figure:
    """Return the figure that is furthest off."""
    return max(compared, key=lambda figure: abs(figure.error))


def differences() -> dict[tuple[str, str], dict[str, str]]:
    """Return the rows of the table, by module and scenario; the last is the sum of all."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return {(row["module"], row["scenario"]): row for row in csv.DictReader(file)}


def _rows() -> list[dict[str, Any]]:
    """Compare everything; a row's reason stays as it is in the table."""
    known = differences() if TABLE.exists() else {}
    rows: list[dict[str, Any]] = []
    compared = 0
    for name in names():
        for training in (False, True):
            found = figures(name, training=training)
            off = [figure for figure in found if figure.error]
            compared += len(found)
            if off:
                far = worst(off)
                old = known.get((name, far.scenario), {})
                rows.append({
                    "module": name, "scenario": far.scenario, "compared": len(found),
                    "off": len(off), "predicted_bytes": far.predicted_bytes,
                    "real_bytes": far.real_bytes, "reason": old.get("reason", ""),
                })  # fmt: skip
    total = {"module": ALL, "scenario": "both", "compared": compared}
    return [*rows, total | {"off": sum(row["off"] for row in rows)}]


def main() -> None:
    """Compare everything and write the table and its page."""
    warnings.simplefilter("ignore")  # the suite tries what PyTorch deprecates
    rows = _rows()
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    PAGE.write_text(page(rows), encoding="utf-8")


def page(rows: list[dict[str, Any]]) -> str:
    """Return the page of the documentation."""
    *rows, total = rows
    compared, exact = total["compared"], total["compared"] - total["off"]
    lines = [
        "# PyTorch's own modules",
        "",
        "`torch.testing._internal.common_modules.module_db` has the modules of `torch.nn` with the "
        "inputs that PyTorch tests them with. `tests/models/test_module_db.py` takes all of them, "
        "in evaluation and in training: the analysis runs, and parameters, output shapes and "
        "dtypes are those of a real run.",
        "",
        f"Peak on the CPU against the profiler's memory events, inference and one step of SGD (of "
        f"gradients alone where a module has no parameters), at most {MOST} samples per module and "
        f"scenario: **{exact:,} of {compared:,} are equal to the byte** ({exact / compared:.1%}). "
        f"Written by `python -m benchmarks.module_db` with torch {torch.__version__}.",
        "",
        "One line per module and scenario that is not exact, with its worst sample:",
        "",
        "| module | scenario | off | predicted | real | error | reason |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        ours, real = row["predicted_bytes"], row["real_bytes"]
        lines.append(
            f"| {row['module']} | {row['scenario']} | {row['off']} of {row['compared']} | "
            f"{ours:,} | {real:,} | {ours / real - 1:+.1%} | {row['reason']} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
