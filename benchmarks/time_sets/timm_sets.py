"""timm's own benchmark of its models on an RTX 3090 and an RTX 4090 (results of timm).

What was run, with the evidence:

- *Program*: timm's ``benchmark.py --amp``: ``torch.autocast`` to float16, NCHW, eager;
  ``torch.backends.cudnn.benchmark`` on; random images on the device; the mean of 40 steps, each
  synchronised. ``infer_step_time`` is batch ÷ samples per second × 1000.
- *Training*: SGD with Nesterov momentum 0.9 (``create_optimizer_v2``'s ``sgd``), cross entropy, no
  gradient scaler, PyTorch 1.12: one kernel per parameter and operation (foreach became the default
  in 2.0), attention as products and a softmax (timm took fused attention up with 0.9).
- *Inference*: normalisation in half precision (``--fast-norm``). It is not written down, but the
  four hybrids with group normalisation would be predicted 1.5 to 2 times too slow without it, while
  convolution networks and plain transformers agree either way. Attention that no fused kernel takes
  multiplies in half precision, as before PyTorch 2.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from torch import nn

from benchmarks.time_sets.cases import NotPredicted, TimeCase, image, rows
from torchgauge.facts.scenario import Scenario
from torchgauge.models.torchvision_operators import define_missing_operators

INFERENCE = {
    "RTX 3090": "throughput_timm_infer_amp_rtx3090.csv",
    "RTX 4090": "throughput_timm_infer_amp_rtx4090.csv",
}
TRAINING = {"RTX 3090": "throughput_timm_train_amp_rtx3090.csv"}
RELEASE = "2.4"


def inference(gpu: str, data: Path) -> Iterator[TimeCase | NotPredicted]:
    """Yield the inference rows of a GPU."""
    for row in rows(data / INFERENCE[gpu]):
        side, batch = int(row["infer_img_size"]), int(row["infer_batch_size"])
        yield TimeCase(
            id=f"{row['model']} {side}",
            set=f"timm inference {gpu}",
            family=family(row["model"]),
            build=partial(timm_model, row["model"], fused_attention=True, fast_norm=True),
            inputs=image(batch, side),
            scenario=Scenario(precision="fp16-autocast", torch_release=RELEASE),
            gpu=gpu,
            measured_ms=batch / float(row["infer_samples_per_sec"]) * 1e3,
            math_attention_in_half=True,
        )


def training(gpu: str, data: Path) -> Iterator[TimeCase | NotPredicted]:
    """Yield the training rows of a GPU."""
    define_missing_operators()
    import timm

    for row in rows(data / TRAINING[gpu]):
        side, batch = int(row["train_img_size"]), int(row["train_batch_size"])
        if not timm.is_model(row["model"]):
            yield NotPredicted(
                id=row["model"], set=f"timm training {gpu}",
                why="the installed timm does not have it",
            )  # fmt: skip
            continue
        yield TimeCase(
            id=f"{row['model']} {side} training",
            set=f"timm training {gpu}",
            family=family(row["model"]),
            build=partial(timm_model, row["model"], fused_attention=False, fast_norm=False),
            inputs=image(batch, side),
            scenario=Scenario(
                mode="training",
                precision="fp16-autocast",
                optimizer="sgd-momentum",
                optimizer_options={"nesterov": True},
                optimizer_implementation="for-loop",
                loss="cross_entropy",
                torch_release=RELEASE,
            ),
            gpu=gpu,
            measured_ms=batch / float(row["train_samples_per_sec"]) * 1e3,
            math_attention_in_half=True,
        )


def family(name: str) -> str:
    """Return what models of one architecture begin with.

    >>> family("resnet50d"), family("tf_efficientnet_b1"), family("vit_base_patch16_224")
    ('resnet', 'efficientnet', 'vit')
    """
    for prefix in ("tf_", "gluon_", "ssl_", "swsl_", "legacy_", "ig_", "jx_", "cs3", "eca_"):
        name = name.removeprefix(prefix)
    found = re.match(r"[a-z]+", name)
    return found.group() if found else name


def timm_model(name: str, *, fused_attention: bool, fast_norm: bool) -> nn.Module:
    """Return a model of timm with the switches of the benchmark."""
    define_missing_operators()
    import timm
    from timm.layers import set_fused_attn

    set_fused_attn(fused_attention)
    try:
        model: nn.Module = timm.create_model(name)
    finally:
        set_fused_attn(True)
    for module in model.modules() if fast_norm else ():
        if hasattr(module, "_fast_norm"):  # what set_fast_norm does, but in constructors
            module._fast_norm = True  # type: ignore[assignment]
    return model
