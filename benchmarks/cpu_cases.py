"""Models of many families, small enough to run for real on a CPU, and the scenarios to run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import torchgauge as tg
from torchgauge.models.torchvision_operators import define_missing_operators

Build = Callable[[], nn.Module]
IMAGE = (2, 3, 64, 64)
TOKENS = (2, 12)


def torchvision(name: str, **options: Any) -> Build:
    def build() -> nn.Module:
        define_missing_operators()
        import torchvision.models as models

        return models.get_model(name, weights=None, **options)  # type: ignore[no-any-return]

    return build


def timm(name: str, **options: Any) -> Build:
    def build() -> nn.Module:
        define_missing_operators()
        import timm as library

        return library.create_model(name, **options)  # type: ignore[no-any-return]

    return build


def hugging_face(model: str, config: str, **settings: Any) -> Build:
    def build() -> nn.Module:
        define_missing_operators()  # an import of the library runs torchvision's
        import transformers

        return getattr(transformers, model)(getattr(transformers, config)(**settings))  # type: ignore[no-any-return]

    return build


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
DECODER = {**SMALL, "num_key_value_heads": 2, "intermediate_size": 64, "vocab_size": 50}


def unet() -> nn.Module:
    define_missing_operators()
    from diffusers import UNet2DModel

    return UNet2DModel(  # type: ignore[no-any-return]
        sample_size=16, in_channels=3, out_channels=3, layers_per_block=1, norm_num_groups=8,
        block_out_channels=(16, 32), down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip


class GraphNet(nn.Module):
    """Two kinds of graph convolution, over node features ``[N, 8]`` and edges ``[2, E]``."""

    def __init__(self) -> None:
        super().__init__()
        from torch_geometric.nn import GATConv, GCNConv

        self.first, self.second = GCNConv(8, 16), GATConv(16, 4, heads=2)

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x, edges).relu(), edges)  # type: ignore[no-any-return]


def encoder(**options: Any) -> Build:
    def build() -> nn.Module:
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, **options)
        return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    return build


def autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 16, 3, 2, 1),
        nn.InstanceNorm2d(16, affine=True), nn.GELU(), nn.ConvTranspose2d(16, 8, 4, 2, 1),
        nn.LeakyReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(8, 3, 3, padding=1), nn.Sigmoid(),
    )  # fmt: skip


def words() -> nn.Module:
    return nn.Sequential(nn.Embedding(50, 16), nn.LayerNorm(16), nn.Dropout(0.1), nn.Linear(16, 50))


CASES: dict[str, tuple[Build, Any]] = {
    **{
        name: (torchvision(name), IMAGE)
        for name in (
            "alexnet", "vgg11_bn", "resnet18", "resnet50", "wide_resnet50_2", "resnext50_32x4d",
            "densenet121", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0",
            "efficientnet_v2_s", "convnext_tiny", "shufflenet_v2_x1_0", "squeezenet1_1",
            "mnasnet1_0", "regnet_y_400mf",
        )
    },
    **{
        name: (torchvision(name, weights_backbone=None), IMAGE)
        for name in ("fcn_resnet50", "deeplabv3_mobilenet_v3_large")
    },
    "googlenet": (torchvision("googlenet", init_weights=False), (2, 3, 96, 96)),
    "r3d_18": (torchvision("r3d_18"), (1, 3, 8, 32, 32)),
    "vit": (torchvision("vit_b_32", image_size=64), IMAGE),
    "swin_t": (torchvision("swin_t"), IMAGE),
    "timm vit": (timm("vit_tiny_patch16_224", img_size=64), IMAGE),
    "timm mixer": (timm("mixer_s32_224", img_size=64), IMAGE),
    "timm convnext": (timm("convnext_atto"), IMAGE),
    "timm levit": (timm("levit_128s", img_size=64), IMAGE),
    "bert": (hugging_face("BertModel", "BertConfig", **SMALL, intermediate_size=64), TOKENS),
    "distilbert": (
        hugging_face("DistilBertModel", "DistilBertConfig", dim=32, n_layers=2, n_heads=4), TOKENS,
    ),
    "gpt2": (hugging_face("GPT2LMHeadModel", "GPT2Config", n_embd=32, n_layer=2, n_head=4), TOKENS),
    "llama": (hugging_face("LlamaForCausalLM", "LlamaConfig", **DECODER), TOKENS),
    "mistral": (hugging_face("MistralForCausalLM", "MistralConfig", **DECODER), TOKENS),
    "qwen3": (hugging_face("Qwen3ForCausalLM", "Qwen3Config", **DECODER, head_dim=8), TOKENS),
    "mixtral": (
        hugging_face("MixtralForCausalLM", "MixtralConfig", **DECODER, num_local_experts=4), TOKENS,
    ),
    "t5": (
        hugging_face("T5ForConditionalGeneration", "T5Config", d_model=32, d_ff=64, num_layers=2,
                     num_heads=4, d_kv=8),
        {"input_ids": (2, 8), "decoder_input_ids": (2, 8)},
    ),
    "hf vit": (
        hugging_face("ViTModel", "ViTConfig", **SMALL, intermediate_size=64, image_size=64), IMAGE,
    ),
    "diffusion unet": (unet, {"sample": (2, 3, 16, 16), "timestep": (2,)}),
    "graph": (GraphNet, {"x": (10, 8), "edges": (2, 30)}),
    "mlp": (lambda: nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)), (3, 8)),
    "autoencoder": (autoencoder, (4, 3, 64, 64)),
    "words": (words, (2, 9)),
    "encoder": (encoder(), (2, 9, 32)),
    "pre-norm encoder": (encoder(norm_first=True, activation="gelu"), (2, 9, 32)),
    "transformer": (
        lambda: nn.Transformer(32, 4, 1, 1, 64, batch_first=True), [(2, 7, 32), (2, 5, 32)],
    ),
    "rnn": (lambda: nn.RNN(8, 16, 2, nonlinearity="relu"), (7, 2, 8)),
    "gru": (lambda: nn.GRU(8, 16, 2, batch_first=True, bidirectional=True), (2, 7, 8)),
    "lstm": (lambda: nn.LSTM(512, 512, 2, batch_first=True), (2, 7, 512)),
    "projected lstm": (lambda: nn.LSTM(8, 16, proj_size=4), (7, 2, 8)),
}  # fmt: skip

"""Name → how to build the model, and the size of its inputs."""

SCENARIOS = {
    "inference": tg.Scenario(),
    "sgd": tg.Scenario(mode="training", optimizer="sgd"),
    "adamw": tg.Scenario(mode="training", optimizer="adamw"),
}


def dtypes_of(size: Any) -> list[str] | None:
    """Return the dtypes of a case's inputs, ``None`` where they follow from the model."""
    return ["float32", "int64"] if isinstance(size, dict) and "edges" in size else None
