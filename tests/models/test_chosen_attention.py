"""The attention of transformers models: chosen by the scenario, stated by the report."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.cli.main import main
from torchgauge.errors import ScenarioError
from torchgauge.models.torchvision_operators import define_missing_operators

define_missing_operators()
transformers = pytest.importorskip("transformers")
pytestmark = [
    pytest.mark.models,
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
]

FUSED = "attention was traced as the fused kernel scaled_dot_product_flash_attention_for_cpu"
PRODUCTS = "attention was traced as matrix products and a softmax"
SIZES = {"vocab_size": 128, "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}


def llama(**more: object) -> nn.Module:
    config = transformers.LlamaConfig(**SIZES, intermediate_size=128, num_key_value_heads=2, **more)
    model: nn.Module = transformers.LlamaForCausalLM(config)
    return model


def bert(**more: object) -> nn.Module:
    model: nn.Module = transformers.BertModel(
        transformers.BertConfig(
            **SIZES, intermediate_size=128, attention_probs_dropout_prob=0.0, **more
        )
    )
    return model


IDS = torch.zeros(2, 16, dtype=torch.int64)


@pytest.mark.parametrize("make", [llama, bert])
@pytest.mark.parametrize("mode", ["inference", "training"])
def test_chosen_attention_is_that_of_a_model_built_with_it(make: object, mode: str) -> None:
    assert callable(make)
    model = make()
    for name, said in (("eager", PRODUCTS), ("sdpa", FUSED)):
        chosen = tg.analyze(model, input_data=IDS, mode=mode, attn_implementation=name)
        built = tg.analyze(make(attn_implementation=name), input_data=IDS, mode=mode)
        assert chosen.memory is not None and built.memory is not None
        assert chosen.memory.peak_allocated_bytes == built.memory.peak_allocated_bytes
        assert chosen.totals == built.totals
        assert said in chosen.assumptions and said in built.assumptions
        assert chosen.scenario.attn_implementation == name
    assert model.config._attn_implementation == "sdpa"


def test_dropout_of_weights_has_no_fused_kernel_on_a_cpu() -> None:
    """It is said what ran, whatever the name of the implementation."""
    model = transformers.BertModel(transformers.BertConfig(**SIZES, intermediate_size=128))
    report = tg.analyze(model, input_data=IDS, mode="training", attn_implementation="sdpa")
    assert PRODUCTS in report.assumptions


def test_a_real_run_takes_it_too() -> None:
    report = tg.measure(llama(), input_data=IDS, attn_implementation="eager", repeats=1)
    assert report.scenario.attn_implementation == "eager"


def test_what_the_library_refuses_is_said() -> None:
    with pytest.raises(ScenarioError, match="'nonsense' is refused by transformers"):
        tg.analyze(llama(), input_data=IDS, attn_implementation="nonsense")
    with pytest.raises(ScenarioError, match="FlashAttention2 has been toggled on"):
        tg.analyze(llama(), input_data=IDS, attn_implementation="flash_attention_2")


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    settings = [item for key, value in SIZES.items() for item in ("--set", f"{key}={value}")]
    arguments = ["summary", "hf:llama", *settings, "--attn-implementation", "eager"]
    assert main([*arguments, "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["scenario"]["attn_implementation"] == "eager"
    assert PRODUCTS in report["assumptions"]
    assert main(arguments) == 0
    assert "eager attention" in capsys.readouterr().out
