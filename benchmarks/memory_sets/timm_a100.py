"""GPUMemNet's measurements of timm models on an A100 of 40 GB (itu-rad/GPUMemNet).

What was run, with the evidence:

- *Sizes*: 1,000 classes, float32, images of each model's default size. The authors' fake-tensor
  figure (forward, sum, backward; without parameters, the input counted twice) is reproduced by a
  trace with these sizes: VGG-16 at batch 8 to 0.01 MiB. ("Last Numeric Value" is that peak in
  MiB; "GB after Backward" is the same number in GiB, times 1,000.)
- *A size that changed*: timm gave ``mobilenetv3_large_150d`` weights for 256 pixels later. The
  authors' figure is 0.77 of a trace's with them, which is (224 ÷ 256)². For the others that were
  looked at it is 0.96–1.1 of a trace's, or more by the parameters.
- *Loop*: "we used TIMM library models; we added some lines of code" (``Related_works/README.md``),
  which is timm's ``train.py``: it sets ``torch.backends.cudnn.benchmark``, keeps the next batch on
  the GPU (``PrefetchLoader``) and trains by SGD with Nesterov momentum 0.9 and weight decay 2e-5
  unless told otherwise.
- *Optimizer*: where parameters are most of the memory, the figure is four times the parameters
  plus 1,930–2,040 MiB (``vit_large_patch32_224``, ``_384``, ``vit_base_patch32_384``,
  ``_plus_256`` at batch 8): parameter, gradient, momentum, and the gradients that weight decay
  makes anew in the foreach implementation. Adam would be five times.
- *cuDNN's benchmark* shows in the figures: VGG-16 at batch 128 takes 24.8 GiB for 9.3 GiB of
  tensors, and ``resnet50c`` takes more at batch 16 than at 32.
- *Measured*: the most that the device showed over the run, context included. The context of that
  software is one number, from the rows at hand: 1,700 MiB for all models (the README of the data:
  the device shows 1,803 MiB more than the tensors of small models). Contexts of that size, with
  all kernels loaded at the start, were measured for PyTorch 1.10 (1.78 GiB on 80 GB cards).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.memory_sets.cases import MIB, Measured, MemoryCase, TensorSpec, image, rows
from benchmarks.memory_sets.vision import timm_model, timm_side
from torchgauge.facts.scenario import Scenario

FILE = "gpu_memory_timm_a100.csv"
CONTEXT_MIB = 1_700
GPU_BYTES = 42_474_471_424
"""What the driver of an A100 of 40 GB reports."""
LARGEST_TENSORS_MIB, LARGEST_MEASURED_MIB = 33 * 1024, 39_000
"""Rows above died, or were about to: the README of the data says how that was found."""
OLD_SIDES = {"mobilenetv3_large_150d": 224}
"""Of images, where timm's default has changed since."""


def cases(data: Path) -> Iterator[MemoryCase]:
    """Yield the rows that did not run out of memory, in the file's order."""
    for row in rows(data / FILE):
        model, _, batch = row["Filename"].removesuffix(".out").rpartition("_")
        measured, tensors = float(row["Max GPU Memory (MiB)"]), float(row["Last Numeric Value"])
        if tensors > LARGEST_TENSORS_MIB or measured > LARGEST_MEASURED_MIB:
            continue
        yield MemoryCase(
            id=f"{model} b{batch}",
            set="timm",
            family=model.split("_")[0].rstrip("0123456789"),
            build=partial(timm_model, model),
            inputs=_inputs(model, int(batch)),
            scenario=Scenario(
                mode="training",
                optimizer="sgd-momentum",
                optimizer_options={"nesterov": True, "weight_decay": 2e-5},
                loss="cross_entropy",
            ),
            gpu="A100 SXM4 40GB",
            measured=Measured.DEVICE,
            measured_bytes=int(measured * MIB),
            published={"fake tensor": int(tensors * MIB)},
            # Parameters are not among these tensors: a live run takes at least as much.
            implausible=measured < tensors + CONTEXT_MIB,
            cudnn_benchmark=True,
            prefetched_inputs=1,
            context_bytes=CONTEXT_MIB * MIB,
            gpu_bytes=GPU_BYTES,
        )


def _inputs(model: str, batch: int) -> tuple[TensorSpec, ...]:
    return image(batch, OLD_SIDES.get(model) or timm_side(model))
