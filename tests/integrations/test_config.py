"""Scenarios from dicts, OmegaConf and Hydra; an error names the key."""

from __future__ import annotations

from typing import Any

import pytest
from kept import library

from torchgauge import Scenario
from torchgauge.errors import ScenarioError
from torchgauge.integrations.config import scenario_from

GIVEN = {"mode": "training", "optimizer": "adamw", "optimizer-options": {"weight_decay": 0.1},
         "precision": "bf16-autocast", "device": "T4", "loss": None}  # fmt: skip
MEANT = Scenario(
    mode="training", optimizer="adamw", optimizer_options={"weight_decay": 0.1},
    precision="bf16-autocast", device="T4",
)  # fmt: skip


def test_a_dict():
    assert scenario_from(GIVEN) == MEANT
    assert scenario_from({"run": {"gauge": GIVEN}}, key="run.gauge") == MEANT
    assert scenario_from({}) == Scenario()


@pytest.mark.parametrize(
    ("config", "key", "message", "hint"),
    [
        ({"gauge": {"precison": "bf16"}}, "gauge", "gauge.precison: a scenario has no such key",
         "did you mean precision?"),
        ({"batch-size": 4}, "", "batch-size: a scenario has no such key",
         "pass the batch size to analyze(…, batch_size=…)"),
        ({"gauge": {"precision": "bf17"}}, "gauge", "gauge.precision: unknown precision 'bf17'",
         "one of as-built"),
        ({"mode": "cooking"}, "", "mode: unknown mode 'cooking'", "one of inference, training"),
        ({"optimizer": "adam"}, "", "optimizer: ", "training"),
        ({"accumulation": 0, "mode": "training"}, "", "accumulation: accumulation=0 is not",
         "use 1 or more"),
        ({"zero-grad": "never-freed", "zero_grad": "x", "mode": "training"}, "",
         "zero_grad is there twice, as zero_grad too", "keep one"),
        ({"gauge": 3}, "gauge", "gauge is a int, not a mapping", "write one key for each field"),
        ({"gauge": {}}, "gague", "gague: the configuration has no such key", "it has gauge"),
        ([1], "", "the configuration is a list, not a mapping", "write one key"),
        ({"mode": "training", "optimizer": "rmsprop", "optimizer_implementation": "fused"}, "",
         "the configuration: rmsprop has no fused implementation", "foreach"),
    ],
)  # fmt: skip
def test_an_error_names_the_key(config: Any, key: str, message: str, hint: str):
    with pytest.raises(ScenarioError) as caught:
        scenario_from(config, key=key)
    assert caught.value.message.startswith(message)
    assert hint in caught.value.hint


def test_omegaconf_resolves_what_refers_to_other_keys():
    omegaconf = library("omegaconf")
    text = "card: T4\ngauge: {mode: training, optimizer: adamw, device: '${card}'}\nempty: ???\n"
    config = omegaconf.OmegaConf.create(text)
    assert scenario_from(config.gauge) == Scenario(mode="training", optimizer="adamw", device="T4")
    with pytest.raises(ScenarioError, match="empty: Missing mandatory value"):
        scenario_from(config, key="gauge")
    broken = omegaconf.OmegaConf.create({"device": "${nowhere}"})
    with pytest.raises(ScenarioError, match="device: Interpolation key 'nowhere' not found"):
        scenario_from(broken)


def test_hydra_with_overrides(tmp_path):
    hydra = library("hydra")
    (tmp_path / "train.yaml").write_text("gauge:\n  mode: training\n  device: T4\n")
    with hydra.initialize_config_dir(str(tmp_path), version_base=None):
        config = hydra.compose("train", overrides=["+gauge.optimizer=sgd", "gauge.device=A10"])
    expected = Scenario(mode="training", optimizer="sgd", device="A10")
    assert scenario_from(config, key="gauge") == expected
