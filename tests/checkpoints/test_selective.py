"""Selective checkpointing: a user's own, and that of named places, against real steps."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from planned import IMAGES, SIZE, Attention, Block, Residual, installed
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

import torchgauge as tg
from real_step import predicted_peak, real_peak
from torchgauge.errors import ModelError, ScenarioError
from torchgauge.facts.choices.checkpointing import KeptOperator, Place

ATEN = torch.ops.aten
ADDMM, MM, CONVOLUTION = ATEN.addmm.default, ATEN.mm.default, ATEN.convolution.default
SDPA = ATEN._scaled_dot_product_flash_attention_for_cpu.default


def traced(model, size=SIZE, **options):
    return tg.analyze(model, size, mode="training", optimizer="none", **options)


# ---------------------------------------------------------------------------- a user's own


class Own(nn.Module):
    """What a user writes by hand; ``make`` returns the policy or list of one block."""

    def __init__(self, make, *blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.make = make

    def forward(self, x):
        for block in self.blocks:
            contexts = partial(create_selective_checkpoint_contexts, self.make())
            x = checkpoint(block, x, use_reentrant=False, context_fn=contexts)
        return x


def every_second(*operators, kept=CheckpointPolicy.MUST_SAVE):
    """Return a policy whose answer depends on how often it was called."""
    counts = {True: 0, False: 0}  # in PyTorch 2.6 the second forward asks it too

    def policy(context, operator, *args, **kwargs):
        if operator not in operators:
            return CheckpointPolicy.PREFER_RECOMPUTE
        counts[context.is_recompute] += 1
        is_kept = counts[context.is_recompute] % 2 == 1
        return kept if is_kept else CheckpointPolicy.MUST_RECOMPUTE

    return policy


def kept_if(*operators):
    """Return a policy of the older form, which returns a bool."""
    return lambda context, operator, *args, **kwargs: operator in operators


def dropping(probability):
    return nn.Sequential(Block(64), nn.Dropout(probability), nn.Linear(32, 32), nn.GELU())


@pytest.mark.parametrize(
    ("make", "blocks", "size"),
    [
        (lambda: [ADDMM], [Block(128), Block(64)], SIZE),
        (lambda: [ATEN.gelu.default], [Block(128), Block(64)], SIZE),
        (lambda: [ATEN.native_layer_norm.default], [Block(128), Block(64)], SIZE),
        (lambda: every_second(ADDMM), [Block(128), Block(64)], SIZE),
        (lambda: every_second(ADDMM, kept=CheckpointPolicy.PREFER_SAVE), [Block(128)] * 2, SIZE),
        (lambda: kept_if(ADDMM), [Block(128), Block(64)], SIZE),
        (lambda: [ADDMM], [dropping(0.1), dropping(0.3)], SIZE),
        (lambda: [ADDMM, MM, SDPA], [Attention(), Attention()], SIZE),
        (lambda: [SDPA], [Attention(), Attention()], SIZE),
        (lambda: [MM], [Attention(dropout=0.1), Attention()], SIZE),
        (lambda: every_second(ADDMM, MM), [Attention(), Attention()], SIZE),
        (lambda: lambda *_, **__: CheckpointPolicy.MUST_SAVE, [Attention()], SIZE),
        (lambda: every_second(CONVOLUTION), [Residual(3), Residual(3)], IMAGES),
    ],
)
def test_the_peak_of_an_own_policy_is_that_of_a_real_step(make, blocks, size):
    torch.manual_seed(0)
    model = Own(make, *copy.deepcopy(blocks))
    assert predicted_peak(traced(model, size)) == real_peak(model, torch.randn(size), training=True)


def test_what_is_kept_and_then_written_in_place_fails_as_in_torch():
    model = Own(lambda: [ATEN.native_batch_norm.default, CONVOLUTION], nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 3, 3), nn.ReLU()))  # fmt: skip
    with pytest.raises(RuntimeError) as real:
        model(torch.randn(IMAGES)).mean().backward()
    with pytest.raises(ModelError) as traced_error:
        traced(model, IMAGES)
    assert "has been mutated" in str(real.value) and str(real.value) in str(traced_error.value)


class Fails(nn.Module):
    def __init__(self, allowed):
        super().__init__()
        self.linear = nn.Linear(32, 32)
        self.left = allowed

    def forward(self, x):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("no more")
        return self.linear(x).relu()


@pytest.mark.parametrize("allowed", [0, 1])
def test_after_a_failure_no_mode_of_torch_is_left(allowed):
    """The fixture of all tests looks for them; the first or the second forward fails."""
    with pytest.raises(ModelError, match="no more"):
        traced(Own(lambda: [ADDMM], Fails(allowed)))


# ---------------------------------------------------------------------------- named places


def convolutions():
    return nn.Sequential(nn.Conv2d(3, 8, 3), *[Residual() for _ in range(3)])


def attentions():
    return nn.Sequential(*[Attention() for _ in range(3)])


@pytest.mark.parametrize(
    ("make", "size", "places"),
    [
        (attentions, SIZE, ("0+addmm", "2+mm+addmm#1")),
        (attentions, SIZE, ("[0:2]+addmm#0,1,3+_scaled_dot_product_flash_attention_for_cpu",)),
        (convolutions, IMAGES, ("[1:3]+convolution#0,2", "3+convolution#0")),
        (convolutions, IMAGES, ("1+convolution#0", "2")),
    ],
)
def test_the_peak_of_named_places_is_that_of_a_real_step(make, size, places):
    torch.manual_seed(0)
    model = make()
    report = traced(model, size, checkpointed=places)
    real = real_peak(installed(model, *places), torch.randn(size), training=True)
    assert predicted_peak(report) == real


def test_what_is_kept_is_not_computed_again():
    def again(*places):
        report = traced(attentions(), checkpointed=places)
        return [op.name for op in report.trace.ops if op.recompute]

    assert again("0").count("aten.addmm.default") == 2  # the last one's output nothing needs
    assert again("0+addmm#0").count("aten.addmm.default") == 1
    assert "aten.addmm.default" not in again("0+addmm")
    assert "aten.mm.default" in again("0+addmm") and "aten.mm.default" not in again("0+mm")


@pytest.mark.parametrize("device", ["T4", "H100-SXM"])
def test_the_operators_of_a_gpu_are_kept_by_their_names(device):
    def flops(*places):
        options = {"device": device, "precision": "fp16-autocast", "checkpointed": places}
        return traced(attentions(), **options)

    plain = flops()
    names = sorted({op.name for op in plain.trace.ops if "mm" in op.name or "_dot_" in op.name})
    kept = "".join(f"+{KeptOperator.of(name)}" for name in names)
    chosen = flops("0" + kept, "1" + kept, "2" + kept)
    assert any("_dot_" in name for name in names)
    assert chosen.totals.total_flops == plain.totals.total_flops
    assert chosen.memory.saved_activation_bytes < plain.memory.saved_activation_bytes


def test_gradients_and_statistics_are_those_of_the_plain_step():
    torch.manual_seed(0)
    plain, x = nn.Sequential(*convolutions(), nn.Dropout(0.2)), torch.randn(IMAGES)
    again = installed(plain, "[1:3]+convolution#0,2", "3+convolution#0")
    for model in (plain, again):
        torch.manual_seed(1)
        model(x).square().mean().backward()
    for before, after in zip(plain.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(before.grad, after.grad, rtol=1e-4, atol=1e-6)
    for before, after in zip(plain.buffers(), again.buffers(), strict=True):
        assert torch.equal(before, after)


# ---------------------------------------------------------------------------- how it is written


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["0+foo"], "PyTorch has no operator aten.foo.default"),
        (["0+no.such.thing"], "PyTorch has no operator no.such.thing"),
        (["0+relu_"], "aten.relu_.default writes in place"),
        (["0+native_dropout"], "aten.native_dropout.default draws random numbers"),
        (["0+"], "'' is not an operator whose output is kept"),
        (["0+mm#a"], "'mm#a' is not an operator whose output is kept"),
        (["0+mm", "0+addmm"], "0 is named twice, with other operators"),
        (["0", "0+addmm"], "0 is named twice, with other operators"),
    ],
)
def test_what_cannot_be_kept_is_refused(places, message):
    with pytest.raises(ScenarioError, match=message):
        traced(attentions(), checkpointed=places)


@pytest.mark.parametrize(
    ("place", "what"),
    [
        ("1+convolution", "1 does not call aten.convolution.default"),
        ("0+mm#0,7", "0 has no call 7 of aten.mm.default"),
        ("[0:2]+mm#4", "[0:2] has no call 4 of aten.mm.default"),
        ("0+mm", ""),
        ("[0:2]+mm#1,3", ""),
    ],
)
def test_what_is_never_kept_is_told(place, what):
    layers = [nn.Linear(8, 8, bias=False) for _ in range(4)]
    blocks = nn.Sequential(*layers[:2]), nn.Sequential(*layers[2:])
    warnings = traced(nn.Sequential(*blocks), (4, 8), checkpointed=[place]).warnings
    assert len(warnings) == bool(what)
    assert not what or warnings[0].startswith(f"checkpointed: {what}")


def test_reentrant_checkpoints_keep_nothing():
    with pytest.raises(ScenarioError, match="reentrant checkpoints keep no operator's output"):
        tg.Scenario(mode="training", checkpointing="reentrant", checkpointed=["0+mm"])


def test_places_are_written_in_one_way():
    scenario = tg.Scenario(mode="training", checkpointed=["a+mm+addmm#2,0", "b[0:2]+mm#1+mm"])
    assert scenario.checkpointed == ("a+addmm#0,2+mm", "b[0:2]+mm")
    place = Place.read("b[0:2]+max.dim#1")
    assert place.where == "b[0:2]" and place.kept[0].qualified == "aten.max.dim"
    assert str(Place.read("x+torchvision.roi_align.default")).endswith(
        "+torchvision.roi_align.default"
    )
