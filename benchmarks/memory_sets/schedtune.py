"""SchedTune's measurements: 12 torchvision classifiers on a K80, a T4 and an RTX 3090.

Known from the file: 1,000 classes (ResNet-18: 44.59 MiB of parameters), 224 × 224 images in
float32 (4.59 MiB at batch 8), memory as the device shows it. The repository of the authors
(hadeelalbahar/SchedTune, CCGrid 2022) has no training script, so optimizer, torch release and cuDNN
settings are inferred; see ``ASSUMED``. With ``cudnn.benchmark`` VGG at batch 16 would come out 16 %
to 21 % too low on a T4, so it was off. The workspaces are those of PyTorch 1: VGG-16 at batch 32 on
a T4 takes 7,912 MiB, which is what non-fused Winograd kernels give, and 6,220 MiB without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.memory_sets.cases import MIB, Measured, MemoryCase, image, rows
from benchmarks.memory_sets.vision import torchvision_model
from torchgauge.facts.scenario import Scenario

FILE, KEPLER_FILE = "gpu_memory_schedtune_t4_3090.csv", "gpu_memory_schedtune_k80.csv"
GPUS = {"13": "Tesla K80", "40": "Tesla T4", "82": "GeForce RTX 3090"}
"""Number of streaming multiprocessors → GPU."""

CONTEXTS_MIB = {"Tesla K80": 436, "Tesla T4": 1_050, "GeForce RTX 3090": 1_360}
"""The CUDA context of that software, one number for each GPU, from the rows at hand. It grows
with the multiprocessors as contexts do that load all kernels at the start; PyTorch 2.6 loads them
when they are needed."""

ASSUMED: dict[str, Any] = {
    "optimizer": "sgd-momentum",
    "optimizer_options": {"weight_decay": 1e-4},
    "optimizer_implementation": "for-loop",
    "loss": "cross_entropy",
}
"""SGD with momentum and weight decay, a parameter at a time, as PyTorch's ImageNet example had it
in 2021. With it, what is left of the figures after the allocator's segments is about the same for
small and large models, as a context should be; plain SGD leaves VGG 700 MiB more than ResNet."""


def cases(data: Path) -> Iterator[MemoryCase]:
    """Yield the rows of both files in their order, the second where it is there."""
    kepler = data / KEPLER_FILE
    for row in rows(data / FILE) + (rows(kepler) if kepler.is_file() else []):
        batch, gpu = int(row["batchsize"]), GPUS[row["SM count"]]
        yield MemoryCase(
            id=f"{row['model']} b{batch} {gpu}",
            set="schedtune",
            family=row["model"].rstrip("0123456789"),
            build=partial(torchvision_model, row["model"]),
            inputs=image(batch, 224),
            scenario=Scenario(mode="training", **ASSUMED),
            gpu=gpu,
            measured=Measured.DEVICE,
            has_early_cudnn=True,
            measured_bytes=int(float(row["peak mem usage"]) * MIB),
            context_bytes=CONTEXTS_MIB[gpu] * MIB,
        )
