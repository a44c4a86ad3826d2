"""torchao and bitsandbytes: stored bytes are the modules' own, peaks those of a real step."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import torchgauge as tg
from real_memory import kept_bytes, real_peak

pytestmark = [
    pytest.mark.models,
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
]
torchao = pytest.importorskip("torchao.quantization")
bitsandbytes = pytest.importorskip("bitsandbytes")
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

MACS = 4 * (64 * 128 + 128 * 32)
PARAMS = 64 * 128 + 128 + 128 * 32
LORA_MACS = MACS + 4 * 8 * (64 + 128 + 128 + 32)
TRAINING = tg.Scenario(mode="training", optimizer="sgd")


def two(make: Callable[[int, int, bool], nn.Module]) -> nn.Module:
    return nn.Sequential(make(64, 128, True), nn.ReLU(), make(128, 32, False))


def by_torchao(config: Any, dtype: torch.dtype = torch.float32) -> nn.Module:
    model = two(lambda i, o, bias: nn.Linear(i, o, bias=bias)).to(dtype).eval()
    torchao.quantize_(model, config)
    return model


def four_bits(**options: Any) -> nn.Module:
    return two(lambda i, o, bias: bitsandbytes.nn.Linear4bit(i, o, bias=bias, **options)).to("cpu")


def eight_bits(threshold: float) -> nn.Module:
    return two(
        lambda i, o, bias: bitsandbytes.nn.Linear8bitLt(
            i, o, bias=bias, has_fp16_weights=False, threshold=threshold
        )
    ).to("cpu")


class Adapted(nn.Module):
    """A frozen layer and two small matrices beside it, as LoRA trains them."""

    def __init__(self, base: nn.Module, inputs: int, outputs: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(inputs, 8, bias=False)
        self.up = nn.Linear(8, outputs, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.up(self.down(x))  # type: ignore[no-any-return]


def adapted(model: nn.Module) -> nn.Module:
    return nn.Sequential(Adapted(model[0], 64, 128), nn.ReLU(), Adapted(model[2], 128, 32))


def grouped(dtype: torch.dtype) -> Any:
    return torchao.IntxWeightOnlyConfig(weight_dtype=dtype, granularity=torchao.PerGroup(32))


TORCHAO: dict[str, Callable[[], nn.Module]] = {
    "int8": lambda: by_torchao(torchao.Int8WeightOnlyConfig()),
    "int8 dynamic": lambda: by_torchao(torchao.Int8DynamicActivationInt8WeightConfig()),
    "int8 dynamic, bf16": lambda: by_torchao(
        torchao.Int8DynamicActivationInt8WeightConfig(), torch.bfloat16
    ),
    "float8": lambda: by_torchao(torchao.Float8WeightOnlyConfig()),
    "int4": lambda: by_torchao(grouped(torch.int4)),
    "int2": lambda: by_torchao(grouped(torch.int2)),
    "int4 dynamic": lambda: by_torchao(
        torchao.Int8DynamicActivationIntxWeightConfig(
            weight_dtype=torch.int4, weight_granularity=torchao.PerGroup(32)
        )
    ),
}
BITSANDBYTES: dict[str, Callable[[], nn.Module]] = {
    "8 bits": lambda: eight_bits(0.0),
    "8 bits, outliers apart": lambda: eight_bits(6.0),
    "nf4": lambda: four_bits(quant_type="nf4", compress_statistics=False),
    "fp4": lambda: four_bits(quant_type="fp4", compress_statistics=False),
    "nf4, nested": lambda: four_bits(quant_type="nf4", compress_statistics=True),
    "nf4, bf16": lambda: four_bits(quant_type="nf4", compute_dtype=torch.bfloat16),
}
CASES = {**TORCHAO, **BITSANDBYTES}


@pytest.mark.parametrize("name", CASES)
def test_inference(name: str) -> None:
    model = CASES[name]()
    dtype = next((p.dtype for p in model.parameters() if p.dtype.is_floating_point), torch.float32)
    x = torch.randn(4, 64, dtype=dtype)
    report = tg.analyze(model, input_data=x)
    totals, memory = report.totals, report.memory
    assert memory is not None and report.execution == "simulated" and not report.not_counted
    assert (totals.forward_macs, totals.params) == (MACS, PARAMS)
    assert totals.elementwise_flops > 4 * 128 + 4 * 32  # quantizing and dequantizing among it
    assert any("a product is one MAC at any width" in text for text in report.assumptions)
    real = real_peak(model, x)  # after it the weights are as a first forward leaves them
    assert totals.param_bytes == memory.parameter_bytes == kept_bytes(model)
    if name == "nf4, bf16" and not bitsandbytes.functional.has_avx512bf16():
        pytest.skip("products in bfloat16 are sized for a processor with AVX-512 BF16")
    assert memory.peak_allocated_bytes == real


@pytest.mark.parametrize("name", ["8 bits", "8 bits, outliers apart", "nf4", "nf4, nested", "fp4"])
def test_training_of_adapters(name: str) -> None:
    model = adapted(CASES[name]())
    report = tg.analyze(model, (4, 64), scenario=TRAINING)
    totals, memory = report.totals, report.memory
    assert memory is not None and report.execution == "simulated" and not report.not_counted
    assert totals.forward_macs == LORA_MACS
    assert totals.trainable_params == 8 * (64 + 128 + 128 + 32)
    # The adapters' weights and inputs, and the gradient through the second frozen weight alone.
    adapters = 4 * 8 * (64 + 128 + 128 + 32) + 4 * 8 * (128 + 128 + 32)
    assert totals.backward_flops == 2 * (adapters + 4 * 128 * 32)
    assert totals.param_bytes == memory.parameter_bytes
    assert memory.peak_allocated_bytes == real_peak(model, torch.randn(4, 64), training=True)


def test_training_of_adapters_on_torchao() -> None:
    model = adapted(by_torchao(torchao.Int8WeightOnlyConfig()))
    report = tg.analyze(model, (4, 64), scenario=TRAINING)
    assert report.memory is not None and report.totals.forward_macs == LORA_MACS
    real = real_peak(model, torch.randn(4, 64), training=True)
    assert report.memory.peak_allocated_bytes == real


@pytest.mark.parametrize("name", ["Embedding8bit", "Embedding4bit"])
def test_embeddings(name: str) -> None:
    model = nn.Sequential(getattr(bitsandbytes.nn, name)(100, 64).to("cpu"), nn.Linear(64, 8))
    ids = torch.randint(0, 100, (4, 10))
    report = tg.analyze(model, input_data=ids)
    assert report.memory is not None and report.totals.params == 100 * 64 + 64 * 8 + 8
    assert report.totals.param_bytes == report.memory.parameter_bytes == kept_bytes(model)
    assert report.memory.peak_allocated_bytes == real_peak(model, ids)


def test_the_model_is_left_as_it_was() -> None:
    model = CASES["nf4, nested"]()
    before = [(id(p), p.shape, dict(p.__dict__)) for p in model.parameters()]
    states = [vars(p.quant_state).copy() for p in model.parameters() if hasattr(p, "quant_state")]
    tg.analyze(model, (4, 64))
    assert [(id(p), p.shape, dict(p.__dict__)) for p in model.parameters()] == before
    assert states == [vars(p.quant_state) for p in model.parameters() if hasattr(p, "quant_state")]


def test_a_4_bit_weight_is_dequantized_whole_for_many_rows_on_a_gpu() -> None:
    model = adapted(CASES["nf4"]())
    gpu = tg.Scenario(mode="training", optimizer="sgd", device="T4")
    report = tg.analyze(model, (4096, 64), scenario=gpu)
    few = tg.analyze(model, (4, 64), scenario=gpu)
    assert report.totals.forward_macs == 1024 * LORA_MACS
    assert few.totals.forward_macs == LORA_MACS
    assert any("dequantized as a whole" in text for text in report.assumptions)


def test_peft_on_a_quantized_transformer() -> None:
    peft, transformers = _libraries()
    config = transformers.LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=256,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    for parent in model.model.layers:
        for block, names in ((parent.self_attn, "qkvo"), (parent.mlp, ("gate", "up", "down"))):
            for name in names:
                old = getattr(block, f"{name}_proj")
                new = bitsandbytes.nn.Linear4bit(old.in_features, old.out_features, bias=False)
                setattr(block, f"{name}_proj", new)
    adapters = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
    model = peft.get_peft_model(model.to("cpu"), adapters)
    report = tg.analyze(model, (2, 16), scenario=TRAINING)
    memory, totals = report.memory, report.totals
    assert memory is not None and not report.not_counted and report.execution == "simulated"
    assert totals.trainable_params == 2 * 4 * (64 + 64 + 64 + 32)
    assert totals.param_bytes == memory.parameter_bytes
    weights = 64 * 64 * 2 + 2 * 64 * 32 + 3 * 64 * 128
    attention = 2 * 4 * 16 * 16 * 16
    tokens = 2 * 16
    layer = tokens * (weights + 4 * (64 + 64 + 64 + 32)) + 2 * attention
    assert totals.forward_macs == 2 * layer + tokens * 64 * 256


def _libraries() -> tuple[Any, Any]:
    from torchgauge.models.torchvision_operators import define_missing_operators

    define_missing_operators()
    return pytest.importorskip("peft"), pytest.importorskip("transformers")
