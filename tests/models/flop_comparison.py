"""FLOPs of each operator of a model, by our formulas and by those of ``FlopCounterMode``.

``python tests/models/flop_comparison.py`` writes the table of disagreements again, with ``?``
where no known mechanism explains one. Who is right and why stands in
``flop_counter_mechanisms.csv``, by mechanism.
"""

from __future__ import annotations

import csv
import sys
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from flop_zoo import ZOO, Entry
from torch.utils.flop_counter import flop_registry
from tracing import trace

from torchgauge.estimate.compute.flops import op_cost
from torchgauge.facts.trace import OpRecord, Phase, TensorSpec, Trace

TABLE = Path(__file__).with_name("flop_counter_differences.csv")
COLUMNS = ("model", "phase", "op", "torch", "ours", "mechanism")
aten = torch.ops.aten
FLASH_OF_THE_CPU = {
    aten._scaled_dot_product_flash_attention_for_cpu: aten._scaled_dot_product_flash_attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        aten._scaled_dot_product_flash_attention_backward
    ),
}
"""Operators without a formula in torch, and those with the same tensors that have one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One operator in one phase: sums over all its calls."""

    ours: int = 0
    torch: int | None = 0
    """``None`` where torch has no formula."""
    one_group: int = 0
    """Ours, if weight gradients of convolutions were those of one group."""
    sibling: int | None = 0
    """By torch's formula for a sibling operator, ``None`` where there is none."""
    calls: int = 0


def compare(name: str) -> dict[tuple[str, str], Comparison]:
    """Return the comparison of every matmul-like operator by phase and packet.

    Phases: ``inference``, and ``forward`` and ``backward`` of a training step.
    """
    entry = ZOO[name]
    model = entry.meta_model()
    found = compare_trace(run(entry, model, "inference"))
    inference = {("inference", op): value for (_, op), value in found.items()}
    return inference | compare_trace(run(entry, model, "training"))


def run(entry: Entry, model: torch.nn.Module, mode: str) -> Trace:
    """Trace a model of the zoo."""
    loss = entry.loss if mode == "training" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return trace(model, entry.sizes, data=entry.data, dtypes=entry.dtypes, loss=loss, mode=mode)


def compare_trace(recorded: Trace) -> dict[tuple[str, str], Comparison]:
    """Sum both counts over the operators that at least one of them gives FLOPs."""
    sums: defaultdict[tuple[str, str], Comparison] = defaultdict(Comparison)
    for op in recorded.ops:
        cost = op_cost(op)
        assert cost is not None, op.name
        packet = packet_of(op)
        theirs = torch_flops(packet, op) if packet in flop_registry else None
        if not cost.flops and not theirs:
            continue
        phase = "backward" if op.phase is Phase.BACKWARD else "forward"
        before = sums[phase, str(packet)]
        sibling = sibling_flops(packet, op)
        sums[phase, str(packet)] = Comparison(
            ours=before.ours + cost.flops,
            torch=None if theirs is None else before.torch + theirs,
            one_group=before.one_group + cost.flops + lost_to_groups(op, cost.flops),
            sibling=None if sibling is None else before.sibling + sibling,
            calls=before.calls + 1,
        )
    return dict(sums)


def packet_of(op: OpRecord) -> Any:
    """Return the torch operator of a record, all overloads together."""
    namespace, name, *_ = op.name.split(".")
    return getattr(getattr(torch.ops, namespace), name)


def torch_flops(packet: Any, op: OpRecord) -> int:
    """Apply torch's formula to the recorded shapes."""
    outputs: Any = [as_tensor(spec) for spec in op.outputs]
    if "convolution_backward" in op.name:  # gradients that were not asked for are None
        made = iter(outputs)
        outputs = [next(made) if wanted else None for wanted in op.args[10]]
    elif len(outputs) == 1:
        outputs = outputs[0]
    arguments = [as_tensor(argument) for argument in op.args]
    keywords = {key: as_tensor(value) for key, value in op.kwargs}
    return flop_registry[packet](*arguments, **keywords, out_val=outputs)


def sibling_flops(packet: Any, op: OpRecord) -> int | None:
    """Apply torch's formula for the nearest operator that has one, ``None`` where none is near."""
    if packet in FLASH_OF_THE_CPU:
        return torch_flops(FLASH_OF_THE_CPU[packet], op)
    if str(packet) == "aten._grouped_mm":  # tokens sorted by expert: every token meets one matrix
        left, right = (as_tensor(argument) for argument in op.args[:2])
        matrix = right if right.dim() == 2 else right[0]
        return flop_registry[aten.mm](left, matrix, out_val=None)
    if packet is aten._addmm_activation:  # of an encoder layer's fused fast path
        return torch_flops(aten.addmm, op)
    if packet is aten.mkldnn_rnn_layer:
        return step_flops(*op.args[:3])
    if packet is aten.mkldnn_rnn_layer_backward:  # gradients of the data and of the weights
        return 2 * step_flops(*op.args[:3])
    return None


def step_flops(source: TensorSpec, to_input: TensorSpec, to_hidden: TensorSpec) -> int:
    """Apply torch's formula to the two products that each token of an LSTM layer takes."""
    tokens = source.shape[0] * source.shape[1]
    products = ((tokens, *weight.shape[::-1]) for weight in (to_input, to_hidden))
    return sum(
        flop_registry[aten.mm]((rows, inner), (inner, columns), out_val=None)
        for rows, inner, columns in products
    )


def as_tensor(value: Any) -> Any:
    """Return a recorded argument with meta tensors for the tensors."""
    if isinstance(value, TensorSpec):
        return torch.empty(value.shape, device="meta")
    return [as_tensor(item) for item in value] if isinstance(value, tuple) else value


def lost_to_groups(op: OpRecord, flops: int) -> int:
    """Return what a grouped convolution's weight gradient costs more, if taken for one group."""
    if not op.name.startswith("aten.convolution_backward") or not op.args[10][1]:
        return 0
    return (op.args[9] - 1) * flops // sum(op.args[10][:2])


def mechanism(found: Comparison) -> str:
    """Name what explains a disagreement, ``?`` when nothing known does."""
    if found.torch is None:
        return "sibling" if found.sibling == found.ours else "missing"
    return "groups" if found.torch == found.one_group else "?"


def disagreements(name: str) -> list[dict[str, str]]:
    """Return the rows of a model."""
    return [
        {
            "model": name, "phase": phase, "op": op, "torch": str(found.torch or 0),
            "ours": str(found.ours), "mechanism": mechanism(found),
        }
        for (phase, op), found in compare(name).items()
        if found.torch != found.ours
    ]  # fmt: skip


if __name__ == "__main__":
    with TABLE.open("w", newline="", encoding="utf-8") as target:
        table = csv.DictWriter(target, COLUMNS, lineterminator="\n")
        table.writeheader()
        for model_name in ZOO:
            table.writerows(disagreements(model_name))
    print(f"wrote {TABLE.name}", file=sys.stderr)
