"""On a GPU other kernels run, and the arithmetic stays: counts against those of the CPU scenario.

Forward MACs are equal to the last one, every operator is counted, and where no fused kernel hides
element-wise work (networks of convolutions) that is equal too.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import torchgauge as tg

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.cpu_cases import CASES, dtypes_of

pytestmark = pytest.mark.models

CONVOLUTIONS = (
    "resnet18", "resnet50", "densenet121", "shufflenet_v2_x1_0", "r3d_18",
    "autoencoder",
)  # fmt: skip
OTHERS = (
    "alexnet", "vgg11_bn", "mobilenet_v2", "efficientnet_b0",  # dropout is one kernel on a GPU
    "vit", "swin_t", "timm levit", "bert", "gpt2", "llama", "mixtral", "t5", "diffusion unet",
    "words", "encoder", "transformer", "rnn", "gru", "lstm", "projected lstm",
)  # fmt: skip
PRECISIONS = ("fp32", "fp16-autocast", "bf16")


def analysed(name: str, device: str, precision: str) -> tg.Report:
    build, size = CASES[name]
    scenario = tg.Scenario(
        mode="training", optimizer="adamw", device=device, precision=precision,
        gradient_clipping=True, ema=True,
    )  # fmt: skip
    return tg.analyze(build(), size, dtypes=dtypes_of(size), scenario=scenario)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.filterwarnings("ignore:.*:FutureWarning")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", CONVOLUTIONS + OTHERS)
def test_the_arithmetic_is_that_of_the_cpu(name: str, precision: str) -> None:
    cpu = analysed(name, "cpu", precision)
    gpu = analysed(name, "A100-SXM-80GB", precision)
    assert gpu.not_counted == cpu.not_counted == ()
    assert gpu.totals.forward_macs == cpu.totals.forward_macs > 0
    if name in CONVOLUTIONS:
        assert gpu.totals.elementwise_flops == cpu.totals.elementwise_flops
        assert gpu.totals.backward_flops == cpu.totals.backward_flops
