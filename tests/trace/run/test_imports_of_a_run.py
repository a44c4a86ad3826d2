"""What a first run in a process imports: the compiler takes longer than to trace a small model."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys, torch, torchgauge as tg
from torch import nn

class Counted(nn.Sequential):
    runs = 0

    def forward(self, x):
        Counted.runs += 1
        return super().forward(x)

model = {model}
tg.analyze(model, input_size=(2, 3, 16, 16), mode={mode!r})
print(Counted.runs, "torch._dynamo" in sys.modules)
"""
CNN = (
    "Counted(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),"
    " nn.Flatten(), nn.Linear(8, 5))"
)
ENCODER = (
    "Counted(nn.Flatten(2), nn.Linear(256, 16), nn.LayerNorm(16),"
    " nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), nn.Softmax(-1))"
)


@pytest.mark.parametrize("model", [CNN, ENCODER], ids=["cnn", "encoder"])
@pytest.mark.parametrize(("mode", "imports"), [("inference", False), ("training", True)])
def test_a_first_run_runs_the_model_once(model: str, mode: str, imports: bool) -> None:
    """PyTorch's optimizers import the compiler when they are made; that comes before the run."""
    program = PROGRAM.format(model=model, mode=mode)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["1", str(imports)], done.stderr
