"""Arguments of a scenario that are given where those of the forward belong."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.errors import UsageError


class Any(nn.Linear):
    def forward(self, x, **rest):
        return super().forward(x)


class Named(nn.Linear):
    def forward(self, x, mode="plain", *, device=None):
        assert mode in ("plain", "wide")
        return super().forward(x) if mode == "plain" else super().forward(torch.cat([x, x]))


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
def test_a_mode_is_said_to_belong_into_the_scenario(call, kind, capsys):
    with pytest.raises(UsageError) as raised:
        call(layer(kind), (4, 8), mode="training")
    assert raised.value.message == (
        'mode="training": what is run is said by a scenario; '
        f"{kind.__name__}.forward has no such argument"
    )
    assert raised.value.hint.startswith('write scenario=tg.Scenario(mode="training")')
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({"optimizer": "adamw"}, 'mode="training", optimizer="adamw"'),
        ({"mode": "train"}, 'mode="training"'),
        ({"mode": "training", "optimizer": torch.optim.AdamW},
         'mode="training", optimizer="adamw"'),
        ({"precision": torch.bfloat16}, 'precision="bf16"'),
        ({"device": "T4", "precision": "fp16"}, 'device="T4", precision="fp16"'),
        ({"checkpointing": True, "accumulation": 2},
         'mode="training", checkpointing=True, accumulation=2'),
        ({"channels_last": True}, "channels_last=True"),
    ],
)  # fmt: skip
def test_the_hint_is_the_scenario_that_was_meant(given, written):
    with pytest.raises(UsageError) as raised:
        tg.analyze(layer(), (4, 8), **given)
    assert raised.value.hint.startswith(f"write scenario=tg.Scenario({written});")
    eval(f"tg.Scenario({written})")  # and it is one


@pytest.mark.parametrize(
    ("scenario", "written"),
    [("training", 'mode="training"'), ({"mode": "training", "optimizer": "sgd"},
                                       'mode="training", optimizer="sgd"')],
)  # fmt: skip
def test_a_scenario_that_is_none(scenario, written):
    with pytest.raises(UsageError, match="is not a Scenario") as raised:
        tg.analyze(layer(), (4, 8), scenario=scenario)
    assert raised.value.hint == f"write scenario=tg.Scenario({written})"


def test_the_name_of_a_loss_belongs_into_the_scenario():
    with pytest.raises(UsageError, match='loss="mse" is not a function') as raised:
        tg.analyze(layer(), (4, 8), loss="mse")
    assert 'tg.Scenario(mode="training", loss="mse")' in raised.value.hint


def test_what_the_forward_names_goes_there_and_the_report_says_so():
    plain = tg.analyze(layer(Named), (4, 8))
    wide = tg.analyze(layer(Named), (4, 8), mode="wide", device="anything")
    assert wide.totals.forward_macs == 2 * plain.totals.forward_macs
    assert wide.scenario == plain.scenario
    assert wide.assumptions[-2:] == (
        'mode="wide" went to the model\'s forward, which has an argument of that name; the '
        "scenario's is scenario=tg.Scenario(mode=…)",
        'device="anything" went to the model\'s forward, which has an argument of that name; the '
        "scenario's is scenario=tg.Scenario(device=…)",
    )


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")]
)
def test_a_wrapper_hides_no_argument(wrap):
    wide = tg.analyze(wrap(layer(Named)), (4, 8), mode="wide")
    assert wide.totals.forward_macs == 512
    with pytest.raises(UsageError, match="optimizer"):
        tg.analyze(wrap(layer(Named)), (4, 8), optimizer="adamw")


class Scripted(nn.Module):
    def forward(self, x: torch.Tensor, mode: str) -> torch.Tensor:
        return x + len(mode)


def test_a_scripted_forward_names_its_arguments():
    report = tg.analyze(torch.jit.script(Scripted()), (4, 8), mode="ab")
    assert report.assumptions[-1].startswith('mode="ab" went to the model\'s forward')


def test_one_name_goes_to_the_forward_and_another_is_refused():
    with pytest.raises(UsageError, match=r'^precision="bf16": what is run'):
        tg.analyze(layer(Named), (4, 8), mode="wide", precision="bf16")
    assert tg.analyze(layer(Any), input_data={"x": torch.ones(4, 8), "mode": 1}).totals.params == 72
