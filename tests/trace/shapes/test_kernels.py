"""Kernels that reuse a block, or whose shapes PyTorch does not know without data: as for real."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import torchgauge as tg
from asked import run_model
from real_step import predicted_peak, real_peak
from torchgauge.facts.trace import Phase
from torchgauge.trace.shapes.kernels import CPU_RULES, KERNEL_RULES

aten = torch.ops.aten
TRAINING = tg.Scenario(mode="training", optimizer="none")


def blocks(value: Any) -> list[tuple[tuple[int, ...], tuple[int, ...], torch.dtype, int]]:
    """Return shape, strides, dtype and bytes of the block of each tensor."""
    tensors = [value] if isinstance(value, torch.Tensor) else value
    return [(tuple(t.shape), t.stride(), t.dtype, t.untyped_storage().nbytes()) for t in tensors]


def without_data(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to("meta")
    return [without_data(item) for item in value] if isinstance(value, list) else value


def bags(mode: int, scaled: bool, padding: int, last: bool, dtype: torch.dtype) -> tuple[Any, ...]:
    offsets = torch.tensor([0, 3, 5, 7] if last else [0, 3, 5])
    scale = torch.rand(7, dtype=dtype) if scaled else None
    weight = torch.rand(10, 5, dtype=dtype)
    return (weight, torch.arange(7), offsets, False, mode, False, scale, last, padding)


@pytest.mark.parametrize("operator", [aten._embedding_bag, aten._embedding_bag_forward_only])
def test_embedding_bags(operator: Any) -> None:
    rule = CPU_RULES[f"{operator}.default"]
    for mode, scaled, padding, last, dtype in product(
        (0, 1, 2), (False, True), (-1, 2), (False, True), (torch.float32, torch.float64)
    ):
        if scaled and mode != 0:
            continue
        args = bags(mode, scaled, padding, last, dtype)
        made = rule(tuple(map(without_data, args)), {})
        assert blocks(made) == blocks(operator(*args)), (mode, scaled, padding, last, dtype)


X = torch.rand(2, 3, 6, 6, 6)
COUNTS = torch.rand(5, 2)
EDGES = [torch.linspace(0, 1, 4), torch.linspace(0, 1, 6)]
CASES: list[tuple[str, tuple[Any, ...]]] = [
    ("aten.col2im.default", (torch.rand(2, 12, 16), [5, 5], [2, 2], [1, 1], [0, 0], [1, 1])),
    ("aten.col2im.default", (torch.rand(2, 4, 4), [4, 4], [2, 2], [1, 1], [0, 0], [2, 2])),
    ("aten.im2col.default", (torch.rand(2, 3, 5, 5), [2, 2], [1, 1], [0, 0], [3, 3])),
    ("aten.im2col.default", (torch.rand(2, 3, 5, 5), [3, 3], [1, 1], [1, 1], [1, 1])),
    ("aten.mish_backward.default", (torch.rand(3, 4), torch.rand(3, 4))),
    ("aten.geqrf.default", (torch.rand(2, 5, 3),)),
    ("aten.geqrf.default", (torch.rand(3, 5, dtype=torch.complex64),)),
    ("aten.fractional_max_pool3d.default", (X, [2, 2, 2], [3, 3, 3], torch.rand(2, 3, 3))),
    ("aten.multilabel_margin_loss_forward.default", (torch.rand(3, 4), torch.tensor(
        [[0, -1, 0, 0], [1, 2, -1, 0], [3, -1, 0, 0]]), 0)),
    ("aten.multilabel_margin_loss_forward.default", (torch.rand(4), torch.tensor([0, -1, 1, 2]),
                                                     1)),
    ("aten.histogram.bin_ct", (torch.rand(9), 7)),
    ("aten.histogram.bins_tensor", (torch.rand(9), EDGES[0])),
    ("aten._histogramdd_bin_edges.default", (COUNTS, [3, 5])),
    ("aten._histogramdd_from_bin_cts.default", (COUNTS, [3, 5])),
    ("aten._histogramdd_from_bin_tensors.default", (COUNTS, EDGES)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args"), CASES, ids=[name for name, _ in CASES])
def test_outputs_are_those_of_the_kernel(name: str, args: tuple[Any, ...]) -> None:
    _, base, overload = name.split(".")
    operator = getattr(getattr(aten, base), overload)
    made = KERNEL_RULES[name](tuple(map(without_data, args)), {})
    assert blocks(made) == blocks(operator(*args))


# ------------------------------------------------------------------------ whole steps


class Call(nn.Module):
    """A function of a weight and the inputs."""

    def __init__(self, function: Callable[..., Any], *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(shape))
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(self.weight, *inputs)


ROWS = torch.tensor([1, 3, 4])
TARGETS = torch.tensor([0, 2, 1, 3, 3, 1, 0, 2])


def put(weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return (weight * 2).put(rows, torch.ones(3))


def index_put(weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return (weight * 2).index_put((rows,), torch.ones(3, 64))


def accumulated(weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return (weight * 2).index_put((rows,), torch.ones(3, 64), accumulate=True)


def picked(weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return (weight * 2)[rows]


def one_hot(weight: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return functional.one_hot(index, 64).float() * weight.sum()


def one_hot_of_unknown_width(weight: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return functional.one_hot(index).float() * weight.sum()


def folded(weight: torch.Tensor) -> torch.Tensor:
    return functional.unfold(weight.view(1, 2, 16, 16), 3)


def split(weight: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    return torch.cat([part * 2 for part in torch.tensor_split(weight, places)])


STEPS: dict[str, tuple[Callable[..., Any], tuple[int, ...], tuple[torch.Tensor, ...]]] = {
    "index_put that accumulates": (accumulated, (8, 64), (ROWS,)),
    "indexing": (picked, (8, 64), (ROWS,)),
    "mish": (functional.mish, (8, 64), ()),
    "one_hot": (one_hot, (4, 4), (TARGETS,)),
    "one_hot of unknown width": (one_hot_of_unknown_width, (4, 4), (TARGETS,)),
    "unfold": (folded, (512,), ()),
    "tensor_split": (split, (8, 64), (torch.tensor([2, 5]),)),
    "tensor_split in parts": (split, (8, 64), (torch.tensor(3),)),
}


@pytest.mark.parametrize("name", STEPS)
def test_the_peak_of_a_step(name: str) -> None:
    function, shape, inputs = STEPS[name]
    report = tg.analyze(Call(function, *shape), input_data=inputs, scenario=TRAINING)
    assert report.execution == "simulated"
    assert predicted_peak(report) == real_peak(Call(function, *shape), *inputs, training=True)


@pytest.mark.parametrize(("function", "name"), [(put, "put"), (index_put, "index_put")])
def test_the_gradient_of_an_overwriting_operator_is_a_copy(
    function: Callable[..., Any], name: str
) -> None:
    """``derivatives.yaml``: ``accumulate ? grad : grad.put(index, zeros_like(source), false)``."""
    run = run_model(Call(function, 8, 64), input_data=(ROWS,), scenario=TRAINING)
    backward = [op for op in run.outcome.trace.ops if op.phase is Phase.BACKWARD]
    (copied,) = (op for op in backward if op.name == f"aten.{name}.default")
    made = {storage.index for storage in run.outcome.trace.storages if storage.op == copied.index}
    assert made == set(copied.writes)


def test_the_peak_of_an_embedding_bag() -> None:
    def model() -> nn.Module:
        return nn.EmbeddingBag(50, 8, mode="sum")

    inputs = (torch.arange(40), torch.tensor([0, 10, 25]))
    report = tg.analyze(model(), input_data=inputs)
    assert predicted_peak(report) == real_peak(model(), *inputs)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 3, 0)])
@pytest.mark.parametrize("device", ["cpu", "T4"])
def test_batch_norm_of_nothing(shape: tuple[int, ...], device: str) -> None:
    def normalized(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        channels = x.shape[1] if x.dim() > 1 else 0
        stats = torch.zeros(channels), torch.ones(channels)
        return functional.batch_norm(x, *stats) * weight

    model = Call(normalized, 1)
    report = tg.analyze(model, input_data=torch.empty(shape), scenario=tg.Scenario(device=device))
    assert report.outputs[0].tensor is not None
    assert report.outputs[0].tensor.shape == shape


@pytest.mark.parametrize("strides", [(2, 0, 1), (0, 0, 0), (1, 1, 1), (25, 5, 1)])
def test_tensors_whose_elements_share_memory(strides: tuple[int, ...]) -> None:
    def made(weight: torch.Tensor) -> torch.Tensor:
        return torch.empty_strided((5, 5, 5), strides) * weight

    report = tg.analyze(Call(made, 1), input_data=())
    assert report.outputs[0].tensor is not None
    assert report.outputs[0].tensor.shape == (5, 5, 5)


# ------------------------------------------------------------------------ a custom operator


has_linear_cross_entropy = pytest.mark.skipif(
    not hasattr(functional, "linear_cross_entropy"), reason="new in torch 2.13"
)


@has_linear_cross_entropy
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_linear_cross_entropy_in_chunks(reduction: str) -> None:
    """The operator's kernel is written in operators: they are counted, and its scratch memory."""

    from torch.nn import LinearCrossEntropyOptions

    options = LinearCrossEntropyOptions(batch_chunk_size=4, chunking_method="auto")

    def loss(weight: torch.Tensor, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = functional.linear_cross_entropy(
            x, weight, target, reduction=reduction, options=options
        )
        return found

    inputs = (torch.rand(8, 16), TARGETS)
    report = tg.analyze(Call(loss, 4, 16), input_data=inputs, scenario=TRAINING)
    assert report.not_counted == ()
    # Logits, and the gradient of the weight. Without a reduction the logits are computed twice.
    # The loss is two dot products over all rows.
    products = 3 if reduction == "none" else 2
    assert report.totals.total_flops == products * 2 * 8 * 16 * 4 + 2 * 2 * 8
    assert predicted_peak(report) == real_peak(Call(loss, 4, 16), *inputs, training=True)
