"""Lambda's measurements of training on many GPUs (lambdal/deeplearning-benchmark).

What was run: NVIDIA's DeepLearningExamples in NVIDIA's containers, whole training steps on one GPU.

- *ResNet-50*: ``ConvNets/main.py``, NCHW, SGD with momentum; fp16 is autocast.
- *BERT*: ``LanguageModeling/BERT/run_squad.py``, sequences of 384, dropout, attention written out;
  fp16 is apex's O2: weights and activations in half precision, Adam fused.
- *FP32* is TF32 in convolutions and products where the GPU has it: the containers allow both.

Rows of the eras v1 and v2 are taken (PyTorch 1.13 to 2.8); before them other kernels ran.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.time_sets.cases import Loss, NotPredicted, TensorSpec, TimeCase, image, rows
from torchgauge.devices import find_device
from torchgauge.errors import DeviceError
from torchgauge.facts.scenario import Scenario
from torchgauge.models.torchvision_operators import define_missing_operators

FILE = "throughput_lambda_training.csv"
_LENGTH = 384
_BERT = {
    "bert_base_squad": {},
    "bert_large_squad": {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
}  # fmt: skip
_PRECISIONS = {"tf32_default": "tf32", "fp32": "fp32", "fp16": "fp16", "amp_fp16": "fp16-autocast"}


def cases(data: Path) -> Iterator[TimeCase | NotPredicted]:
    """Yield the rows of one GPU whose model is built here."""
    for row in rows(data / FILE):
        model, precision = row["model"], row["precision"]
        if row["n_gpus"] != "1" or row["era"] == "v0" or row["flags"]:
            continue
        if model != "resnet50" and model not in _BERT:
            continue
        id = f"{model} {row['gpu']} {precision} b{row['batch_per_gpu']}"
        try:
            device = find_device(row["gpu"])
        except DeviceError:
            yield NotPredicted(id=id, set="lambda", why=f"{row['gpu']} is not in the catalogue")
            continue
        yield _case(id, model, device.name, precision, int(row["batch_per_gpu"]), row)


def _case(
    id: str, model: str, gpu: str, precision: str, batch: int, row: dict[str, str]
) -> TimeCase:
    is_image = model == "resnet50"
    half = precision == "fp16"
    return TimeCase(
        id=id,
        set="lambda",
        family=model,
        build=partial(resnet50) if is_image else partial(bert, model),
        inputs=image(batch, 224)
        if is_image
        else (TensorSpec(name="input_ids", shape=(batch, _LENGTH), dtype="int64", fill=1),),
        scenario=Scenario(
            mode="training",
            precision=_PRECISIONS[precision],
            optimizer="sgd-momentum" if is_image else "adam",
            optimizer_implementation="fused" if half else "for-loop",
            loss="cross_entropy" if is_image else None,
            torch_release="2.1" if row["era"] == "v1" else "2.4",
        ),
        gpu=gpu,
        measured_ms=batch / float(row["throughput"]) * 1e3,
        loss=None if is_image else partial(span_loss, batch),
        math_attention_in_half=True,
    )


def resnet50() -> nn.Module:
    """Return torchvision's ResNet-50, which has the same layers."""
    define_missing_operators()
    import torchvision

    model: nn.Module = torchvision.models.resnet50()
    return model


def bert(name: str) -> nn.Module:
    """Return a BERT that answers questions, attention written out."""
    define_missing_operators()
    import transformers

    transformers.logging.set_verbosity_error()
    config = transformers.BertConfig(**_BERT[name])
    config._attn_implementation = "eager"
    model: nn.Module = transformers.BertForQuestionAnswering(config)
    return model


def span_loss(batch: int) -> Loss:
    """Return the cross entropy of where an answer begins and ends."""
    places = torch.empty(batch, dtype=torch.int64, device="meta")

    def loss(output: Any) -> torch.Tensor:
        begin = F.cross_entropy(output.start_logits, places)
        return (begin + F.cross_entropy(output.end_logits, places)) / 2

    return loss
