"""The planner: its promises against traces, real steps, brute force and torch's own cuts."""

from __future__ import annotations

import copy
import json
from itertools import combinations

import pytest
import torch
from planned import IMAGES, SIZE, Block, Residual, Stack, convolutional
from torch import nn
from torch.utils.checkpoint import checkpoint_sequential

import torchgauge as tg
from real_step import bytes_there, real_peak
from torchgauge.checkpoints import solver
from torchgauge.errors import MissingExtraError, ScenarioError, UsageError
from torchgauge.facts.codec.wire import from_dict
from torchgauge.facts.loop.checkpoints import CheckpointPlan

PEAK = "memory.peak_allocated_bytes"
FLOPS = "totals.total_flops"


def planned(model, size=SIZE, **options):
    return tg.plan_checkpoints(model, size, **{"optimizer": "none", **options})


def traced(model, size=SIZE, **options):
    return tg.analyze(model, size, mode="training", optimizer="none", **options)


@pytest.fixture(scope="module")
def stack():
    torch.manual_seed(0)
    return Stack(128, 256, 64, 192, 96)


@pytest.fixture(scope="module")
def half(stack):
    return planned(stack, keep=0.5)


# ---------------------------------------------------------------------------- what is promised


def test_the_figures_are_those_of_a_trace_with_the_plan(stack, half):
    report = traced(stack, checkpointed=half.checkpointed)
    assert half.fits and half.recomputed
    assert half.figure(PEAK).after == report.memory.peak_allocated_bytes <= half.goal.most_bytes
    assert half.figure(FLOPS).after == report.totals.total_flops
    assert half.peak_at == report.memory.peak_at


def test_the_flops_of_the_parts_sum_to_the_extra_work(half):
    assert sum(item.flops for item in half.recomputed) == half.figure(FLOPS).difference


def test_the_goal_is_the_peak_without_the_share_of_the_activations(stack, half):
    memory = traced(stack).memory
    drop = round(memory.saved_activation_bytes / 2)
    assert half.goal.most_bytes == memory.peak_allocated_bytes - drop


def test_the_planned_peak_is_that_of_a_real_step(stack, half):
    report = traced(stack, checkpointed=half.checkpointed)
    real = real_peak(half.apply(stack), torch.randn(SIZE), training=True)
    assert half.figure(PEAK).after == bytes_there(report) + real


def test_it_costs_less_than_checkpointing_every_block(stack, half):
    assert half.blocks[PEAK] < half.goal.most_bytes
    assert half.figure(FLOPS).after < half.blocks[FLOPS]


def test_a_step_that_meets_the_goal_is_left_alone(stack):
    plan = planned(stack, memory="1GB")
    assert plan.fits and plan.recomputed == () and plan.snippet == () and plan.traces == 1


def test_a_goal_out_of_reach_gives_the_least_memory(stack):
    plan = planned(stack, keep=0.0)
    assert not plan.fits
    others = [planned(stack, memory=plan.figure(PEAK).after), planned(stack, keep=0.05)]
    assert others[0].fits and others[0].figure(PEAK).after == plan.figure(PEAK).after
    assert others[1].figure(PEAK).after >= plan.figure(PEAK).after


def test_nothing_fits_where_the_peak_is_not_of_activations():
    plan = planned(nn.Linear(512, 512), (512,), keep=0.1)
    assert not plan.fits and plan.recomputed == ()


# ---------------------------------------------------------------------------- the least


def test_the_plan_is_the_best_of_all_choices_of_blocks():
    """Brute force over the traces themselves, not over the planner's model of them."""
    model = Stack(128, 256, 64, 192)
    paths = [f"blocks.{number}" for number in range(4)]
    found = {
        chosen: traced(model, checkpointed=chosen)
        for count in range(5)
        for chosen in combinations(paths, count)
    }
    base = found[()]
    for keep in (0.8, 0.6, 0.4):
        plan = planned(model, keep=keep)
        fitting = [
            report.totals.total_flops - base.totals.total_flops
            for report in found.values()
            if report.memory.peak_allocated_bytes <= plan.goal.most_bytes
        ]
        assert plan.fits is bool(fitting)
        if fitting:
            assert plan.figure(FLOPS).difference <= 1.05 * min(fitting)


class Segments(nn.Module):
    def __init__(self, layers, segments):
        super().__init__()
        self.layers = layers
        self.segments = segments

    def forward(self, x):
        return checkpoint_sequential(self.layers, self.segments, x, use_reentrant=False)


@pytest.mark.parametrize("make", [lambda: nn.Sequential(*[Block(64) for _ in range(8)]),
                                  convolutional])  # fmt: skip
def test_it_is_never_worse_than_checkpoint_sequential(make):
    layers = make()
    size = IMAGES if isinstance(layers[1], Residual) else SIZE
    for segments in (2, 3, 4):
        cut = traced(Segments(layers, segments), size)
        plan = planned(layers, size, memory=cut.memory.peak_allocated_bytes)
        assert plan.fits, segments
        assert plan.figure(FLOPS).after <= cut.totals.total_flops, segments


# ---------------------------------------------------------------------------- the model


def test_the_model_stays_as_it_is_unless_it_is_told_to_change(stack, half):
    before = {name: dict(module.__dict__) for name, module in stack.named_modules()}
    copied = half.apply(stack)
    assert {name: dict(module.__dict__) for name, module in stack.named_modules()} == before
    assert copied is not stack and copied.state_dict().keys() == stack.state_dict().keys()
    own = copy.deepcopy(stack)
    assert half.apply(own, in_place=True) is own
    with pytest.raises(UsageError, match="is checkpointed already"):
        half.apply(own)


def test_an_applied_plan_is_traced_as_promised(stack, half):
    report = traced(half.apply(stack))
    assert report.memory.peak_allocated_bytes == half.figure(PEAK).after
    assert report.totals.total_flops == half.figure(FLOPS).after


def test_gradients_and_statistics_are_those_of_the_plain_step():
    torch.manual_seed(0)
    plain, x = convolutional(), torch.randn(IMAGES)
    plan = planned(plain, IMAGES, keep=0.4)
    again = plan.apply(plain)
    for model in (plain, again):
        torch.manual_seed(1)  # of the dropout
        model(x).square().mean().backward()
    for before, after in zip(plain.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(before.grad, after.grad, rtol=1e-4, atol=1e-6)
    for before, after in zip(plain.buffers(), again.buffers(), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("make", [lambda: Stack(128, 64, 96), convolutional])
def test_the_code_to_paste_does_what_the_plan_says(make):
    torch.manual_seed(0)
    model = make()
    size = IMAGES if isinstance(model, nn.Sequential) else SIZE
    plan = planned(model, size, keep=0.5)
    pasted = copy.deepcopy(model)
    exec("\n".join(plan.snippet), {"model": pasted})
    report = traced(model, size, checkpointed=plan.checkpointed)
    real = real_peak(pasted, torch.randn(size), training=True)
    assert bytes_there(report) + real == plan.figure(PEAK).after
    for before, after in zip(model.buffers(), pasted.buffers(), strict=True):
        assert before.shape == after.shape


def test_a_copy_of_a_pasted_model_is_a_copy():
    """An average of the weights, say: what is pasted must not tie it to the model."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(layer for _ in range(6) for layer in (nn.Linear(64, 64), nn.BatchNorm1d(64), nn.GELU())),
        nn.Linear(64, 10),
    )
    plan = planned(model, (512, 64), keep=0.5)
    exec("\n".join(plan.snippet), {"model": model})
    copied, x = copy.deepcopy(model), torch.randn(512, 64)
    before = copied.eval()(x)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert torch.equal(copied(x), before)
    copied.train()(x).sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    for norm, other in zip(model.buffers(), copied.buffers(), strict=True):
        assert norm is not other


def test_a_plan_is_of_one_model(half):
    with pytest.raises(ScenarioError, match="the model has no module"):
        half.apply(nn.Linear(2, 2))


# ---------------------------------------------------------------------------- what is left alone


class WritesOutside(nn.Module):
    """Its second block writes into its input, so that running it twice would do that twice."""

    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(32, 32)

        def forward(self, x):
            return self.inner(torch.tanh(x.mul_(0.5)))

    def __init__(self):
        super().__init__()
        self.first = Block(128)
        self.second = self.Scale()

    def forward(self, x):
        return self.second(self.first(x) + 1)


def test_what_writes_into_its_input_is_refused():
    plan = planned(WritesOutside(), keep=0.2)
    assert plan.refused == ("second",)
    assert not any(place.startswith("second") for place in plan.checkpointed if "." not in place)


class Layer(nn.Module):
    def __init__(self, count):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(16 * count, 64), nn.GELU(), nn.Linear(64, 16))

    def forward(self, given):
        return self.inner(torch.cat(given, -1))


class Grows(nn.Module):
    """Its layers get one list that grows, as those of a DenseNet do."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Layer(count) for count in (1, 2, 3))

    def forward(self, x):
        given = [x]
        for layer in self.layers:
            given.append(layer(given))
        return given[-1]


def test_what_does_something_else_when_it_runs_again_is_left_out():
    plan = planned(Grows(), (256, 16), keep=0.6)
    assert {"layers.0", "layers.1"} <= {*plan.broken}
    assert not {*plan.checkpointed} & {*plan.broken}


# ---------------------------------------------------------------------------- a GPU


def test_on_a_gpu_the_least_time_is_looked_for_and_the_step_fits():
    model = nn.Sequential(nn.Conv2d(3, 64, 3), *[Residual(64) for _ in range(4)])
    plan = tg.plan_checkpoints(model, (64, 3, 224, 224), device="T4")
    assert plan.goal.text == "fit T4" and plan.least == "time"
    after = plan.figure("memory.device_bytes").after
    report = tg.analyze(model, (64, 3, 224, 224), mode="training", device="T4",
                        checkpointed=plan.checkpointed)  # fmt: skip
    assert report.memory.device_bytes == after
    assert plan.fits and report.memory.verdict == "fits"


# ---------------------------------------------------------------------------- errors and texts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no memory goal was given"),
        ({"keep": 1.5}, "keep=1.5 is not a share of the activations"),
        ({"keep": 0.5, "memory": "1GB"}, "memory and keep are two goals"),
        ({"memory": "much"}, "not a number of bytes"),
        ({"memory": 0}, "a goal of no bytes cannot be met"),
        ({"keep": 0.5, "least": "money"}, "least='money' is unknown"),
        ({"keep": 0.5, "least": "time"}, "no time can be predicted for cpu"),
        ({"keep": 0.5, "checkpointing": True}, "the scenario checkpoints already"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        planned(Stack(32), **options)


def test_a_plan_needs_an_input():
    with pytest.raises(UsageError, match="a plan needs a step that runs"):
        tg.plan_checkpoints(Stack(32), keep=0.5)


def test_a_missing_solver_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "highspy", None)
    with pytest.raises(MissingExtraError, match="highspy is needed") as caught:
        solver._highs()
    assert caught.value.hint == 'pip install "torchgauge[plan]"'


def test_the_solver_prints_nothing(capfd, stack):
    planned(stack, keep=0.6)
    assert capfd.readouterr() == ("", "")


def test_a_plan_is_read_back(half):
    kept = from_dict(CheckpointPlan, json.loads(half.to_json()))
    assert kept == half and kept.checkpointed == half.checkpointed
    assert (
        str(half) == f"Stack: {len(half.recomputed)} of {half.candidates} places recomputed; "
        "goal met: keep 50% of the activations"
    )
