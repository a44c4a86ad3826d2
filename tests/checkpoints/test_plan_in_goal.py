"""The planner in the search for a goal: made for what the other changes leave."""

from __future__ import annotations

import json

import pytest
import torch
from planned import Block, Stack
from torch import nn

import torchgauge as tg
from torchgauge.facts.codec.wire import from_dict
from torchgauge.facts.loop.advice import PathStep
from torchgauge.language.choice import spoken
from torchgauge.render import get_format
from torchgauge.render.pages.loop.advice import advice_page

SIZE = (8, 256, 512)
STEP = {"mode": "training", "optimizer": "adamw", "device": "T4"}
DEVICE = "memory.device_bytes"


class Wide(nn.Module):
    """Its activations and its optimizer's temporaries weigh the same: one change is not enough."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(2048, 512) for _ in range(8))
        self.head = nn.Linear(512, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@pytest.fixture(scope="module")
def model():
    return Wide()


@pytest.fixture(scope="module")
def found(model):
    said = []
    advice = tg.advise(
        model, SIZE, goal="memory:497MB", allow="none", prove=False, on_progress=said.append, **STEP
    )
    return advice, said


def after(step, name):
    return next(figure.after for figure in step.figures if figure.name == name)


def test_a_plan_is_made_for_what_another_change_leaves(model, found):
    advice, _ = found
    assert advice.reached and [step.rule for step in advice.path] == [
        "scenario", "plan-checkpoints"
    ]  # fmt: skip
    first, last = advice.path
    assert first.text == "use the fused adamw" and not first.reached and last.reached
    assert after(first, DEVICE) > after(last, DEVICE)
    alone = next(item for item in advice.suggestions if item.rule == "plan-checkpoints")
    assert alone.gain(DEVICE) < 1 - 497e6 / advice.figures[DEVICE], "alone it is not enough"


def test_the_figures_of_the_way_are_those_of_one_trace(model, found):
    first, last = found[0].path
    fused = {"optimizer_implementation": "fused"}
    with_fused = tg.analyze(model, SIZE, **STEP, **fused)
    together = tg.analyze(model, SIZE, **STEP, **fused, **last.change.scenario)
    assert after(first, DEVICE) == with_fused.memory.device_bytes
    assert after(last, DEVICE) == together.memory.device_bytes <= 497e6
    assert after(last, "totals.total_flops") == together.totals.total_flops
    extra = together.totals.total_flops / with_fused.totals.total_flops - 1
    assert last.change.cost == f"{extra * 100:.1f} % more FLOPs"
    figure = next(item for item in last.change.figures if item.name == DEVICE)
    assert figure.before == with_fused.memory.device_bytes, "its own gain is on top of the first"


def test_it_costs_no_more_than_to_recompute_each_block(model, found):
    last = found[0].path[-1]
    blocks = tg.analyze(model, SIZE, **STEP, optimizer_implementation="fused", checkpointing=True)
    assert after(last, "totals.total_flops") <= blocks.totals.total_flops
    assert after(last, "time.total_ms") <= blocks.time.total_ms


def test_the_step_installs_itself_and_its_code_can_be_pasted(model, found):
    change = found[0].path[-1].change
    places = change.scenario["checkpointed"]
    step = {"mode": "training", "optimizer": "none"}
    named = tg.analyze(model, SIZE, checkpointed=places, **step)
    before = {name: dict(module.__dict__) for name, module in model.named_modules()}
    applied = tg.analyze(change.apply(model), SIZE, **step)
    assert {name: dict(module.__dict__) for name, module in model.named_modules()} == before
    assert applied.memory.peak_allocated_bytes == named.memory.peak_allocated_bytes
    pasted = Wide()
    exec("\n".join(change.snippet), {"model": pasted})
    assert tg.analyze(pasted, SIZE, **step).totals.total_flops == named.totals.total_flops


def test_every_trace_is_told_once(found):
    advice, said = found
    numbered = [line for line in said if line.startswith("trace ")]
    assert [int(line.split()[1].rstrip(":")) for line in numbered] == [*range(1, advice.traces + 1)]
    assert any("modules recomputed" in line for line in numbered)


def test_the_page_shows_the_code_of_the_step(found):
    page = written(found[0])
    assert "Step 2: recompute 7 chosen modules in the backward" in page
    assert "14.6 % more FLOPs" in page and "from torch.utils.checkpoint import checkpoint" in page
    with spoken("zh"):
        chinese = written(found[0])
    assert "第 2 步" in chinese


def written(advice):
    return get_format("text", width=80).render(advice_page(advice))


def test_the_way_is_read_back(found):
    advice, _ = found
    kept = [from_dict(PathStep, step) for step in json.loads(advice.to_json())["path"]]
    assert kept[1].change.snippet == advice.path[1].change.snippet
    assert kept[1].change.figures == advice.path[1].change.figures
    places = advice.path[1].change.scenario["checkpointed"]
    assert tuple(kept[1].change.scenario["checkpointed"]) == places
    assert [item.rule for item in advice.path_changes] == ["scenario", "plan-checkpoints"]
    plain = tg.advise(Stack(32), (2, 8, 32), goal="params:-1%", rules=("low-rank",), prove=False)
    assert '"change"' not in json.dumps(json.loads(plain.to_json())["path"])


@pytest.mark.parametrize(
    ("goal", "options"),
    [
        ("params:-10%", {}),  # no goal in memory
        ("latency:1ms", {}),
        ("memory:100GB", {}),  # reached already
    ],
)
def test_no_plan_where_none_helps(model, goal, options):
    advice = tg.advise(
        model, SIZE, goal=goal, rules=("plan-checkpoints",), prove=False, **STEP, **options
    )
    assert advice.path == () and not advice.suggestions


def test_no_plan_in_inference(model):
    advice = tg.advise(
        model, SIZE, goal="memory:1MB", rules=("plan-checkpoints",), prove=False, device="T4"
    )
    assert not advice.reached and not advice.path
    assert "not a training step" in advice.quiet[0].why


def test_a_peak_that_no_plan_lowers_is_lowered_by_none(model):
    """The optimizer's temporaries are the peak: nothing to recompute, and no step of the path."""
    advice = tg.advise(
        model, (1, 16, 512), goal="memory:1MB", rules=("plan-checkpoints",), prove=False, **STEP
    )
    assert not advice.reached and advice.path == () and not advice.suggestions
    assert "does not lower the peak" in advice.quiet[0].why
