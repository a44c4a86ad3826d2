"""torch's own samples of every operator (``op_db``), analyzed and run for real.

``python tests/models/op_samples.py`` runs all of them (half an hour), and writes which operators
have no formula (``benchmarks/operators.csv``) and what came out (``docs/operators.md``). A new
operator gets the class ``?``, which a person replaces.
"""

from __future__ import annotations

import csv
import random
import re
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from benchmarks.torch_suites import op_db
from flop_comparison import lost_to_groups, packet_of, torch_flops
from torch import nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten
from torch.utils.flop_counter import FlopCounterMode, flop_registry

import torchgauge as tg
from asked import run_model
from torchgauge.estimate.arguments import real_products
from torchgauge.estimate.compute.flops import op_cost
from torchgauge.estimate.compute.formulas.sparse import has_sparse
from torchgauge.estimate.compute.registry import find_flop_formula
from torchgauge.facts.trace import Execution, OpRecord, Phase, Role, Trace
from torchgauge.reports import report_of

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "benchmarks" / "operators.csv"
PAGE = ROOT / "docs" / "operators.md"
NO_PRODUCTS, NEEDS_FORMULA, BY_VALUES = "no multiplications", "needs a formula", "data-dependent"
CLASSES = (NO_PRODUCTS, NEEDS_FORMULA, BY_VALUES)
LIMIT = 4
"""Samples of an operator that the tests take, in inference and in training; spread over all."""
NOT_LOOKED_INTO = (
    "nn.functional.linear_cross_entropy.chunked", "linalg.pinv", "pinverse", "linalg.lstsq",
)  # fmt: skip
"""``FlopCounterMode`` counts nothing inside a custom operator, nor inside ``linalg_pinv``, which
the gradient of least squares takes."""
SHAPES: list[tuple[int, tuple[int, ...], torch.dtype]] = []
"""Which parameter got a gradient, of which shape and dtype, in the last backward."""


class Call(nn.Module):
    """An operator with the arguments of a sample: what trains is a parameter, the rest an input."""

    def __init__(self, operator: Any, sample: Any, *, training: bool) -> None:
        super().__init__()
        leaves, self.structure = tree_flatten((sample.input, sample.args, sample.kwargs))
        self.operator = operator
        self.fixed = list(leaves)
        self.inputs: list[torch.Tensor] = []
        self.input_places: list[int] = []
        self.parameter_places: list[int] = []
        parameters = []
        for place, leaf in enumerate(leaves):
            if not isinstance(leaf, torch.Tensor):
                continue
            self.fixed[place] = None
            if training and leaf.requires_grad:
                parameters.append(nn.Parameter(leaf.detach()))
                self.parameter_places.append(place)
            else:
                self.inputs.append(leaf.detach())
                self.input_places.append(place)
        self.weights = nn.ParameterList(parameters)

    def forward(self, *tensors: torch.Tensor) -> Any:
        leaves = list(self.fixed)
        for place, tensor in zip(self.input_places, tensors, strict=True):
            leaves[place] = tensor
        for index, (place, weight) in enumerate(
            zip(self.parameter_places, self.weights, strict=True)
        ):
            leaves[place] = weight
            if torch.is_grad_enabled():
                weight.register_hook(lambda grad, index=index: self.note(index, grad))
        first, args, kwargs = tree_unflatten(leaves, self.structure)
        return self.operator(first, *args, **kwargs)

    def note(self, index: int, gradient: torch.Tensor | None) -> None:
        """Note a gradient of the parameter with that index."""
        if gradient is not None:
            SHAPES.append((index, tuple(gradient.shape), gradient.dtype))


def total(output: Any) -> torch.Tensor | None:
    """Return the sum of the real parts of all that can be differentiated."""
    parts = [
        (torch.real(leaf) if leaf.is_complex() else leaf).sum().float()
        for leaf in map(_dense, tensors_in(output))
        if leaf.requires_grad
    ]
    return sum(parts[1:], parts[0]) if parts else None


def _dense(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.layout is torch.strided else tensor.to_dense()


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Return the tensors inside containers."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


@dataclass(kw_only=True)
class Found:
    """What one sample showed."""

    name: str
    training: bool
    execution: str = ""
    reason: str = ""
    """Why it ran for real, as the report says it."""
    problems: list[str] = field(default_factory=list)
    skipped: str = ""
    rules: set[str] = field(default_factory=set)
    """Why MACs differ from those of ``FlopCounterMode``."""
    compared_flops: int = 0
    without_formula: set[str] = field(default_factory=set)
    uncounted: set[str] = field(default_factory=set)


@dataclass(kw_only=True)
class Real:
    """A real run."""

    outputs: list[tuple[tuple[int, ...], str]]
    gradients: list[tuple[int, tuple[int, ...], torch.dtype]]
    flops: Counter[str]


@cache
def operators() -> tuple[Any, ...]:
    """Return the entries of ``op_db`` that the CPU has.

    torch_geometric puts a function of its own in the place of ``torch.index_select``, which fails
    on a tensor of no dimension: where another test has imported it, PyTorch's is taken.
    """
    for entry in op_db():
        if getattr(entry.op, "__module__", "").startswith("torch_geometric"):
            entry.op = getattr(torch._C._VariableFunctions, entry.name)
    return tuple(entry for entry in op_db() if entry.dtypes)


def full_name(entry: Any) -> str:
    """Return the name of an entry with its variant."""
    return f"{entry.name}.{entry.variant_test_name}" if entry.variant_test_name else entry.name


def samples(
    entry: Any, *, training: bool, dtype: torch.dtype | None = None, limit: int | None = LIMIT
) -> list[Any]:
    """Return evenly spread samples of an entry, made from the same seed each time."""
    dtype = dtype or dtype_of(entry)
    if training and not (entry.supports_autograd and (dtype.is_floating_point or dtype.is_complex)):
        return []
    torch.manual_seed(0)
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    made = list(entry.sample_inputs("cpu", dtype, requires_grad=training))
    if limit is None or len(made) <= limit:
        return made
    return [made[round(index * (len(made) - 1) / (limit - 1))] for index in range(limit)]


def dtype_of(entry: Any) -> torch.dtype:
    """Return float32 where the operator takes it, else the first of its dtypes by name."""
    return torch.float32 if torch.float32 in entry.dtypes else min(entry.dtypes, key=str)


def check(
    entry: Any, dtype: torch.dtype | None = None, limit: int | None = LIMIT
) -> Iterator[Found]:
    """Analyze and run the samples of an entry, in its own dtype where none is named."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for training in (False, True):
            for sample in samples(entry, training=training, dtype=dtype, limit=limit):
                yield compare(entry, sample, training=training)


def compare(entry: Any, sample: Any, *, training: bool) -> Found:
    """Analyze one sample and lay it beside a real run."""
    found = Found(name=full_name(entry), training=training)
    model = Call(entry, sample, training=training)
    trace = analyzed(model, found)
    gradients = list(SHAPES)
    try:
        real = run_for_real(model, training=training)  # the last one: it may change its inputs
    except (AssertionError, RuntimeError) as error:
        found.skipped = str(error).splitlines()[0]
        return found
    if real is None:
        found.skipped = "nothing to differentiate"
    if trace is None or real is None:
        return found
    outputs = [(v.tensor.shape, v.tensor.dtype) for v in trace.outputs if v.tensor is not None]
    if outputs != real.outputs:
        found.problems.append(f"outputs: {outputs}, for real {real.outputs}")
    if training and sorted(gradients, key=str) != sorted(real.gradients, key=str):
        found.problems.append(f"gradients: {gradients}, for real {real.gradients}")
    has_elements = any(n and 0 not in shape for n, (shape, _) in enumerate(real.outputs, 1))
    if training and real.gradients and has_elements:
        roles = {storage.role for storage in trace.storages}
        if Role.GRADIENT not in roles:
            found.problems.append("no storage is a gradient")
    compare_flops(trace, real, found)
    note_formulas(trace, found)
    return found


def run_for_real(model: Call, *, training: bool) -> Real | None:
    """Run a sample as PyTorch does; ``None`` where training it has nothing to differentiate."""
    SHAPES.clear()
    torch.manual_seed(0)
    with FlopCounterMode(display=False) as counter:
        output, loss = step(model, training=training)
    if training and loss is None:
        return None
    outputs = [(tuple(t.shape), str(t.dtype).removeprefix("torch.")) for t in tensors_in(output)]
    by_operator = counter.get_flop_counts().get("Global", {})
    return Real(
        outputs=outputs,
        gradients=list(SHAPES),
        flops=Counter({str(name): flops for name, flops in by_operator.items()}),
    )


def step(model: Call, *, training: bool) -> tuple[Any, torch.Tensor | None]:
    """Run a sample, in training with its backward; return its output and the loss, if any."""
    with torch.set_grad_enabled(training):
        output = model(*model.inputs)
        loss = total(output) if training else None
        if loss is not None:
            loss.backward()
    return output, loss


def analyzed(model: Call, found: Found) -> Trace | None:
    """Return the trace of a sample; what goes wrong is a problem."""
    SHAPES.clear()
    torch.manual_seed(0)
    options = {"loss": total} if found.training else {}
    scenario = tg.Scenario(
        mode="training" if found.training else "inference",
        optimizer="none" if found.training else None,
    )
    outcome = run_model(model, input_data=tuple(model.inputs), scenario=scenario, **options).outcome
    if outcome.error is not None:
        found.problems.append(f"{type(outcome.error).__name__}: {outcome.error}")
        return None
    trace = outcome.trace
    found.execution = str(trace.execution)
    if trace.execution is Execution.REAL:
        said = [text for text in trace.assumptions if text.startswith("run for real")]
        found.reason = said[0].partition(": ")[2] if said else ""
        if not found.reason:
            found.problems.append("ran for real, and the report does not say why")
    found.uncounted = {item.op for item in report_of(trace).not_counted}
    return trace


# ------------------------------------------------------------------------ multiply-adds


def compare_flops(trace: Trace, real: Real, found: Found) -> None:
    """Compare the operators that ``FlopCounterMode`` knows, one by one and with a real run."""
    theirs: Counter[str] = Counter()
    for op in trace.ops:
        packet, cost = packet_or_none(op), op_cost(op)
        if packet not in flop_registry or op.phase is Phase.LOSS:
            continue
        counted = torch_flops(packet, op)
        theirs[str(packet)] += counted
        ours = -1 if cost is None else cost.flops
        found.compared_flops += 1
        if ours != counted:
            rule = rule_of(op, ours, counted)
            if rule is None:
                found.problems.append(f"{op.name}: {ours} FLOPs, by torch {counted}")
            else:
                found.rules.add(rule)
    same = theirs == real.flops
    if "sparse" in found.rules:  # its innermost kernel is recorded, by another name
        same = theirs.total() == real.flops.total()
    if found.name.startswith(NOT_LOOKED_INTO):
        found.rules.add("custom operator")
    elif not same:
        found.problems.append(f"FLOPs {dict(+theirs)}, in a real run {dict(+real.flops)}")


def rule_of(op: OpRecord, ours: int, theirs: int) -> str | None:
    """Name the rule by which our FLOPs differ on purpose, ``None`` where none does."""
    if has_sparse(op):
        return "sparse" if ours < theirs else None
    if ours == real_products(op) * theirs:
        return "complex"
    if ours + lost_to_groups(op, ours) == theirs:
        return "groups"
    return None


def packet_or_none(op: OpRecord) -> Any:
    """Return the torch operator of a record, ``None`` for a higher-order one."""
    return packet_of(op) if op.name.count(".") >= 2 else None


def note_formulas(trace: Trace, found: Found) -> None:
    """Note the operators without a formula that lays down how much they multiply."""
    for op in trace.ops:
        name = op.name.rpartition(".")[0] or op.name
        cost = op_cost(op)
        is_counted = cost is not None and (find_flop_formula(op.name) is not None or cost.flops)
        if not is_counted and not has_sparse(op):
            found.without_formula.add(name)


# ------------------------------------------------------------------------ the table and the page


def read_table() -> dict[str, str]:
    """Return the class of each listed operator."""
    with TABLE.open(newline="", encoding="utf-8") as lines:
        return {row["operator"]: row["class"] for row in csv.DictReader(lines)}


def class_of(name: str, uncounted: set[str], known: dict[str, str]) -> str:
    """Return the class of an operator: as it is known, or as our own tables say it."""
    if name in known:
        return known[name]
    return "?" if any(op.rpartition(".")[0] == name for op in uncounted) else NO_PRODUCTS


def write_table(found: Sequence[Found]) -> dict[str, str]:
    """Write the class of every operator without a formula."""
    known = read_table() if TABLE.exists() else {}
    names = set().union(*(one.without_formula for one in found))
    uncounted = set().union(*(one.uncounted for one in found))
    classes = {name: class_of(name, uncounted, known) for name in sorted(names)}
    with TABLE.open("w", newline="", encoding="utf-8") as target:
        table = csv.writer(target, lineterminator="\n")
        table.writerow(("operator", "class"))
        table.writerows(classes.items())
    return classes


RULES = {
    "complex": "complex numbers: a multiply-add is 4 real ones here, 1 there",
    "groups": "weight gradients of grouped convolutions: counted there as those of one group",
    "sparse": "sparse operands: stored elements here, all there",
    "custom operator": "`linear_cross_entropy` in chunks, `linalg.pinv`: their inside is counted "
    "here, not there",
}


def page(found: Sequence[Found], classes: dict[str, str]) -> str:
    """Return the page of the documentation."""
    ran = [one for one in found if not one.skipped]
    lines = [
        "# Every operator of PyTorch",
        "",
        "PyTorch tests its operators with samples of their arguments: `op_db` in",
        "`torch.testing._internal.common_methods_invocations`. Here each sample is a small model,",
        "which is analyzed and run for real on the CPU. Written by",
        f"`python tests/models/op_samples.py` with torch {torch.__version__.partition('+')[0]} and",
        f"every sample; `make test-models` takes at most {LIMIT} of an operator, spread evenly.",
        "",
        "| what | samples | equal to the real run |",
        "|---|--:|--:|",
    ]
    for training, what in (
        (False, "inference: shapes and dtypes of all outputs"),
        (True, "training: the same, and shapes and dtypes of all gradients"),
    ):
        chosen = [one for one in ran if one.training == training]
        good = sum(not one.problems for one in chosen)
        lines.append(f"| {what} | {len(chosen):,} | {good:,} |")
    counted = [one for one in ran if one.compared_flops]
    plain = sum(not one.rules for one in counted)
    lines.append(f"| multiply-adds of operators that `FlopCounterMode` knows | {len(counted):,} | "
                 f"{plain:,}, the others by a stated rule |")  # fmt: skip
    names = {one.name for one in ran}
    skipped = defaultdict(set)
    for one in found:
        if one.skipped and one.name not in names:
            skipped[one.skipped].add(one.name)
    lines += ["", f"Entries of `op_db` that ran: {len(names)}. Left out:", ""]
    lines += [f"- {_names(who)}: {why}" for why, who in sorted(skipped.items())]
    lines += ["", "## Where multiply-adds differ on purpose", ""]
    rules = Counter(rule for one in ran for rule in one.rules)
    lines += [f"- {RULES[rule]} (samples: {count})" for rule, count in sorted(rules.items())]
    lines += ["", "## What runs for real", "",
              "No simulation can know the outputs of these. Reports say so, with the reason.", "",
              "| operator | samples | reason |", "|---|--:|---|"]  # fmt: skip
    lines += _real_rows(ran)
    lines += ["", "## Operators without a formula", "",
              f"{len(classes)} operators ran that have no formula for products; "
              "`benchmarks/operators.csv` lists each with its class. Most of them multiply no "
              "matrices: they move, compare, reduce or work element by element.", "",
              "| class | operators |", "|---|---|"]  # fmt: skip
    for kind in CLASSES:
        of_kind = [name for name, value in classes.items() if value == kind]
        shown = str(len(of_kind)) if kind == NO_PRODUCTS else _names(of_kind)
        lines.append(f"| {kind} | {shown} |")
    lines += ["", "A report names those of the last two classes under *not counted*.", ""]
    return "\n".join(lines)


def _real_rows(ran: Sequence[Found]) -> list[str]:
    by_name: defaultdict[str, list[Found]] = defaultdict(list)
    for one in ran:
        if one.execution == str(Execution.REAL):
            by_name[one.name].append(one)
    return [
        f"| `{name}` | {len(ones)} of {sum(one.name == name for one in ran)} | "
        f"{shortened(ones[0].reason)} |"
        for name, ones in sorted(by_name.items())
    ]


def shortened(reason: str) -> str:
    """Return a reason without the place in this file and without advice."""
    reason = re.split(r" in \S+\.py:\d+|, but there was no fake impl", reason)[0]
    return reason.replace("|", "\\|")


def _names(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "none"


if __name__ == "__main__":
    everything = [one for entry in operators() for one in check(entry, limit=None)]
    PAGE.write_text(page(everything, write_table(everything)), encoding="utf-8")
    for one in everything:
        for problem in () if one.skipped else one.problems:
            print(f"{one.name} ({'training' if one.training else 'inference'}): {problem}")
    print(f"wrote {TABLE.name} and {PAGE.name}", file=sys.stderr)
