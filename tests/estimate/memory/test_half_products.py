"""What oneDNN takes for products in half precision on the CPU: as measured, and for real."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import torchgauge as tg
from real_memory import needs_amx, real_peak
from real_step import memory_profile
from torchgauge.estimate.memory.workspaces.onednn.products import scratch_bytes
from torchgauge.estimate.memory.workspaces.onednn.strips import Product
from torchgauge.trace.record.kernel_memory import one_thread
from torchgauge.trace.torch_internals.profiler import memory_changes

MEASURED = [
    # dtype, batch, rows, depth, columns, left transposed, right transposed, bytes
    ("bfloat16", 1, 384, 1024, 512, False, True, 121984),
    ("bfloat16", 1, 64, 100, 10, False, False, 12288),
    ("bfloat16", 1, 64, 64, 10, False, True, 7168),
    ("bfloat16", 4, 7, 100, 100, True, False, 27264),
    ("bfloat16", 1, 16, 16, 64, False, False, 9216),
    ("bfloat16", 1, 16, 16, 1024, False, False, 71680),
    ("bfloat16", 4, 64, 32, 1024, False, False, 70656),
    ("bfloat16", 1, 7, 100, 192, False, False, 56320),
    ("bfloat16", 1, 128, 768, 64, True, False, 300160),
    ("bfloat16", 1, 64, 31, 32, False, False, 8192),
    ("bfloat16", 4, 64, 32, 1024, False, True, 7168),
    ("bfloat16", 4, 16, 64, 10, False, True, 6144),
    ("bfloat16", 1, 128, 64, 192, False, False, 29696),
    ("bfloat16", 1, 64, 16, 10, False, False, 7168),
    ("float16", 1, 128, 768, 64, False, True, 435328),
    ("float16", 1, 64, 16, 10, True, False, 11904),
    ("float16", 4, 128, 16, 100, False, True, 46208),
    ("float16", 1, 64, 768, 64, False, True, 283776),
    ("float16", 1, 64, 31, 64, False, True, 33920),
    ("float16", 1, 384, 100, 100, True, False, 164992),
]
"""By the profiler's memory events on a Xeon of 2023 (AMX, AVX-512 FP16), PyTorch 2.13."""


def _product(row: tuple[str, int, int, int, int, bool, bool, int]) -> Product:
    _, batch, rows, depth, columns, left, right, _ = row
    return Product(
        batch=batch, rows=rows, depth=depth, columns=columns,
        is_left_transposed=left, is_right_transposed=right,
    )  # fmt: skip


@pytest.mark.parametrize("row", MEASURED, ids=str)
def test_scratch_is_what_was_measured(
    row: tuple[str, int, int, int, int, bool, bool, int],
) -> None:
    assert scratch_bytes(_product(row), row[0]) == row[-1]


@needs_amx
def test_scratch_is_what_this_machine_takes() -> None:
    """A grid of sizes, aligned and not, in all orders of both operands."""
    with one_thread():
        for dtype in (torch.bfloat16, torch.float16):
            for rows, depth, columns in (
                (24, 48, 96), (50, 76, 48), (96, 320, 40), (128, 200, 640), (333, 64, 130),
                (512, 1280, 160),
            ):  # fmt: skip
                for left in (False, True):
                    for right in (False, True):
                        product = Product(
                            batch=1, rows=rows, depth=depth, columns=columns,
                            is_left_transposed=left, is_right_transposed=right,
                        )  # fmt: skip
                        name = str(dtype).removeprefix("torch.")
                        expected = scratch_bytes(product, name)
                        assert expected == _measured(product, dtype), (name, product)


def _measured(product: Product, dtype: torch.dtype) -> int:
    left = torch.randn(product.rows, product.depth, dtype=dtype)
    right = torch.randn(product.depth, product.columns, dtype=dtype)
    if product.is_left_transposed:
        left = left.t().contiguous().t()
    if product.is_right_transposed:
        right = right.t().contiguous().t()
    held = [left @ right]  # a block that is freed would look like scratch
    with memory_profile() as profiler:
        held.append(left @ right)
    return max([-size for _, size in memory_changes(profiler.profiler) if size < 0], default=0)


class Perceptron(nn.Module):
    """Two layers with an activation between."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(*sizes[:2]), nn.Linear(*sizes[1:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(nn.functional.gelu(self.up(x)))  # type: ignore[no-any-return]


class InRegion(nn.Module):
    """A model in a region of autocast."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y: torch.Tensor = self.inner(x)
        return y.float()


class Heads(nn.Module):
    """Attention as it is written by hand, or by PyTorch's kernel."""

    def __init__(self, *, by_hand: bool) -> None:
        super().__init__()
        self.project, self.by_hand = nn.Linear(64, 192), by_hand

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.project(x).unflatten(-1, (3, 4, 16)).permute(2, 0, 3, 1, 4)
        if self.by_hand:
            return (query @ key.transpose(-1, -2)).softmax(-1) @ value  # type: ignore[no-any-return]
        return nn.functional.scaled_dot_product_attention(query, key, value)


MODELS: dict[str, tuple[Callable[[], nn.Module], torch.Tensor]] = {
    "wide": (lambda: Perceptron(64, 256, 10), torch.randn(100, 64)),
    "odd": (lambda: Perceptron(50, 76, 48), torch.randn(9, 50)),
    "one row": (lambda: Perceptron(64, 256, 10), torch.randn(1, 64)),
    "attention by hand": (lambda: Heads(by_hand=True), torch.randn(2, 96, 64)),
    "attention": (lambda: Heads(by_hand=False), torch.randn(2, 300, 64)),
    "encoder": (
        lambda: nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, dropout=0.0),
        torch.randn(4, 40, 64),
    ),
}


@needs_amx
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("kind", MODELS)
def test_the_peak_is_that_of_a_real_run(kind: str, dtype: torch.dtype, training: bool) -> None:
    make, x = MODELS[kind]
    model, x = make().to(dtype), x.to(dtype)
    scenario = tg.Scenario(mode="training", optimizer="sgd") if training else tg.Scenario()
    report = tg.analyze(model, input_data=(x,), scenario=scenario)
    assert report.memory is not None
    assert report.memory.peak_allocated_bytes == real_peak(model, x, training=training)


@needs_amx
@pytest.mark.parametrize("kind", ["wide", "odd", "attention by hand", "encoder"])
def test_the_peak_in_a_region_of_autocast(kind: str) -> None:
    make, x = MODELS[kind]
    model = InRegion(make())
    scenario = tg.Scenario(mode="training", optimizer="sgd")
    report = tg.analyze(model, input_data=(x,), scenario=scenario)
    assert report.memory is not None
    assert report.memory.peak_allocated_bytes == real_peak(model, x, training=True)
