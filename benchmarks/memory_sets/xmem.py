"""xMem's measurements: CNNs and small language models on an RTX 3060, an RTX 4060 and an A100.

Read in the authors' code (Stone-ResearchLife/xMem, arXiv 2510.21048): ``perf_estimator/models.py``
and ``dataset.py``, ``exp/run.py``, ``exp/trainer/trainer.py`` and ``train_loop.py``.

- *Images*: CIFAR-10 resized to 86 × 86, float32, cross-entropy. 1,000 classes, except the three
  nets that they construct with 10 (``CNNS``).
- *Language models*: ``from_config``, float32, ``model.train()``; WikiText-2 lines cut at 128
  tokens, padded to the longest of the batch, so 128 as soon as one line is that long; labels given,
  so the model returns loss, logits and key-value cache.
- *Step*: learning rate 1e-3 and torch's defaults otherwise; four steps; the loop's variables keep
  batch, outputs and loss of the step before.
- *zero_grad* mode 0: before the batch is copied; 1: before the backward; 2: after the step. A blank
  is read as 0, which the ANOVA runs use: with it GPT-Neo and OPT come out within 40 MiB of the
  figure, with 1 they are 268 and 384 MiB too high. GPT-2 at batch 27 speaks for 1.
- *Measured*: what NVML says is used, every millisecond, minus the first sample, which is taken
  when the program starts to watch: the model is still on the CPU, and
  ``set_per_process_memory_fraction`` has run. The context seems to exist by then: five figures
  are within 80 MiB of what the allocator reserves. torch 2.6.0, CUDA 12.4, cuDNN 9.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.memory_sets.cases import Measured, MemoryCase, TensorSpec, image, rows, tokens
from benchmarks.memory_sets.language_models import language_model
from benchmarks.memory_sets.vision import torchvision_model
from torchgauge.facts.scenario import Scenario, ZeroGrad

FILE = "gpu_memory_xmem.csv"
SIDE, LENGTH, TORCH = 86, 128, "2.6"

CNNS: dict[str, tuple[str, dict[str, Any]]] = {
    "VGG11": ("vgg11", {}),
    "VGG16": ("vgg16", {}),
    "VGG19": ("vgg19", {}),
    "ResNet50": ("resnet50", {}),
    "ResNet101": ("resnet101", {}),
    "ResNet152": ("resnet152", {}),
    "MobileNetV2": ("mobilenet_v2", {}),
    "MobeNetV3Small": ("mobilenet_v3_small", {"num_classes": 10}),
    "MobeNetV3Large": ("mobilenet_v3_large", {"num_classes": 10}),
    "MnasNet": ("mnasnet1_0", {"num_classes": 10}),
    "ConvNeXtTiny": ("convnext_tiny", {}),
    "ConvNeXtBase": ("convnext_base", {}),
    "RegNetX400MF": ("regnet_x_400mf", {}),
    "RegNetX32GF": ("regnet_x_32gf", {}),
    "RegNetY400MF": ("regnet_y_400mf", {}),
    "RegNetY32GF": ("regnet_y_32gf", {}),
}
"""Their name (misspelt as they have it) → torchvision's, and settings."""

OPTIMIZERS = {"SGD": "sgd", "Adam": "adam", "AdamW": "adamw", "RMSprop": "rmsprop",
              "Adagrad": "adagrad", "Adafactor": "adafactor"}  # fmt: skip
GPUS = {"NVIDIA A100-SXM4-40GB": "A100 SXM4 40GB", "NVIDIA GeForce RTX 3060": "RTX 3060 12GB",
        "NVIDIA GeForce RTX 4060": "RTX 4060"}  # fmt: skip
ZERO_GRAD = {"": ZeroGrad.BEFORE_FORWARD, "0": ZeroGrad.BEFORE_FORWARD,
             "1": ZeroGrad.BEFORE_BACKWARD, "2": ZeroGrad.BEFORE_FORWARD}  # fmt: skip
TOOLS = {"xMem": "xmem_bytes", "DNNMem": "dnnmem_bytes", "SchedTune": "schedtune_bytes",
         "LLMem": "llmem_bytes"}  # fmt: skip


def cases(data: Path) -> Iterator[MemoryCase]:
    """Yield the file's rows in its order."""
    for row in rows(data / FILE):
        batch = int(row["batch"])
        build, inputs = _model(row["model"], batch)
        yield MemoryCase(
            id=f"{row['model']} {row['optimizer']} b{batch} {GPUS[row['gpu']]}",
            set="xmem",
            family="cnn" if row["model"] in CNNS else "transformer",
            build=build,
            inputs=inputs,
            scenario=Scenario(
                mode="training",
                optimizer=OPTIMIZERS[row["optimizer"]],
                loss="cross_entropy" if row["model"] in CNNS else "auto",
                zero_grad=ZERO_GRAD[row["zero_grad_mode"]],
                torch_release=TORCH,
            ),
            gpu=GPUS[row["gpu"]],
            gpu_bytes=int(row["total_gpu_memory_bytes"]),
            measured=Measured.DEVICE_GROWTH,
            measured_bytes=int(row["ground_peak_bytes"]),
            published={tool: int(row[column]) for tool, column in TOOLS.items() if row[column]},
            out_of_memory=row["real_oom"] == "True",
            holds_last_step=True,
        )


def _model(name: str, batch: int) -> tuple[partial[nn.Module], tuple[TensorSpec, ...]]:
    if name in CNNS:
        torchvision_name, settings = CNNS[name]
        return partial(torchvision_model, torchvision_name, **settings), image(batch, SIDE)
    return partial(language_model, name), tokens(batch, LENGTH)
