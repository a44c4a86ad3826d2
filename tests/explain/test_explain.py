"""The parts of a figure sum to it, for the whole model; formulas and sources are named."""

from __future__ import annotations

import json
from math import fsum
from typing import Any

import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.cli.main import main
from torchgauge.errors import ScenarioError, UsageError
from torchgauge.explain.answer import explain_figure, explain_report
from torchgauge.explain.figures import FIGURES
from torchgauge.facts.query import subtree_cost
from torchgauge.render import FORMATS, get_format
from torchgauge.render.pages.explanation import explanation_page


class Net(nn.Module):
    """Convolutions, attention, an LSTM and a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.recurrent = nn.LSTM(8, 8, batch_first=True)
        self.head = nn.Linear(8, 8)
        self.tied = nn.Linear(8, 8)
        self.tied.weight = self.head.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        attended, _ = self.attention(tokens, tokens, tokens)
        sequence, _ = self.recurrent(attended)
        return self.tied(self.head(sequence))


SCENARIOS: dict[str, dict[str, Any]] = {
    "inference on cpu": {},
    "training on cpu": {"mode": "training", "optimizer": "adamw"},
    "inference on T4": {"device": "T4"},
    "training on T4": {"mode": "training", "optimizer": "sgd-momentum", "device": "T4"},
    "accumulated, autocast": {"mode": "training", "device": "H100-SXM", "accumulation": 2,
                              "precision": "bf16-autocast", "checkpointing": False},
}  # fmt: skip


@pytest.fixture(scope="module", params=SCENARIOS)
def report(request: pytest.FixtureRequest) -> tg.Report:
    return tg.analyze(Net(), (4, 3, 33, 33), **SCENARIOS[request.param])


def is_held(report: tg.Report, name: str) -> bool:
    on_gpu, trains = report.scenario.device != "cpu", report.scenario.is_training
    return {"device_bytes": on_gpu, "time": on_gpu, "saved_activations": trains}.get(name, True)


@pytest.mark.parametrize("name", FIGURES)
def test_the_parts_sum_to_the_figure(report, name):
    if not is_held(report, name):
        with pytest.raises(ScenarioError, match=f"^{name}: ") as caught:
            explain_report(report, name)
        assert caught.value.hint
        return
    found = explain_report(report, name)
    part, _, field = FIGURES[name].place.partition(".")
    assert found.value == getattr(getattr(report, part), field)
    assert fsum(item.value for item in found.contributions) == pytest.approx(found.value, rel=1e-9)
    values = [item.value for item in found.contributions]
    assert values == sorted(values, reverse=True)
    assert found.rules
    json.loads(found.to_json())
    for format in FORMATS:
        assert get_format(format).render(explanation_page(found, top=3))


@pytest.mark.parametrize("path", ["stem", "stem.0", "attention", "recurrent", "head", ""])
def test_a_module_has_what_it_and_those_below_do(report, path):
    macs, params = (explain_report(report, name, module=path) for name in ("macs", "params"))
    cost = subtree_cost(report, path)
    assert (macs.value, params.value) == (cost.macs, cost.params)
    assert all(item.module.startswith(path) for item in macs.contributions)


def test_each_operator_has_its_formula_and_source():
    report = tg.analyze(Net(), (4, 3, 33, 33), mode="training")
    found = explain_report(report, "flops")
    by_name = {rule.name: rule for rule in found.rules}
    operators = {item.name for item in found.contributions}
    assert operators <= by_name.keys()
    assert "Π(kernel)" in by_name["aten.convolution"].formula
    assert by_name["aten.convolution"].source.endswith("formulas.convolution")
    assert "last dimension of argument 1" in by_name["aten.addmm"].formula


def test_what_is_not_counted_is_said():
    model = nn.Linear(4, 4)
    model.forward = lambda x: torch.linalg.matrix_exp(x)  # has no formula
    found = explain_report(tg.analyze(model, (4, 4)), "macs")
    assert any("matrix_exp" in text for text in found.not_counted)
    assert not explain_report(tg.analyze(nn.Linear(4, 4), (4, 4)), "macs").not_counted


def test_without_a_model_a_figure_is_defined():
    for name in FIGURES:
        found = explain_figure(name)
        assert (found.value, found.contributions) == (None, ())
        assert found.definition
        assert found.rules
    assert explain_figure("totals.forward_macs").figure == "macs"
    assert explain_figure("peak-allocated").figure == "peak_allocated"


def test_it_shows_itself(capsys):
    report = tg.analyze(nn.Linear(8, 4), (2, 8), device="T4")
    found = explain_report(report, "params")
    assert str(found) == "params of Linear: 36 parameters in 2 parts"
    assert repr(found) == f"<Explanation: {found}>"
    tg.show(found)
    assert "Parts, the largest first" in capsys.readouterr().out
    assert "<table" in found._repr_mimebundle_()["text/html"]
    assert " ms in " in str(explain_report(report, "time"))
    assert str(explain_figure("macs")).startswith("macs: multiply-adds")


def test_what_is_not_there_is_offered_by_its_nearest_name():
    report = tg.analyze(Net(), (4, 3, 33, 33))
    with pytest.raises(UsageError, match="there is no figure 'param' to explain") as caught:
        explain_report(report, "param")
    assert "did you mean params?" in caught.value.hint
    with pytest.raises(UsageError, match=r"there is no module 'stem\.7'") as caught:
        explain_report(report, "macs", module="stem.7")
    assert caught.value.hint.startswith("did you mean stem.")
    with pytest.raises(UsageError, match="has no trace"):
        explain_report(tg.Report.__copy__(tg.measure(nn.Linear(2, 2), (1, 2), max_seconds=0.01)),
                       "params")  # fmt: skip


def test_the_command(tmp_path, capsys):
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef Net():\n    return nn.Linear(8, 4)\n"
    )
    spec = f"{tmp_path / 'net.py'}:Net"
    assert main(["explain", "macs", spec, "--input-size", "2,8", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "64 MACs" in out
    assert "aten.addmm" in out
    assert main(["explain", "params", spec, "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["value"], data["unit"]) == (36, "parameters")
    assert [part["name"] for part in data["contributions"]] == ["weight", "bias"]
    assert main(["explain", "params"]) == 0
    assert main(["explain", "params", "--module", "x"]) == 2
    assert main(["explain", "time", spec, "--input-size", "2,8"]) == 2
    assert main(["explain", "macs", spec]) == 0  # nothing ran: no operators, no MACs
