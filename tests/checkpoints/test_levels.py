"""Plans that keep the outputs of operators: never worse, the best of all, and as real steps do."""

from __future__ import annotations

import copy
import json
from itertools import pairwise, product

import pytest
import torch
from planned import IMAGES, SIZE, Attention, Stack, convolutional
from torch import nn

import torchgauge as tg
from real_step import bytes_there, real_peak
from torchgauge.checkpoints.step import model as step_model
from torchgauge.checkpoints.step.candidates import candidates_of
from torchgauge.checkpoints.step.levels import MOST, Products, levels_of
from torchgauge.checkpoints.step.saved import Times, kept_of
from torchgauge.facts.choices.checkpointing import KeptOperator
from torchgauge.facts.codec.wire import from_dict
from torchgauge.facts.loop.checkpoints import CheckpointPlan
from torchgauge.trace.step.selective import can_be_kept

PEAK = "memory.peak_allocated_bytes"
FLOPS = "totals.total_flops"


def planned(model, size=SIZE, **options):
    return tg.plan_checkpoints(model, size, **{"optimizer": "none", **options})


def traced(model, size=SIZE, **options):
    return tg.analyze(model, size, mode="training", optimizer="none", **options)


def attentions(**options):
    return nn.Sequential(*[Attention(**options) for _ in range(3)])


class Overwritten(nn.Module):
    """Its first convolution's output is written into, so that it cannot be kept."""

    def __init__(self):
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True))
        self.two = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.GELU())

    def forward(self, x):
        return self.two(self.one(x))


CASES = [
    (lambda: Stack(128, 256, 64, 192, 96), SIZE),
    (attentions, SIZE),
    (convolutional, IMAGES),
    (lambda: nn.Sequential(Overwritten()), IMAGES),
]


@pytest.mark.parametrize(("make", "size"), CASES)
@pytest.mark.parametrize("keep", [0.7, 0.5, 0.3])
def test_it_is_never_worse_than_without_kept_outputs(make, size, keep, monkeypatch):
    model = make()
    chosen = planned(model, size, keep=keep)
    monkeypatch.setattr(step_model, "levels_of", lambda *_: ())
    plain = planned(model, size, keep=keep)
    assert not any(item.kept for item in plain.recomputed)
    assert chosen.fits >= plain.fits
    if plain.fits:
        assert chosen.figure(FLOPS).after <= plain.figure(FLOPS).after
    else:
        assert chosen.figure(PEAK).after <= plain.figure(PEAK).after


def test_kept_outputs_save_work_where_they_can():
    plan = planned(convolutional(), IMAGES, keep=0.7)
    without = plan.blocks[FLOPS] - plan.figure(FLOPS).before
    assert any(item.kept for item in plan.recomputed)
    assert plan.figure(FLOPS).difference < 0.1 * without
    assert sum(item.flops for item in plan.recomputed) == plan.figure(FLOPS).difference


def test_the_plan_is_the_best_of_all_choices_with_kept_outputs():
    """Brute force over the traces: each block plain, recomputed, or with kept outputs."""
    model = Stack(128, 256, 64)
    choices = [("", f"blocks.{n}", f"blocks.{n}+addmm#0", f"blocks.{n}+addmm") for n in range(3)]
    found = [
        traced(model, checkpointed=[place for place in places if place])
        for places in product(*choices)
    ]
    base = found[0].totals.total_flops
    for keep in (0.8, 0.6, 0.4):
        plan = planned(model, keep=keep)
        fitting = [
            report.totals.total_flops - base
            for report in found
            if report.memory.peak_allocated_bytes <= plan.goal.most_bytes
        ]
        assert plan.fits or not fitting
        if fitting:
            assert plan.figure(FLOPS).difference <= 1.05 * min(fitting)


# ---------------------------------------------------------------------------- as real steps do


@pytest.mark.parametrize(("make", "size", "keep"), [(convolutional, IMAGES, 0.7),
                                                    (attentions, SIZE, 0.7)])  # fmt: skip
def test_the_plan_and_its_code_do_what_it_says(make, size, keep):
    torch.manual_seed(0)
    model, x = make(), torch.randn(size)
    plan = planned(model, size, keep=keep)
    assert any(item.kept for item in plan.recomputed)
    report = traced(model, size, checkpointed=plan.checkpointed)
    assert report.memory.peak_allocated_bytes == plan.figure(PEAK).after
    pasted = copy.deepcopy(model)
    exec("\n".join(plan.snippet), {"model": pasted})
    for changed in (plan.apply(model), pasted, copy.deepcopy(pasted)):
        assert bytes_there(report) + real_peak(changed, x, training=True) == plan.figure(PEAK).after
        changed.load_state_dict(model.state_dict())


def step(model, x):
    torch.manual_seed(1)
    model.train()(x).square().mean().backward()
    return [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (convolutional, IMAGES),
        (lambda: nn.Sequential(*attentions(dropout=0.2), nn.Dropout(0.1)), SIZE),
        (lambda: nn.Sequential(nn.Sequential(*attentions(), nn.Dropout(0.1)), nn.GELU()), SIZE),
    ],
)  # fmt: skip
def test_the_gradients_are_those_of_the_plain_step(make, size):
    torch.manual_seed(0)
    model, x = make(), torch.randn(size)
    again = planned(model, size, keep=0.5).apply(model)
    for before, after in zip(step(model, x), step(again, x), strict=True):
        torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------------------- what is kept


def test_what_is_written_into_is_not_kept():
    for keep in (0.9, 0.6, 0.3):
        plan = planned(nn.Sequential(Overwritten()), IMAGES, keep=keep)
        kept = {k.calls for item in plan.recomputed for k in item.kept if item.place in ("0", "")}
        assert all(0 not in calls and calls for calls in kept)
        assert not plan.broken


def attention_calls(dropout):
    ops = traced(attentions(dropout=dropout)).trace.ops
    return [op for op in ops if "scaled_dot" in op.name and op.phase == "forward"]


def test_what_draws_random_numbers_is_not_kept():
    """Left out of the second forward, it would shift the numbers of those after it."""
    assert all(map(can_be_kept, attention_calls(0.0)))
    assert not any(map(can_be_kept, attention_calls(0.2)))


def test_a_module_has_few_levels():
    """A layer with products of many sizes: no more than a few points of their ladder."""
    widths = (32, 48, 24, 64, 16, 40, 56, 32)
    layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    model = nn.Sequential(Whole(*layers), nn.Linear(32, 4))
    trace = traced(model).trace
    spans = candidates_of(trace).found
    whole = next(item for item in spans if str(item.place) == "0")
    prices = [(float(sum(o.nbytes for o in op.outputs)) ** 2, 1) for op in trace.ops]
    products = Products.of(trace, kept_of(trace, Times(trace)), prices)
    ends = [span.end_op for span in whole.spans]
    levels = list(levels_of(products, whole.spans, ends))
    counts = [len(level.ops[0]) for level in levels]
    assert 2 <= len(levels) <= MOST and counts == sorted(set(counts)) and counts[-1] >= 5
    assert len(list(levels_of(products, whole.spans, ends, 2))) <= 2


class Whole(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


# ---------------------------------------------------------------------------- how it is shown


def test_the_operators_are_named_in_text_and_json(capsys):
    plan = planned(attentions(), keep=0.7)
    item = next(item for item in plan.recomputed if item.kept)
    data = json.loads(plan.to_json())
    shown = next(row for row in data["recomputed"] if row["place"] == item.place)
    assert shown["kept"] == [{"name": k.name, "calls": list(k.calls)} for k in item.kept]
    assert from_dict(CheckpointPlan, data) == plan
    assert item.spelled in plan.checkpointed and item.spelled.startswith(f"{item.place}+")
    tg.show(plan)
    text = capsys.readouterr().out
    assert "Kept outputs" in text and "outputs of addmm" in text
    assert "_scaled_dot_product" not in text.partition("Paste")[0]
    assert KeptOperator.read("addmm#0").qualified in "\n".join(plan.snippet)
