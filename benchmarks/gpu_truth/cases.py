"""What is recorded: data alone. ``zoo.py`` builds the models, ``micro.py`` the kernels.

The order of ``cases()`` is the order of recording, most valuable first: a run that is cut short
leaves the best part. Sizes are chosen so that a case fits into 24 GB where that makes sense and
takes seconds on a data-centre GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model and what it is fed; ``B`` in a size stands for the batch."""

    family: str
    sources: tuple[str, ...]
    """Where to take it from, best first: ``torchvision:resnet50``, ``timm:…``, ``hf:Class``,
    ``diffusers:Class``, ``pyg:Class``, ``own:function``. The last one needs only torch."""
    inputs: dict[str, tuple[str, tuple[Any, ...]]] = field(default_factory=dict)
    """Argument → kind (``float``, ``tokens``, ``labels``, ``classes``) and size."""
    feed: str = "keywords"
    """``keywords``: ``inputs`` by name; ``images``, ``graph``: made by ``zoo.py``."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Arguments of the builder, or of the configuration class of ``hf:``."""
    loss: str = "auto"
    batches: tuple[int, int] = (8, 32)
    vocabulary: int = 1000
    """Tokens and classes are drawn below this number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing to record."""

    id: str
    model: str
    """A key of ``MODELS``, or of ``MICRO`` for a kernel family."""
    kind: str = "model"
    """``model`` or ``micro``."""
    mode: str = "training"
    precision: str = "fp32"
    """One of ``PRECISIONS``."""
    optimizer: str | None = None
    implementation: str | None = None
    """``for-loop``, ``foreach``, ``fused``; ``None`` is torch's own choice on the device."""
    batch: int = 1
    checkpointing: bool = False
    sdpa: str | None = None
    """The only attention backend allowed: ``flash``, ``efficient``, ``math``, ``cudnn``."""


PRECISIONS: dict[str, str] = {
    "fp32": "float32 and torch's own flags: TF32 in convolutions, not in matrix products",
    "fp32-strict": "float32, TF32 nowhere",
    "tf32": "float32, TF32 in convolutions and matrix products",
    "autocast-bf16": "float32 parameters, torch.autocast to bfloat16",
    "autocast-fp16": "float32 parameters, torch.autocast to float16, no gradient scaler",
    "bf16": "parameters, inputs and arithmetic in bfloat16",
}


def _image(
    family: str, *sources: str, side: int = 224, batches: tuple[int, int] = (8, 32), **settings: Any
) -> ModelSpec:
    return ModelSpec(
        family=family, sources=sources, inputs={"x": ("float", ("B", 3, side, side))},
        settings=settings, loss="cross_entropy", batches=batches,
    )  # fmt: skip


def _causal(
    family: str, *sources: str, length: int = 512, batches: tuple[int, int] = (2, 8),
    vocabulary: int = 32000, **settings: Any,
) -> ModelSpec:  # fmt: skip
    size = ("B", length)
    return ModelSpec(
        family=family, sources=sources,
        inputs={"input_ids": ("tokens", size), "labels": ("labels", size)},
        settings={"vocab_size": vocabulary, **settings}, batches=batches, vocabulary=vocabulary,
    )  # fmt: skip


_BLOCKS = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 12,
           "num_attention_heads": 16}  # fmt: skip
_GROUPED = {**_BLOCKS, "num_key_value_heads": 4}
_EXPERTS = {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8,
            "num_key_value_heads": 4}  # fmt: skip
_WITHOUT_WEIGHTS = {"weights": None, "weights_backbone": None}

MODELS: dict[str, ModelSpec] = {
    # --- convolutional networks
    "resnet18": _image("cnn", "torchvision:resnet18", "own:resnet"),
    "resnet50": _image("cnn", "torchvision:resnet50", "own:resnet"),
    "resnet101": _image("cnn", "torchvision:resnet101", "own:resnet"),
    "vgg16": _image("cnn", "torchvision:vgg16", "own:vgg"),
    "densenet121": _image("cnn", "torchvision:densenet121", "own:resnet"),
    "mobilenet_v3_large": _image("cnn", "torchvision:mobilenet_v3_large", "own:depthwise"),
    "efficientnet_b0": _image("cnn", "torchvision:efficientnet_b0", "own:depthwise"),
    "convnext_tiny": _image("cnn", "torchvision:convnext_tiny", "own:depthwise"),
    "regnet_y_400mf": _image("cnn", "torchvision:regnet_y_400mf", "own:resnet"),
    "resnetv2_50": _image("cnn", "timm:resnetv2_50", "own:resnet"),
    "r3d_18": ModelSpec(
        family="video", sources=("torchvision:r3d_18", "own:video"),
        inputs={"x": ("float", ("B", 3, 16, 112, 112))}, loss="cross_entropy", batches=(2, 8),
    ),
    # --- vision transformers
    "vit_b_16": _image("vit", "torchvision:vit_b_16", "own:vit"),
    "swin_t": _image("vit", "torchvision:swin_t", "own:vit"),
    "deit_small": _image("vit", "timm:deit_small_patch16_224", "own:vit"),
    "beit_base": _image("vit", "timm:beit_base_patch16_224", "own:vit"),
    "mixer_b_16": _image("vit", "timm:mixer_b16_224", "own:vit"),
    # --- detection and segmentation
    "fasterrcnn": ModelSpec(
        family="detection", sources=("torchvision:fasterrcnn_resnet50_fpn", "own:detector"),
        feed="images", settings=_WITHOUT_WEIGHTS, batches=(1, 2), vocabulary=20,
    ),
    "retinanet": ModelSpec(
        family="detection", sources=("torchvision:retinanet_resnet50_fpn", "own:detector"),
        feed="images", settings=_WITHOUT_WEIGHTS, batches=(1, 2), vocabulary=20,
    ),
    "own-detector": _image("detection", "own:detector", side=256),
    "deeplabv3_resnet50": _image(
        "segmentation", "torchvision:deeplabv3_resnet50", "own:unet", side=256, batches=(4, 8),
        **_WITHOUT_WEIGHTS,
    ),
    "fcn_resnet50": _image(
        "segmentation", "torchvision:fcn_resnet50", "own:unet", side=256, batches=(4, 8),
        **_WITHOUT_WEIGHTS,
    ),
    "own-unet": _image("segmentation", "own:unet", side=256, batches=(4, 8)),
    # --- language models, dense
    "gpt2": _causal("language", "hf:GPT2LMHeadModel", "own:gpt", vocabulary=50257),
    "llama": _causal("language", "hf:LlamaForCausalLM", "own:gpt", **_GROUPED),
    "qwen3": _causal("language", "hf:Qwen3ForCausalLM", "own:gpt", head_dim=64, **_GROUPED),
    "mistral": _causal("language", "hf:MistralForCausalLM", "own:gpt", **_GROUPED),
    "bert": _causal("language", "hf:BertForMaskedLM", "own:gpt", vocabulary=30522),
    "t5": ModelSpec(
        family="language", sources=("hf:T5ForConditionalGeneration", "own:gpt"),
        inputs={"input_ids": ("tokens", ("B", 256)), "decoder_input_ids": ("tokens", ("B", 256)),
                "labels": ("labels", ("B", 256))},
        settings={"decoder_start_token_id": 0, "vocab_size": 32128}, batches=(2, 8),
        vocabulary=32000,
    ),
    "opt": _causal("language", "hf:OPTForCausalLM", "own:gpt", vocabulary=50272),
    "own-gpt": _causal("language", "own:gpt"),
    # --- language models, mixtures of experts
    "mixtral": _causal(
        "moe", "hf:MixtralForCausalLM", "own:moe", num_local_experts=8, intermediate_size=1024,
        **_EXPERTS,
    ),
    "qwen3-moe": _causal(
        "moe", "hf:Qwen3MoeForCausalLM", "own:moe", num_experts=16, num_experts_per_tok=4,
        moe_intermediate_size=512, intermediate_size=1024, **_EXPERTS,
    ),
    "own-moe": _causal("moe", "own:moe"),
    # --- diffusion
    "unet-condition": ModelSpec(
        family="diffusion", sources=("diffusers:UNet2DConditionModel", "own:diffusion_unet"),
        inputs={"sample": ("float", ("B", 4, 64, 64)), "timestep": ("tokens", ("B",)),
                "encoder_hidden_states": ("float", ("B", 77, 768))},
        settings={"sample_size": 64, "cross_attention_dim": 768}, batches=(1, 4), loss="mse",
    ),
    "own-diffusion-unet": ModelSpec(
        family="diffusion", sources=("own:diffusion_unet",),
        inputs={"sample": ("float", ("B", 4, 64, 64)), "timestep": ("tokens", ("B",)),
                "encoder_hidden_states": ("float", ("B", 77, 768))},
        batches=(1, 4), loss="mse",
    ),
    # --- recurrent networks
    "lstm": _causal("rnn", "own:lstm", length=256, batches=(8, 64)),
    "gru": _causal("rnn", "own:gru", length=256, batches=(8, 64)),
    # --- graphs, audio
    "gcn": ModelSpec(family="graph", sources=("pyg:GCN", "own:gcn"), feed="graph"),
    "gat": ModelSpec(family="graph", sources=("pyg:GAT", "own:gcn"), feed="graph"),
    "whisper": ModelSpec(
        family="audio", sources=("hf:WhisperForConditionalGeneration", "own:gpt_audio"),
        inputs={"input_features": ("float", ("B", 80, 3000)),
                "decoder_input_ids": ("tokens", ("B", 128)), "labels": ("labels", ("B", 128))},
        batches=(2, 8), vocabulary=50000,
    ),
}  # fmt: skip

# What is added to the four cases of every model, on these models: one per kind of network.
VARIED = ("resnet50", "vit_b_16", "gpt2", "llama", "own-moe", "own-unet", "convnext_tiny", "bert",
          "own-diffusion-unet", "lstm")  # fmt: skip
WITH_ATTENTION = ("vit_b_16", "gpt2", "llama", "bert", "own-gpt", "own-diffusion-unet")

FIRST: tuple[dict[str, Any], ...] = (
    {"mode": "training", "optimizer": "adamw"},
    {"mode": "inference"},
    {"mode": "training", "optimizer": "sgd", "precision": "autocast-bf16", "larger": True},
    {"mode": "training", "optimizer": "adamw", "precision": "bf16"},
)
"""For every model, in this order; the micro set comes after the second."""

VARIANTS: tuple[dict[str, Any], ...] = (
    {"mode": "training", "optimizer": "adamw", "implementation": "fused"},
    {"mode": "training", "optimizer": "adamw", "implementation": "for-loop"},
    {"mode": "training", "optimizer": "adamw", "implementation": "foreach", "larger": True},
    {"mode": "training", "optimizer": "adamw", "checkpointing": True, "larger": True},
    {"mode": "training", "optimizer": "adamw", "precision": "tf32"},
    {"mode": "training", "optimizer": "adamw", "precision": "autocast-fp16"},
    {"mode": "training", "optimizer": "sgd", "implementation": "for-loop"},
    {"mode": "training", "optimizer": "sgd", "implementation": "fused"},
    {"mode": "training", "optimizer": "sgd", "implementation": "foreach"},
    {"mode": "training", "optimizer": "sgd", "precision": "fp32-strict", "larger": True},
    {"mode": "inference", "precision": "bf16", "larger": True},
    {"mode": "inference", "precision": "autocast-fp16"},
    {"mode": "inference", "precision": "tf32", "larger": True},
)
BACKENDS = ("flash", "efficient", "math", "cudnn")

# --------------------------------------------------------------------- kernel families
# Family → the axes of its grid. Every combination is one point; axes named in lower case are
# arguments of the family's function in ``micro.py``.

MICRO: dict[str, dict[str, tuple[Any, ...]]] = {
    "conv2d": {
        "shape": ((8, 64, 56, 64), (8, 128, 28, 256), (32, 3, 224, 64), (8, 512, 7, 512),
                  (1, 256, 64, 256), (16, 96, 112, 96)),
        "kernel": (1, 3, 7), "stride": (1, 2), "groups": (1, 0),
    },
    "conv_transpose2d": {"shape": ((4, 64, 32, 32), (4, 256, 16, 128)), "kernel": (2, 4)},
    "conv1d": {"shape": ((8, 80, 3000, 384), (8, 512, 1500, 512)), "kernel": (1, 3, 9)},
    "conv3d": {"shape": ((2, 3, 16, 112, 64), (2, 64, 8, 56, 64))},
    "matmul": {
        "m": (1, 64, 512, 4096), "n": (1000, 1024, 4096, 32000), "k": (512, 1024, 4096),
    },
    "linear": {"rows": (8, 1024, 8192), "width": (768, 1024, 4096), "out": (1000, 3072)},
    "bmm": {"batch": (8, 64, 384), "side": (128, 512), "inner": (64, 128)},
    "attention": {
        "backend": ("flash", "efficient", "cudnn", "math"),
        "heads": ((8, 12, 12), (2, 16, 4)), "length": (128, 512, 2048, 8192),
        "head_dim": (64, 128), "causal": (False, True),
    },
    "layer_norm": {"rows": (512, 4096, 32768), "width": (768, 1024, 4096)},
    "rms_norm": {"rows": (512, 4096, 32768), "width": (768, 1024, 4096)},
    "batch_norm": {"shape": ((8, 64, 56), (32, 256, 56), (32, 2048, 7))},
    "group_norm": {"shape": ((4, 320, 64), (4, 1280, 8))},
    "embedding": {"vocabulary": (1000, 32000, 128256), "width": (768, 4096), "tokens": (512, 8192)},
    "cross_entropy": {"rows": (32, 1024, 8192), "classes": (1000, 32000, 128256)},
    "mse": {"rows": (32, 8192), "classes": (1000, 4096)},
    "softmax": {"rows": (1024, 32768), "width": (128, 2048, 32000)},
    "gelu": {"rows": (1024, 32768), "width": (768, 4096)},
    "dropout": {"rows": (1024, 32768), "width": (768, 4096)},
    "lstm": {"batch": (8, 64), "length": (32, 256), "width": (256, 1024), "layers": (1, 2)},
    "gru": {"batch": (8, 64), "length": (32, 256), "width": (256, 1024), "layers": (1, 2)},
    "max_pool2d": {"shape": ((8, 64, 112), (32, 64, 112))},
    "interpolate": {"shape": ((4, 256, 32), (4, 21, 64))},
    "index": {"rows": (1024, 65536), "width": (64, 1024)},
    "sort": {"rows": (64, 4096), "width": (1000, 32000)},
}  # fmt: skip
MICRO_PRECISIONS = ("fp32", "bf16", "tf32", "fp16")
TF32_MATTERS = ("conv2d", "conv1d", "conv3d", "conv_transpose2d", "matmul", "linear", "bmm")


def cases() -> tuple[Case, ...]:
    """Return every case, most valuable first, each id once."""
    found: dict[str, Case] = {}
    for case in _in_order():
        found.setdefault(case.id, case)
    return tuple(found.values())


def _in_order() -> Iterator[Case]:
    for number, settings in enumerate(FIRST):
        for name in MODELS:
            yield _model_case(name, **settings)
        if number == 1:
            yield from _micro_cases()
    for name in WITH_ATTENTION:
        for backend in BACKENDS:
            yield _model_case(
                name, mode="training", optimizer="adamw", precision="autocast-bf16", sdpa=backend
            )
    for settings in VARIANTS:
        for name in VARIED:
            yield _model_case(name, **settings)


def _micro_cases() -> Iterator[Case]:
    for precision in MICRO_PRECISIONS:
        for family in MICRO:
            if precision == "tf32" and family not in TF32_MATTERS:
                continue
            for backend in MICRO[family].get("backend", (None,)):  # one at a time: many points
                parts = ("micro", family, backend, precision)
                yield Case(
                    id="-".join(part for part in parts if part),
                    model=family,
                    kind="micro",
                    precision=precision,
                    sdpa=backend,
                )


def _model_case(name: str, *, larger: bool = False, **settings: Any) -> Case:
    case = Case(id="", model=name, batch=MODELS[name].batches[larger], **settings)
    parts = (
        name, case.mode, case.precision, case.optimizer, case.implementation,
        f"b{case.batch}", "checkpointing" if case.checkpointing else None,
        f"sdpa-{case.sdpa}" if case.sdpa else None,
    )  # fmt: skip
    return Case(
        id="-".join(part for part in parts if part), model=name, batch=case.batch, **settings
    )


# ------------------------------------------------------------------------ the dry run

DRY_MODELS: dict[str, ModelSpec] = {
    "dry-cnn": _image("cnn", "own:resnet", side=32, batches=(2, 4), width=8, depth=1),
    "dry-gpt": _causal("language", "own:gpt", length=16, vocabulary=64, hidden_size=32,
                       num_hidden_layers=2, num_attention_heads=4),
    "dry-lstm": _causal("rnn", "own:lstm", length=8, vocabulary=64, hidden_size=16),
    "dry-fatal": _image("cnn", "own:fatal", side=8),
    "dry-absent": _image("cnn", "timm:no_such_model_was_ever_written"),
}  # fmt: skip
DRY_MICRO: dict[str, dict[str, tuple[Any, ...]]] = {
    "matmul": {"m": (4, 8), "n": (16,), "k": (8,)},
    "attention": {"backend": ("flash", "cudnn"), "heads": ((2, 4, 4),), "length": (16,),
                  "head_dim": (8,), "causal": (False,)},
}  # fmt: skip
DRY_CASES: tuple[Case, ...] = (
    Case(id="dry-cnn-training", model="dry-cnn", optimizer="sgd", batch=2),
    Case(id="dry-cnn-inference", model="dry-cnn", mode="inference", batch=2),
    Case(id="dry-gpt-training", model="dry-gpt", optimizer="adamw", batch=2),
    Case(id="dry-gpt-checkpointing", model="dry-gpt", optimizer="adamw", implementation="foreach",
         precision="autocast-bf16", batch=2, checkpointing=True),
    Case(id="dry-lstm-bf16", model="dry-lstm", optimizer="adamw", precision="bf16", batch=2),
    Case(id="dry-absent", model="dry-absent", mode="inference"),
    Case(id="dry-fatal", model="dry-fatal", mode="inference"),
    Case(id="dry-micro-matmul", model="matmul", kind="micro"),
    Case(id="dry-micro-attention", model="attention", kind="micro"),
)  # fmt: skip
"""Small ones for ``--device cpu`` on the same code path, a missing and a fatal model among them."""
