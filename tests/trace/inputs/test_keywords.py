"""Fields of a scenario as keywords, told apart from the arguments of a model's forward."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.errors import ScenarioError, UsageError
from torchgauge.models.requests import build_for, with_build
from torchgauge.request import Inputs, Request
from torchgauge.target import target_of


class Any(nn.Linear):
    def forward(self, x, **rest):
        return super().forward(x)


class Named(nn.Linear):
    def forward(self, x, mode="plain", *, device=None):
        assert mode in ("plain", "wide")
        return super().forward(x) if mode == "plain" else super().forward(torch.cat([x, x]))


class Scripted(nn.Module):
    def forward(self, x: torch.Tensor, mode: str) -> torch.Tensor:
        return x + len(mode)


CALLS = {
    "analyze": tg.analyze,
    "summary": tg.summary,
    "measure": tg.measure,
    "fits": lambda model, size, **options: tg.fits(model, size, device="T4", **options),
}


def layer(kind=nn.Linear):
    return kind(8, 8)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("kind", [nn.Linear, Any])
def test_a_field_of_the_scenario_is_a_keyword(call, kind):
    report = call(layer(kind), (4, 8), mode="training", optimizer="adamw")
    assert report.scenario.is_training
    assert report.scenario.optimizer == "adamw"


def test_keywords_say_the_same_as_a_scenario():
    written = {"mode": "training", "device": "T4", "precision": "bf16", "checkpointing": True}
    by_keyword = tg.analyze(layer(), (4, 8), **written)
    assert by_keyword == tg.analyze(layer(), (4, 8), scenario=tg.Scenario(**written))


def test_a_keyword_changes_the_scenario_that_is_given():
    scenario = tg.Scenario(mode="training", optimizer="adamw")
    report = tg.analyze(layer(), (4, 8), scenario=scenario, device="T4")
    assert report.scenario == tg.Scenario(mode="training", optimizer="adamw", device="T4")


def test_a_loss_is_a_name_or_a_function():
    assert tg.analyze(layer(), (4, 8), mode="training", loss="mse").scenario.loss == "mse"

    def total(output):
        return output.sum()

    assert tg.analyze(layer(), (4, 8), mode="training", loss=total).scenario.loss == "custom:total"
    with pytest.raises(UsageError, match="loss=3 is not a function"):
        tg.analyze(layer(), (4, 8), mode="training", loss=3)


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({"mode": "train"}, 'mode="training"'),
        ({"mode": "training", "optimizer": torch.optim.AdamW}, 'optimizer="adamw"'),
        ({"precision": torch.bfloat16}, 'precision="bf16"'),
        ({"device": torch.device("cuda", 0)}, 'device="cuda"'),
    ],
)
def test_a_value_written_otherwise_is_refused_with_ours(given, written):
    with pytest.raises(UsageError) as raised:
        tg.analyze(layer(), (4, 8), **given)
    assert raised.value.hint == f"write {written}"


def test_a_keyword_that_makes_no_sense_says_what_to_do():
    with pytest.raises(ScenarioError, match="optimizer='adamw' has no meaning") as raised:
        tg.analyze(layer(), (4, 8), optimizer="adamw")
    assert "mode='training'" in raised.value.hint


@pytest.mark.parametrize(
    ("scenario", "written"),
    [("training", 'mode="training"'), ({"mode": "training", "optimizer": "sgd"},
                                       'mode="training", optimizer="sgd"')],
)  # fmt: skip
def test_a_scenario_that_is_none(scenario, written):
    with pytest.raises(UsageError, match="is not a Scenario") as raised:
        tg.analyze(layer(), (4, 8), scenario=scenario)
    assert raised.value.hint == f"write scenario=tg.Scenario({written})"


@pytest.mark.parametrize(
    "wrap",
    [lambda model: model, nn.DataParallel, lambda model: torch.compile(model, backend="eager")],
    ids=["bare", "parallel", "compiled"],
)
def test_a_name_with_two_meanings_is_refused_with_both_spellings(wrap, capsys):
    with pytest.raises(UsageError) as raised:
        tg.summary(wrap(layer(Named)), (4, 8), mode="wide")
    assert "has two meanings: the scenario and " in raised.value.message
    assert raised.value.hint == (
        'write scenario=tg.Scenario(mode="wide") or forward_kwargs={"mode": "wide"}'
    )
    assert capsys.readouterr().out == ""


def test_both_spellings_work():
    plain = tg.analyze(layer(Named), (4, 8), scenario=tg.Scenario(mode="training"))
    wide = tg.analyze(layer(Named), (4, 8), forward_kwargs={"mode": "wide"}, precision="bf16")
    assert plain.scenario.is_training
    assert wide.totals.forward_macs == 2 * plain.totals.forward_macs
    assert wide.scenario == tg.Scenario(precision="bf16")


def test_a_scripted_forward_names_its_arguments():
    scripted = torch.jit.script(Scripted())
    with pytest.raises(UsageError, match="has two meanings"):
        tg.analyze(scripted, (4, 8), mode="ab")
    assert tg.analyze(scripted, (4, 8), forward_kwargs={"mode": "ab"}).totals.params == 0


def test_other_keywords_go_to_the_forward():
    class Scaled(nn.Linear):
        def forward(self, x, times=1):
            return super().forward(torch.cat([x] * times))

    assert tg.analyze(Scaled(8, 8), (4, 8), times=3).totals.forward_macs == 3 * 4 * 8 * 8


@pytest.mark.parametrize(
    ("name", "hint"), [("optimiser", "did you mean optimizer?"), ("batchsize", "did you mean "
                       "batch_size?"), ("y", "leave it out")],
)  # fmt: skip
def test_a_keyword_of_nobody_is_refused(name, hint):
    with pytest.raises(UsageError, match=f"{name}=3: neither torchgauge nor Linear") as raised:
        tg.analyze(layer(), (4, 8), **{name: 3})
    assert raised.value.hint == hint


@pytest.mark.parametrize("name", ["optimiser", "devcie", "presicion", "batchsize", "accumulate"])
def test_a_forward_that_takes_anything_does_not_swallow_a_misspelling(name):
    with pytest.raises(UsageError, match="is not an argument of torchgauge"):
        tg.analyze(layer(Any), (4, 8), **{name: 3})
    given = {"forward_kwargs": {name: 3}}
    assert tg.analyze(layer(Any), (4, 8), **given).totals.params == 72
    assert tg.analyze(layer(Any), (4, 8), output_attentions=True).totals.params == 72


def test_a_model_spec_is_asked_in_the_same_way(tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\nclass Net(nn.Linear):\n"
        "    def __init__(self):\n        super().__init__(8, 8)\n"
        "    def forward(self, x, device=None):\n        return super().forward(x)\n"
    )
    with pytest.raises(UsageError, match="has two meanings"):
        tg.analyze(f"{tmp_path}/net.py:Net", (4, 8), device="T4")
    with pytest.raises(UsageError, match="batchsize=2") as raised:
        tg.analyze(f"{tmp_path}/net.py:Net", (8,), batchsize=2)
    assert raised.value.hint == "did you mean batch_size?"


@pytest.mark.parametrize(
    "given",
    [{"channels_last": "false"}, {"compiled": "no", "device": "T4"}, {"ema": 3},
     {"first_step": None}, {"allocator": None}, {"torch_release": 2.6},
     {"torch_release": "2.6 banana"}, {"optimizer_options": 5}, {"optimizer_options": "lr=1"}],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(given):
    with pytest.raises(ScenarioError):
        tg.analyze(layer(), (4, 8), mode="training", **given)


def test_a_device_has_its_own_spelling():
    spelt = tg.analyze(layer(), (4, 8), device=" t4 ")
    assert spelt.scenario.device == "T4"
    assert tg.estimate(spelt.trace, "t4") == spelt


def test_what_cannot_be_estimated_or_shown_is_said(capsys):
    report = tg.analyze(layer(), (4, 8))
    assert tg.estimate(report) == report
    for wrong in ("x.gauge", None, 3, pickle.loads(pickle.dumps(report))):
        with pytest.raises(UsageError):
            tg.estimate(wrong)
    tg.show(report.trace)
    assert "Linear" in capsys.readouterr().out
    with pytest.raises(UsageError, match="cannot be shown"):
        tg.show(None)
    with pytest.raises(UsageError, match="width"):
        tg.show(report, width=39)


def test_a_request_from_a_spec_is_pickled_and_answered_elsewhere(tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\nclass Net(nn.Linear):\n"
        "    def __init__(self, width=8):\n        super().__init__(width, width)\n"
    )
    request = Request(
        spec=f"{tmp_path}/net.py:Net",
        settings={"width": 16},
        inputs=Inputs(size=(4, 16)),
        scenario=tg.Scenario(mode="training", device="T4"),
    )
    again = pickle.loads(pickle.dumps(request))
    assert again == request
    assert with_build(again, build_for(again)).model.in_features == 16
    assert tg.analyze(f"{tmp_path}/net.py:Net(width=16)", (4, 16)).totals.params == 16 * 17


@pytest.mark.parametrize("device", ["cpu", "T4", "H100-SXM"])
def test_what_a_scenario_runs_on_is_pickled(device):
    target = target_of(tg.Scenario(device=device))
    assert pickle.loads(pickle.dumps(target)) == target
