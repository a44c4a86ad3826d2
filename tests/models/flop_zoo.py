"""Models of every kind, small where their library lets them be, with an input for each.

Importing this file imports no model library: a builder does, when it is called.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import torchgauge as tg
from torchgauge.models.torchvision_operators import define_missing_operators

os.environ["HF_HUB_OFFLINE"] = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """How to build a model and what to run it on: sizes, or a function that makes the inputs."""

    build: Callable[[], nn.Module]
    sizes: Any = None
    data: Callable[[], Any] | None = None
    dtypes: tuple[str, ...] | None = None
    loss: Callable[[Any], torch.Tensor] | None = None
    keywords: dict[str, Any] = field(default_factory=dict)

    def meta_model(self) -> nn.Module:
        """Build the model on meta, for real where its constructor needs that."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with tg.meta_construction():
                    return self.build()
            except NotImplementedError:
                return self.build()


def library(name: str) -> Any:
    """Import a model library, or skip the test."""
    define_missing_operators()
    if name.startswith("transformers"):
        pytest.importorskip("transformers", exc_type=ImportError).logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, exc_type=ImportError)


# ------------------------------------------------------------------------ torch.nn alone


class Residual(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x)


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int, **settings: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True, **settings)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x)[0]


class LanguageModel(nn.Module):
    """An embedding, a recurrent network and a head that shares the embedding's weights."""

    def __init__(self, kind: type[nn.RNNBase], **settings: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 32)
        self.rnn = kind(32, 32, num_layers=2, batch_first=True, **settings)
        width = 64 if settings.get("bidirectional") else 32
        self.head = nn.Linear(width, 100)
        if width == 32:
            self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(self.embed(tokens))[0])


class Unrolled(nn.Module):
    """One LSTM cell called once per token."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(16, 24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return state[0]


class Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 8), nn.Linear(12, 6)
        self.mix = nn.Bilinear(8, 6, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mix(self.first(x), self.second(x))


class Einsum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 16, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("btd,hde,bse->bhts", x, self.weight, x[..., :8])


class Unet3d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.down = nn.Conv3d(1, 8, 3, padding=1), nn.Conv3d(8, 16, 3, 2, 1)
        self.up, self.leave = nn.ConvTranspose3d(16, 8, 2, 2), nn.Conv3d(16, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = F.relu(self.enter(x))
        return self.leave(torch.cat([skip, self.up(F.relu(self.down(skip)))], 1))


class EncoderDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.core = nn.Transformer(32, 4, 2, 2, 64, dropout=0.0, batch_first=True)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.core(source, target)


def encoder(**settings: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, **settings)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def perceptron() -> nn.Module:
    layers = [nn.Linear(20, 32), nn.LayerNorm(32), nn.GELU(), nn.Dropout(0.1), nn.Linear(32, 5)]
    return nn.Sequential(*layers)


def half_frozen() -> nn.Module:
    model = perceptron()
    model[0].requires_grad_(False)
    return model


def small_cnn() -> nn.Module:
    block = Residual(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(), block, block, nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip


def depthwise() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 16, 1), nn.SiLU(),
        nn.Conv2d(16, 32, 3, groups=4, dilation=2),
    )  # fmt: skip


def autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 4, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 1, 4, 2, 1),
    )  # fmt: skip


def causal_convolutions() -> nn.Module:
    layers = [Residual(nn.ConstantPad1d((2 * d, 0), 0.0), nn.Conv1d(8, 8, 3, dilation=d))
              for d in (1, 2, 4)]  # fmt: skip
    return nn.Sequential(*layers)


def bag_of_words() -> nn.Module:
    return nn.Sequential(nn.EmbeddingBag(50, 16), nn.Linear(16, 4))


PLAIN = {
    "perceptron": Entry(build=perceptron, sizes=(4, 20)),
    "half-frozen": Entry(build=half_frozen, sizes=(4, 20)),
    "small-cnn": Entry(build=small_cnn, sizes=(2, 3, 32, 32)),
    "depthwise-cnn": Entry(build=depthwise, sizes=(2, 8, 16, 16)),
    "autoencoder": Entry(build=autoencoder, sizes=(2, 1, 28, 28)),
    "causal-convolutions": Entry(build=causal_convolutions, sizes=(2, 8, 20)),
    "unet-3d": Entry(build=Unet3d, sizes=(1, 1, 8, 8, 8)),
    "multihead": Entry(build=lambda: SelfAttention(32, 4), sizes=(2, 10, 32)),
    "multihead-dropout": Entry(build=lambda: SelfAttention(32, 4, dropout=0.1), sizes=(2, 10, 32)),
    "encoder": Entry(build=lambda: encoder(dropout=0.0), sizes=(2, 10, 32)),
    "encoder-dropout": Entry(build=lambda: encoder(dropout=0.1), sizes=(2, 10, 32)),
    "encoder-decoder": Entry(build=EncoderDecoder, sizes=[(2, 10, 32), (2, 7, 32)]),
    "lstm": Entry(build=lambda: LanguageModel(nn.LSTM), sizes=(2, 10), dtypes=("int64",)),
    "gru": Entry(build=lambda: LanguageModel(nn.GRU), sizes=(2, 10), dtypes=("int64",)),
    "rnn": Entry(
        build=lambda: LanguageModel(nn.RNN, bidirectional=True), sizes=(2, 10), dtypes=("int64",)
    ),
    "lstm-cell": Entry(build=Unrolled, sizes=(2, 5, 16)),
    "bilinear": Entry(build=Bilinear, sizes=(4, 12)),
    "einsum": Entry(build=Einsum, sizes=(2, 6, 16)),
    "bag-of-words": Entry(build=bag_of_words, sizes=(3, 7), dtypes=("int64",)),
}


# ------------------------------------------------------------------------ torchvision


def vision(name: str, *sizes: int, **settings: Any) -> Entry:
    def build() -> nn.Module:
        models = library("torchvision.models")
        return models.get_model(name, weights=None, **settings)

    return Entry(build=build, sizes=(2, *sizes) if sizes else (2, 3, 64, 64))


def optical_flow() -> nn.Module:
    return library("torchvision.models").get_model("raft_small", weights=None)


TORCHVISION = {
    f"torchvision-{name}": vision(name)
    for name in (
        "resnet18", "resnet50", "wide_resnet50_2", "resnext50_32x4d", "densenet121",
        "squeezenet1_1", "mobilenet_v2", "mobilenet_v3_small", "mnasnet0_5", "shufflenet_v2_x0_5",
        "efficientnet_b0", "efficientnet_v2_s", "regnet_y_400mf", "convnext_tiny", "vgg11_bn",
        "googlenet", "swin_t", "swin_v2_t",
    )
} | {
    "torchvision-alexnet": vision("alexnet", 3, 224, 224),
    "torchvision-inception_v3": vision("inception_v3", 3, 299, 299),
    "torchvision-vit_b_32": vision("vit_b_32", 3, 224, 224),
    "torchvision-maxvit_t": vision("maxvit_t", 3, 224, 224),
    "torchvision-fcn_resnet50": vision("fcn_resnet50", 3, 64, 64, weights_backbone=None),
    "torchvision-deeplabv3_resnet50": vision(
        "deeplabv3_resnet50", 3, 64, 64, weights_backbone=None, aux_loss=True
    ),
    "torchvision-lraspp_mobilenet_v3_large": vision(
        "lraspp_mobilenet_v3_large", 3, 64, 64, weights_backbone=None
    ),
    "torchvision-r3d_18": vision("r3d_18", 3, 8, 56, 56),
    "torchvision-r2plus1d_18": vision("r2plus1d_18", 3, 8, 56, 56),
    "torchvision-s3d": vision("s3d", 3, 16, 224, 224),
    "torchvision-mvit_v2_s": vision("mvit_v2_s", 3, 16, 224, 224),
    "torchvision-swin3d_t": vision("swin3d_t", 3, 8, 64, 64),
    "torchvision-raft_small": Entry(
        build=optical_flow, sizes=[(1, 3, 128, 128)] * 2,
        loss=lambda flows: sum(flow.mean() for flow in flows),
    ),
}  # fmt: skip


# ------------------------------------------------------------------------ timm


def image(name: str, side: int) -> Entry:
    return Entry(build=lambda: library("timm").create_model(name), sizes=(2, 3, side, side))


TIMM = {
    f"timm-{name}": image(name, side)
    for name, side in {
        "beit_base_patch16_224": 224, "cait_xxs24_224": 224, "coat_tiny": 224,
        "convnextv2_atto": 64, "deit_tiny_distilled_patch16_224": 224, "ecaresnet26t": 64,
        "edgenext_xx_small": 64, "efficientformer_l1": 224, "ghostnet_050": 64,
        "hrnet_w18_small": 64, "levit_128s": 224, "mixer_s32_224": 224, "mobilevit_xxs": 64,
        "poolformer_s12": 64, "pvt_v2_b0": 64, "repvgg_a0": 64, "resnest14d": 64,
        "resnetv2_50": 64, "tnt_s_patch16_224": 224, "vit_tiny_patch16_224": 224,
        "xcit_nano_12_p16_224": 224,
    }.items()
}  # fmt: skip


# ------------------------------------------------------------------------ transformers


def hub(kind: str, model: str, sizes: dict[str, tuple[int, ...]], **settings: Any) -> Entry:
    def build() -> nn.Module:
        transformers = library("transformers")
        config = getattr(transformers, f"{kind}Config")(**settings)
        return getattr(transformers, model)(config)

    dtypes = tuple("int64" if "ids" in name else "float32" for name in sizes)
    return Entry(build=build, sizes=sizes, dtypes=dtypes)


TOKENS = {"input_ids": (2, 16)}
BOTH = {"input_ids": (2, 16), "decoder_input_ids": (2, 8)}
SMALL = {
    "vocab_size": 128, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4,
}  # fmt: skip
GROUPED = {**SMALL, "num_key_value_heads": 2}
PATCHES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
           "num_attention_heads": 4, "image_size": 32, "patch_size": 8}  # fmt: skip
SEQUENCES = {
    "vocab_size": 128, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64, "max_position_embeddings": 64,
}  # fmt: skip
EXPERTS = {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}

TRANSFORMERS = {
    "hf-albert": hub("Albert", "AlbertModel", TOKENS, embedding_size=16, **SMALL),
    "hf-bart": hub("Bart", "BartModel", BOTH, **SEQUENCES),
    "hf-bert": hub("Bert", "BertForMaskedLM", TOKENS, **SMALL),
    "hf-clip": hub(
        "CLIP", "CLIPModel", {"input_ids": (2, 16), "pixel_values": (2, 3, 32, 32)},
        text_config=SMALL, vision_config=PATCHES, projection_dim=16,
    ),
    "hf-deberta-v2": hub("DebertaV2", "DebertaV2Model", TOKENS, **SMALL),
    "hf-distilbert": hub(
        "DistilBert", "DistilBertModel", TOKENS,
        vocab_size=128, dim=32, hidden_dim=64, n_layers=2, n_heads=4,
    ),
    "hf-gpt2": hub(
        "GPT2", "GPT2LMHeadModel", TOKENS, vocab_size=128, n_embd=32, n_layer=2, n_head=4
    ),
    "hf-gpt-neox": hub("GPTNeoX", "GPTNeoXForCausalLM", TOKENS, **SMALL),
    "hf-llama": hub("Llama", "LlamaForCausalLM", TOKENS, **GROUPED),
    "hf-mamba": hub(
        "Mamba", "MambaForCausalLM", TOKENS,
        vocab_size=128, hidden_size=32, num_hidden_layers=2, state_size=8,
    ),
    "hf-mistral": hub("Mistral", "MistralForCausalLM", TOKENS, sliding_window=8, **GROUPED),
    "hf-mixtral": hub("Mixtral", "MixtralForCausalLM", TOKENS, num_local_experts=4, **GROUPED),
    "hf-opt": hub(
        "OPT", "OPTForCausalLM", TOKENS, vocab_size=128, hidden_size=32, ffn_dim=64,
        num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=32,
    ),
    "hf-qwen3": hub("Qwen3", "Qwen3ForCausalLM", TOKENS, head_dim=16, **GROUPED),
    "hf-qwen3-moe": hub("Qwen3Moe", "Qwen3MoeForCausalLM", TOKENS, **EXPERTS, **GROUPED),
    "hf-segformer": hub(
        "Segformer", "SegformerForSemanticSegmentation", {"pixel_values": (2, 3, 64, 64)},
        hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], decoder_hidden_size=16,
    ),
    "hf-t5": hub(
        "T5", "T5Model", BOTH,
        vocab_size=128, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
    ),
    "hf-vit": hub("ViT", "ViTModel", {"pixel_values": (2, 3, 32, 32)}, **PATCHES),
    "hf-wav2vec2": hub("Wav2Vec2", "Wav2Vec2Model", {"input_values": (2, 4000)},
        mask_time_prob=0.0, num_conv_pos_embedding_groups=4, num_conv_pos_embeddings=16, **SMALL,
    ),
    "hf-whisper": hub(
        "Whisper", "WhisperModel", {"input_features": (2, 16, 40), "decoder_input_ids": (2, 8)},
        num_mel_bins=16, max_source_positions=20, max_target_positions=16, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        **{k: v for k, v in SEQUENCES.items() if k != "max_position_embeddings"},
    ),
}  # fmt: skip


# ------------------------------------------------------------------------ diffusion, graphs


def diffusion(**settings: Any) -> Callable[[], nn.Module]:
    return lambda: library("diffusers").UNet2DConditionModel(
        sample_size=16, block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=32,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), attention_head_dim=8,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), **settings,
    )  # fmt: skip


def unconditional() -> nn.Module:
    return library("diffusers").UNet2DModel(
        sample_size=16, block_out_channels=(32, 64), layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip


def graph(name: str, **settings: Any) -> Entry:
    def build() -> nn.Module:
        importlib.import_module("torch")
        return getattr(library("torch_geometric.nn"), name)(16, 8, 2, 4, **settings)

    def data() -> Any:
        edges = torch.randint(0, 10, (2, 40), generator=torch.Generator().manual_seed(0))
        return torch.rand(10, 16), edges

    return Entry(build=build, data=data)


OTHERS = {
    "diffusers-unet-conditional": Entry(
        build=diffusion(),
        sizes={"sample": (1, 4, 16, 16), "timestep": (1,), "encoder_hidden_states": (1, 7, 32)},
        dtypes=("float32", "int64", "float32"),
    ),
    "diffusers-unet": Entry(
        build=unconditional, sizes={"sample": (1, 3, 16, 16), "timestep": (1,)},
        dtypes=("float32", "int64"),
    ),
    "pyg-gat": graph("GAT", heads=2),
    "pyg-gcn": graph("GCN"),
    "pyg-gin": graph("GIN"),
    "pyg-sage": graph("GraphSAGE"),
}  # fmt: skip

ZOO: dict[str, Entry] = PLAIN | TORCHVISION | TIMM | TRANSFORMERS | OTHERS
