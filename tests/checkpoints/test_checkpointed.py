"""Named places that are checkpointed: as torch does it, for the trace and for a real step."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from planned import IMAGES, SIZE, Block, Stack, convolutional, installed
from torch import nn
from torch.utils.checkpoint import checkpoint

import torchgauge as tg
from real_step import predicted_peak, real_peak
from torchgauge.errors import ScenarioError
from torchgauge.facts.choices.checkpointing import read_places
from torchgauge.facts.codec.wire import from_dict


def traced(model, size=SIZE, **options):
    return tg.analyze(model, size, mode="training", optimizer="none", **options)


class Pasted(nn.Module):
    """What a user writes by hand."""

    def __init__(self, stack):
        super().__init__()
        self.stack = stack

    def forward(self, x):
        for number, block in enumerate(self.stack.blocks):
            x = checkpoint(block, x, use_reentrant=False) if number in (0, 2) else block(x)
        return self.stack.head(x)


def test_a_named_module_is_checkpointed_as_by_hand():
    stack = Stack(64, 128, 64)
    by_name = traced(stack, checkpointed=["blocks.0", "blocks.2"])
    by_hand = traced(Pasted(stack))
    assert by_name.memory.peak_allocated_bytes == by_hand.memory.peak_allocated_bytes
    assert (
        by_name.totals.total_flops == by_hand.totals.total_flops > traced(stack).totals.total_flops
    )


def test_only_the_named_modules_run_again():
    report = traced(Stack(64, 64, 64), checkpointed=["blocks.1"])
    again = {call.path for call in report.trace.calls if call.phase == "backward"}
    assert again >= {"blocks.1", "blocks.1.up"}
    assert not any(path.startswith(("blocks.0", "blocks.2")) for path in again)


@pytest.mark.parametrize(
    "places", [("blocks.0",), ("blocks.0", "blocks.2"), ("blocks.1.act", "blocks.0")]
)
def test_the_peak_of_named_modules_is_that_of_a_real_step(places):
    torch.manual_seed(0)
    model = Stack(64, 128, 96)
    report = traced(model, checkpointed=places)
    real = real_peak(installed(model, *places), torch.randn(SIZE), training=True)
    assert predicted_peak(report) == real


@pytest.mark.parametrize("places", [("[1:4]",), ("[0:2]", "[2:5]", "6")])
def test_the_peak_of_stretches_is_that_of_a_real_step(places):
    torch.manual_seed(0)
    model = convolutional()
    report = traced(model, IMAGES, checkpointed=places)
    real = real_peak(installed(model, *places), torch.randn(IMAGES), training=True)
    assert predicted_peak(report) == real


def test_batch_norms_count_each_batch_once():
    torch.manual_seed(0)
    plain, x = convolutional(), torch.randn(IMAGES)
    again = installed(plain, "[0:3]", "4")
    for model in (plain, again):
        torch.manual_seed(1)
        model(x).mean().backward()
    for (name, before), after in zip(plain.named_buffers(), again.buffers(), strict=True):
        assert torch.equal(before, after), name
    assert plain[1].norm1.num_batches_tracked == 1
    for before, after in zip(plain.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(before.grad, after.grad, rtol=1e-4, atol=1e-6)


def test_a_plan_survives_a_deep_copy():
    torch.manual_seed(0)
    model = copy.deepcopy(installed(convolutional(), "[0:3]", "4"))
    assert model.forward.owner is model
    assert model[4].forward.modules == (model[4],)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["blocks.7"], "the model has no module 'blocks.7'"),
        (["blocks[0:2]"], r"blocks\[0:2\] are not children of an nn.Sequential"),
        (["blocks.0,1"], "'blocks.0,1' is not the path of a module"),
        (["blocks[2:2]"], "holds no module"),
        ("blocks.0", "is not a list of paths"),
        ([""], "'' is not the path of a module"),
    ],
)
def test_places_that_are_none_are_refused(places, message):
    with pytest.raises(ScenarioError, match=message):
        traced(Stack(32, 32), checkpointed=places)


def test_stretches_that_overlap_are_refused():
    with pytest.raises(ScenarioError, match=r"\[1:3\] overlaps the stretch before it"):
        traced(convolutional(), IMAGES, checkpointed=["[0:2]", "[1:3]"])


def test_places_have_no_meaning_in_inference():
    with pytest.raises(ScenarioError, match=r"checkpointed=.* has no meaning in inference"):
        tg.Scenario(checkpointed=["layers.0"])


def test_a_scenario_with_places_checkpoints_and_is_read_back():
    scenario = tg.Scenario(mode="training", checkpointed=["a", "b[0:2]", "a"])
    assert scenario.checkpointed == ("a", "b[0:2]") and scenario.checkpointing is True
    report = traced(nn.Sequential(Block(64), Block(64)), checkpointed=["[0:2]"])
    assert from_dict(tg.Report, json.loads(report.to_json())).scenario == report.scenario
    assert "checkpointed" not in tg.Scenario(mode="training").to_dict()


def test_a_kind_goes_with_places():
    flops = [
        traced(Stack(64, 64), checkpointing=kind, checkpointed=["blocks.0"]).totals.total_flops
        for kind in ("selective", "non-reentrant")
    ]
    assert flops[0] < flops[1]  # it keeps a product


def test_places_are_read_once_each():
    assert read_places(["x", "x", "y[0:3]"]) == ("x", "y[0:3]")
