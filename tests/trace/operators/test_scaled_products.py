"""FP8 products with scales: scratch memory on the CPU, and GPUs that have none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchgauge as tg
from real_memory import needs_amx, real_peak
from torchgauge.errors import ModelError

_FP8 = torch.float8_e4m3fn


class Scaled(nn.Module):
    """A product of FP8 matrices ``[rows, depth] × [depth, columns]``."""

    def __init__(self, depth: int, columns: int, *, in_rows: bool = False, per_row: bool = False,
                 dtype: torch.dtype = torch.bfloat16) -> None:  # fmt: skip
        super().__init__()
        weight = torch.randn(depth, columns) if in_rows else torch.randn(columns, depth)
        self.register_buffer("weight", weight.to(_FP8))
        self.in_rows, self.per_row, self.dtype = in_rows, per_row, dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight if self.in_rows else self.weight.t()
        rows, columns = (x.shape[0], 1), (1, weight.shape[1])
        scales = [torch.ones(size if self.per_row else ()) for size in (rows, columns)]
        return torch._scaled_mm(x, weight, scales[0], scales[1], out_dtype=self.dtype)


MODELS = {
    "small": Scaled(64, 48),
    "large": Scaled(256, 512),
    "float32": Scaled(96, 80, dtype=torch.float32),
    "in rows": Scaled(64, 48, in_rows=True),
    "a scale per row": Scaled(96, 80, per_row=True),
    "a scale per row, deep": Scaled(512, 32, per_row=True),
}


@needs_amx
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("rows", [4, 100])
def test_the_peak_is_that_of_a_real_run(kind: str, rows: int) -> None:
    model, x = MODELS[kind], torch.randn(rows, MODELS[kind].weight.numel()).to(_FP8)
    depth = model.weight.shape[0 if model.in_rows else 1]
    x = x[:, :depth].contiguous()
    report = tg.analyze(model, input_data=(x,))
    assert report.memory is not None
    assert report.memory.peak_allocated_bytes == real_peak(model, x)


def test_gpus_without_fp8_refuse_it() -> None:
    x = torch.randn(32, 64).to(_FP8)
    for device in ("A100-SXM-40GB", "RTX 3060 12GB", "T4"):
        with pytest.raises(ModelError, match=r"compute capability >= 9\.0 or 8\.9"):
            tg.analyze(MODELS["small"], input_data=(x,), scenario=tg.Scenario(device=device))
    for device in ("H100-SXM", "RTX 4090"):
        report = tg.analyze(MODELS["small"], input_data=(x,), scenario=tg.Scenario(device=device))
        assert report.totals.forward_macs == 32 * 64 * 48
