"""timm's own benchmark of its models on three GPUs (results of timm).

What was run, with the evidence:

- *Program*: timm's ``benchmark.py --amp``: ``torch.autocast`` to float16, NCHW, eager;
  ``torch.backends.cudnn.benchmark`` on; random images on the device; the mean of 40 steps, each
  synchronised. ``infer_step_time`` is batch ÷ samples per second × 1000.
- *Training*: SGD with Nesterov momentum 0.9 (``create_optimizer_v2``'s ``sgd``), cross entropy,
  timm 0.6.6 with PyTorch 1.12: one kernel per parameter and operation (foreach became the default
  in 2.0), attention as products and a softmax (timm took fused attention up with 0.9). There was
  no gradient scaler, and gradients were set to zero and added to. The traced step has a scaler
  and new gradients instead, which take about as long: a fit to the step as it was is no better.
- *Inference*: normalisation in half precision (``--fast-norm``). It is not written down, but the
  four hybrids with group normalisation would be predicted 1.5 to 2 times too slow without it, while
  convolution networks and plain transformers agree either way. Attention that no fused kernel takes
  multiplies in half precision, as before PyTorch 2.5.
- *Later files*: the same under PyTorch 2.9, with ``--channels-last`` or ``--torchcompile``. Those
  of 2.9 were measured reparameterised, where a model can be: ``param_count`` says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import nn

from benchmarks.time_sets.cases import NotPredicted, TimeCase, image, rows
from torchgauge.facts.scenario import Scenario
from torchgauge.models.torchvision_operators import define_missing_operators


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a file of inference rows was measured."""

    file: str
    gpu: str
    release: str = "2.4"
    channels_last: bool = False
    compiled: bool = False


_REPARAMETERIZED = (
    "byobnet", "efficientvim", "efficientvit_msra", "fastvit", "ghostnet", "iformer", "lcnetv2",
    "levit", "nextvit", "repghost", "repvit", "shvit", "tiny_vit",
)  # fmt: skip
"""Modules of timm with models whose branches become one convolution for inference."""
_FILE = "throughput_timm_infer_amp_"
INFERENCE = {
    "timm inference RTX 3090": Run(file=f"{_FILE}rtx3090.csv", gpu="RTX 3090"),
    "timm inference RTX 4090": Run(file=f"{_FILE}rtx4090.csv", gpu="RTX 4090"),
    "timm inference RTX 4090, torch 2.9": Run(
        file=f"{_FILE}rtx4090_pt29.csv", gpu="RTX 4090", release="2.9"),
    "timm inference RTX PRO 6000 Max-Q": Run(
        file=f"{_FILE}rtxpro6000_maxq.csv", gpu="RTX PRO 6000 Blackwell Max-Q", release="2.9"),
    "timm inference RTX 3090, channels last": Run(
        file=f"{_FILE}rtx3090_channels_last.csv", gpu="RTX 3090", channels_last=True),
    "timm inference RTX 4090, compiled": Run(
        file=f"{_FILE}rtx4090_compiled_pt24.csv", gpu="RTX 4090", compiled=True),
    "timm inference RTX 4090, compiled, torch 2.9": Run(
        file=f"{_FILE}rtx4090_compiled_pt29.csv", gpu="RTX 4090", release="2.9", compiled=True),
}  # fmt: skip
TRAINING = {"RTX 3090": "throughput_timm_train_amp_rtx3090.csv"}


def inference(name: str, data: Path) -> Iterator[TimeCase | NotPredicted]:
    """Yield the rows of a file of inference."""
    define_missing_operators()
    import timm

    run = INFERENCE[name]
    for row in rows(data / run.file):
        side, batch = int(row["infer_img_size"]), int(row["infer_batch_size"])
        bare = row["model"].partition(".")[0]
        if not timm.is_model(bare):
            why = "the installed timm does not have it"
            yield NotPredicted(id=row["model"], set=name, why=why)
            continue
        is_merged = run.release == "2.9" and timm.models.is_model_in_modules(bare, _REPARAMETERIZED)
        form = {"reparameterized": True} if is_merged else {}
        yield TimeCase(
            id=f"{row['model']} {side}",
            set=name,
            family=family(row["model"]),
            build=partial(timm_model, row["model"], fused_attention=True, fast_norm=True, **form),
            inputs=image(batch, side),
            scenario=Scenario(
                precision="fp16-autocast",
                channels_last=run.channels_last,
                torch_release=run.release,
            ),
            gpu=run.gpu,
            measured_ms=batch / float(row["infer_samples_per_sec"]) * 1e3,
            compiled=run.compiled,
            math_attention_in_half=run.release == "2.4",
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
                torch_release="2.4",
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


def timm_model(
    name: str, *, fused_attention: bool, fast_norm: bool, reparameterized: bool = False
) -> nn.Module:
    """Return a model of timm with the switches of the benchmark."""
    define_missing_operators()
    import timm
    from timm.layers import set_fused_attn
    from timm.utils import reparameterize_model

    set_fused_attn(fused_attention)
    try:
        model: nn.Module = timm.create_model(name)
    finally:
        set_fused_attn(True)
    for module in model.modules() if fast_norm else ():
        if hasattr(module, "_fast_norm"):  # what set_fast_norm does, but in constructors
            module._fast_norm = True  # type: ignore[assignment]
    return reparameterize_model(model.eval()) if reparameterized else model
