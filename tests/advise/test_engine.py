"""The advisor: what is shown was measured, what is not shown has a reason, the model stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchgauge as tg
from torchgauge.advise.goal.front import LIMIT as FRONT_LIMIT
from torchgauge.advise.rules import RULES, rule_of
from torchgauge.advise.subject import Subject
from torchgauge.changes.change import Change, rewritten
from torchgauge.changes.inputs import ran_of, with_batch
from torchgauge.cli.main import main
from torchgauge.errors import UsageError
from torchgauge.facts.loop.advice import Advice, Suggestion
from torchgauge.models.requests import request_of
from torchgauge.render import get_format
from torchgauge.render.pages.loop.advice import advice_page
from untouched import fingerprint, same


class Wide(nn.Module):
    """A map of 8 × 8 pixels, flattened into a wide classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 3, padding=1)
        self.deep = nn.Conv2d(64, 64, 3, padding=1)
        self.head = nn.Linear(64 * 8 * 8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.deep(torch.relu(self.conv(x)))).flatten(1))


def advised(**options: Any) -> Advice:
    return tg.advise(Wide(), (3, 8, 8), **options)


def test_the_change_is_found_applied_and_measured() -> None:
    advice = advised()
    pooling = next(item for item in advice.suggestions if item.rule == "global-pooling")
    params = next(figure for figure in pooling.figures if figure.name == "totals.params")
    assert params.difference == -(64 * 8 * 8 - 64) * 10
    assert pooling.where == ("head",)
    assert pooling.code == f"test_engine.py:{_line('self.head = nn.Linear')}"
    assert pooling.proof == ("run on the CPU: output [1, 10] as before",)


def _line(text: str) -> int:
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_gains_equal_a_measurement_of_the_changed_model() -> None:
    model = Wide()
    for suggestion in tg.advise(model, (3, 8, 8)).suggestions:
        changed = tg.analyze(suggestion.apply(model), (3, 8, 8))
        for figure in suggestion.figures:
            part, _, field = figure.name.partition(".")
            assert getattr(getattr(changed, part), field) == figure.after, figure.name


def test_the_model_is_left_as_it_was() -> None:
    model = Wide()
    before = fingerprint(model)
    advice = tg.advise(model, (3, 8, 8), mode="training", optimizer="adamw", device="T4")
    assert same(fingerprint(model), before)
    changed = next(item for item in advice.suggestions if not item.scenario)
    copied = changed.apply(model)
    after = fingerprint(model)
    assert same({**after, "rng": before["rng"]}, before), "new layers draw their weights"
    mine = {tensor.data_ptr() for tensor in model.parameters()}
    assert not mine & {tensor.data_ptr() for tensor in copied.parameters()}, "apply shares nothing"


def test_a_scenario_is_not_applied_to_a_model() -> None:
    advice = advised(mode="training", optimizer="adamw", device="T4")
    scenario = next(item for item in advice.suggestions if item.rule == "scenario")
    with pytest.raises(UsageError, match="changes how the model runs"):
        scenario.apply(Wide())


def test_a_suggestion_is_not_applied_to_another_model() -> None:
    pooling = next(item for item in advised().suggestions if item.rule == "global-pooling")
    with pytest.raises(UsageError, match="cannot be applied to this Sequential"):
        pooling.apply(nn.Sequential(nn.Linear(2, 2)))


def test_what_is_not_allowed_is_not_shown_and_said() -> None:
    advice = advised(allow="none")
    assert all(item.accuracy == "none" for item in advice.suggestions)
    quiet = {item.rule: item.why for item in advice.quiet}
    assert "not allowed (accuracy retrain)" in quiet["global-pooling"]


def test_every_rule_speaks_or_says_why_not() -> None:
    advice = advised()
    spoke = {item.rule for item in (*advice.suggestions, *advice.faults)}
    assert spoke | {item.rule for item in advice.quiet} == set(RULES)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_described(name: str) -> None:
    rule = rule_of(name)
    assert rule.name == name and rule.about


@pytest.mark.parametrize(
    ("goal", "reached"),
    [
        ("params:-90%", True), ("params:100K", True), ("params:-99.99%", False),
        ("macs:2.5M", True), ("memory:10GB", True), ("macs:1", False),
    ],
)  # fmt: skip
def test_goals(goal: str, reached: bool) -> None:
    advice = advised(goal=goal)
    assert advice.reached is reached
    if advice.path:
        assert advice.path[-1].reached is reached
        assert all(not step.reached for step in advice.path[:-1]), "it stops when it is there"
    assert get_format("text", width=100).render(advice_page(advice))


def test_steps_of_a_path_are_measured_together() -> None:
    advice = advised(goal="macs:1")
    assert len(advice.path) > 1
    last = {figure.name: figure.after for figure in advice.path[-1].figures}
    request = request_of(Wide(), (3, 8, 8), {})
    model = request.model
    for step in advice.path:
        same = next(item for item in advice.suggestions if item.text == step.text)
        model = same.apply(model)
    assert tg.analyze(model, (3, 8, 8)).totals.forward_macs == last["totals.forward_macs"]


def test_the_best_combinations_are_traced_together() -> None:
    asked: dict[str, Any] = {"mode": "training", "optimizer": "adamw", "device": "H100-SXM"}
    advice = tg.advise(Wide(), (64, 3, 8, 8), **asked)
    assert advice.front and advice.front_axes == ("memory.device_bytes", "time.total_ms")
    assert 0 < advice.combinations <= FRONT_LIMIT
    several = [item for item in advice.front if len(item.changes) > 1]
    assert several, "no combination is better than its parts"
    changes = _changes_of(advice)
    for item in several:
        model, fields = Wide(), dict(asked)
        for name in item.changes:
            suggestion = changes[name]
            fields |= suggestion.scenario
            if not suggestion.scenario:
                model = suggestion.apply(model)
        report = tg.analyze(model, (64, 3, 8, 8), **fields)
        for figure in item.figures:
            part, _, field = figure.name.partition(".")
            assert getattr(getattr(report, part), field) == figure.after, (item, figure.name)
    points = [
        (*(f.after for f in item.figures if f.name in advice.front_axes), item.accuracy.rank)
        for item in advice.front
    ]
    assert points == sorted(points)
    for one in points:
        assert not any(
            other != one and all(a <= b for a, b in zip(other, one, strict=True))
            for other in points
        )
    text = get_format("text", width=80).render(advice_page(advice))
    assert "Combinations that nothing traced beats in memory and time" in text
    written = json.loads(advice.to_json())
    assert [tuple(item["changes"]) for item in written["front"]] == [
        item.changes for item in advice.front
    ]
    assert (
        written["combinations"] == advice.combinations and written["exhausted"] is advice.exhausted
    )


def _changes_of(advice: Advice) -> dict[str, Suggestion]:
    """Return the suggestions by what a combination calls them."""
    subject = Subject(
        request=request_of(Wide(), (64, 3, 8, 8), {}),
        report=tg.analyze(Wide(), (64, 3, 8, 8), scenario=advice.scenario),
    )
    found = {}
    for item in advice.suggestions:
        for change in rule_of(item.rule).look(subject):
            if isinstance(change, Change) and change.text == item.text:
                found[change.name] = item
    return found


def test_a_goal_leaves_the_front_out() -> None:
    assert not advised(goal="params:-50%").front


def test_rules_that_take_long_are_asked_where_a_goal_is_not_reached() -> None:
    def asked(advice: Advice) -> bool:
        spoke = (*advice.suggestions, *advice.quiet)
        return any(item.rule == "prune" for item in spoke)

    assert not asked(advised())
    assert not asked(advised(goal="params:-50%")), "it is reached without them"
    assert asked(advised(goal="params:-99.99%"))
    assert not asked(advised(goal="params:-99.99%", rules=("low-rank",)))


def test_a_batch_is_accumulated_whole() -> None:
    asked: dict[str, Any] = {"mode": "training", "optimizer": "sgd", "device": "T4"}
    advice = tg.advise(Wide(), (1024, 3, 8, 8), rules=("scenario",), **asked)
    (half,) = [item for item in advice.suggestions if "micro-batches" in item.text]
    assert half.scenario == {"accumulation": 2}
    report = tg.analyze(Wide(), (512, 3, 8, 8), accumulation=2, **asked)
    after = {figure.name: figure.after for figure in half.figures}
    assert after["memory.device_bytes"] == report.memory.device_bytes
    assert after["time.total_ms"] == report.time.total_ms


def test_adapters_leave_the_model_as_it_was() -> None:
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(4)))
    before = fingerprint(model)
    advice = tg.advise(
        model, (8, 64), rules=("lora",), mode="training", optimizer="adamw", device="T4"
    )
    assert same(fingerprint(model), before)
    assert all(tensor.requires_grad for tensor in model.parameters())
    (lora,) = advice.suggestions
    adapted = lora.apply(model)
    trained = sum(t.numel() for t in adapted.parameters() if t.requires_grad)
    assert trained == 4 * 2 * 16 * 64
    assert adapted(torch.zeros(2, 64)).shape == (2, 64)


def test_a_goal_of_a_device_traces_for_it() -> None:
    advice = advised(goal="fit:RTX 3060 12GB")
    assert advice.scenario.device == "RTX 3060 12GB" and advice.reached


def test_where_no_way_leads_to_a_device_the_nearest_one_is_named() -> None:
    wide = nn.Linear(70_000, 70_000, bias=False, device="meta")
    advice = tg.advise(wide, (2, 70_000), goal="fit:T4", rules=("scenario",), allow="none")
    assert advice.reached is False and advice.nearest
    name = advice.nearest.removeprefix("it fits ")
    assert tg.fits(wide, (2, 70_000), device=name).devices[0].fits
    assert f"not reached · {advice.nearest}" in get_format("text", width=100).render(
        advice_page(advice)
    )


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        ("param:-50%", "is not a goal"), ("params", "is not a goal"), ("memory:lots", "is not"),
        ("latency:20", "is not a goal"), ("latency:20ms", "no time can be predicted for cpu"),
    ],
)  # fmt: skip
def test_what_is_not_a_goal(goal: str, message: str) -> None:
    if goal == "latency:20":
        with pytest.raises(UsageError, match=message):
            advised(goal=goal, device="T4")
        return
    with pytest.raises(UsageError, match=message):
        advised(goal=goal)


def test_it_needs_an_input() -> None:
    with pytest.raises(UsageError, match="no input was given"):
        tg.advise(Wide())


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        ((3, 8, 8), {"batch_size": 8}, {"size": (3, 8, 8), "batch_size": 4}),
        ((8, 3, 8, 8), {}, {"size": (4, 3, 8, 8), "batch_size": None}),
        # a size without a batch, which the first layer tells
        ((3, 8, 8), {}, {"size": (3, 8, 8), "batch_size": 4}),
    ],
)
def test_a_changed_batch(size: Any, options: Any, expected: Any) -> None:
    request = request_of(Wide(), size, options)
    ran = ran_of(tg.analyze(Wide(), size, **options))
    changed = with_batch(request.inputs, 4, ran)
    assert {name: getattr(changed, name) for name in expected} == expected


def test_the_batch_of_given_data_stays() -> None:
    data = torch.zeros(8, 3, 8, 8)
    request = request_of(Wide(), None, {"input_data": data})
    with pytest.raises(UsageError, match="which dimension of the inputs is the batch"):
        with_batch(request.inputs, 4, ran_of(tg.analyze(Wide(), input_data=data)))


def test_it_is_saved_and_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    model = "examples/simple_cnn.py:SimpleCNN"
    asked = ["advise", model, "--input-size", "3,224,224", "--no-proof", "--quiet"]
    assert main([*asked, "--format", "json", "--rule", "global-pooling"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["suggestions"][0]["figures"][0] == {
        "name": "totals.params", "before": 401_484_648, "after": 204_648,
        "difference": -401_280_000, "ratio": 204_648 / 401_484_648,
    }  # fmt: skip
    for format in ("markdown", "html", "csv", "latex"):
        assert main([*asked, "--format", format]) == 0
        assert "204" in capsys.readouterr().out


def test_exit_status_and_messages(capsys: pytest.CaptureFixture[str]) -> None:
    asked = [
        "advise",
        "examples/simple_cnn.py:SimpleCNN",
        "--input-size",
        "3,224,224",
        "--no-proof",
    ]
    assert main([*asked, "--goal", "params:-99.999%", "--quiet"]) == 1
    assert "params:-99.999% is not reached" in capsys.readouterr().err
    assert main([*asked, "--rule", "global-poling"]) == 2
    assert "there is no rule 'global-poling'" in capsys.readouterr().err
    assert main([*asked, "--allow", "accuracy=all"]) == 2
    assert "accuracy=small" in capsys.readouterr().err
    assert main([*asked, "--explain", "scenario"]) == 0
    assert "scenario: the model has nothing of the kind" in capsys.readouterr().err


def test_a_change_that_does_not_run_is_not_shown() -> None:
    change = Change(rule="global-pooling", text="x", why="y", where=("nowhere",))
    with pytest.raises(UsageError, match="cannot be applied"):
        rewritten(change, Wide(), rule_of("global-pooling"))


def test_what_makes_a_step_longer_comes_later() -> None:
    """Of changes that keep the function, what they save less what they make longer decides."""
    model = nn.Sequential(*(nn.Sequential(nn.Linear(256, 256), nn.GELU()) for _ in range(6)))
    advice = tg.advise(model, (4096, 256), mode="training", device="T4")
    kept = [item for item in advice.suggestions if item.accuracy == "none"]
    longer = [max(-item.gain("time.total_ms"), 0.0) for item in kept]
    names = ("memory.device_bytes", "memory.peak_allocated_bytes", "time.total_ms")
    most = [max(map(item.gain, names)) for item in kept]
    worth = [gain - price for gain, price in zip(most, longer, strict=True)]
    assert worth == sorted(worth, reverse=True)
    assert most != sorted(most, reverse=True)  # the largest gain alone would be another order


class Turned(nn.Module):
    """A map whose channels stand last when it is flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)
        self.head = nn.Linear(16 * 28 * 28, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().permute(0, 2, 3, 1).flatten(1))


class Words(nn.Module):
    """Four dimensions, none of which is a pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.head = nn.Linear(4 * 5 * 16, 10)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.relu(self.embedding(ids)).flatten(1))


class Heads(nn.Module):
    """Attention whose heads are put side by side again."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(32 * 64, 100)

    def forward(self, x: Tensor) -> Tensor:
        q = x.view(-1, 32, 4, 16).transpose(1, 2)
        y = nn.functional.scaled_dot_product_attention(q, q, q)
        return self.head(y.transpose(1, 2).reshape(-1, 32, 64).flatten(1))


@pytest.mark.parametrize(
    "model, given",
    [
        (Turned(), torch.zeros(2, 3, 30, 30)),
        (Words(), torch.zeros(2, 4, 5, dtype=torch.long)),
        (Heads(), torch.zeros(2, 32, 64)),
    ],
)
def test_pixels_are_averaged_only_of_maps(model: nn.Module, given: Tensor) -> None:
    assert not tg.advise(model, input_data=given, rules=("global-pooling",)).suggestions


class Now(nn.Module):
    """One layer in training alone, one for large batches, one for nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.trained = nn.Linear(8, 8), nn.Linear(8, 8)
        self.large, self.left = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self._trained(self.used(x))
        return self.large(x) if x.shape[0] > 4 else x

    def _trained(self, x: Tensor) -> Tensor:
        return self.trained(x) if self.training else x


def test_only_what_no_code_names_is_removed() -> None:
    advice = tg.advise(Now().eval(), (2, 8), rules=("never-called",))
    (suggestion,) = advice.suggestions
    assert suggestion.where == ("left",)
    assert any("may be with other inputs or modes" in item.why for item in advice.quiet)
    with pytest.raises(RuntimeError, match="was left out"):
        suggestion.apply(Now()).left(torch.zeros(2, 8))


def test_a_new_layer_is_frozen_where_the_old_one_was() -> None:
    model = Wide().eval()
    model.head.requires_grad_(False)
    pooled = tg.advise(model, (3, 8, 8), rules=("global-pooling",)).suggestions[0].apply(model)
    assert not any(parameter.requires_grad for parameter in pooled.head.parameters())
    assert not any(module.training for module in pooled.head.modules())


def test_a_layer_with_hooks_is_not_replaced() -> None:
    model = Wide()
    model.head.register_forward_hook(lambda module, given, output: output)
    advice = tg.advise(model, (3, 8, 8), rules=("global-pooling",))
    assert not advice.suggestions
    assert "hooks of head would be lost" in advice.quiet[0].why


@pytest.mark.parametrize("goal", ["memory:8", "params:-150%", "params:-100%"])
def test_goals_that_nobody_can_mean_are_refused(goal: str) -> None:
    with pytest.raises(UsageError, match="is not a goal"):
        advised(goal=goal)


def test_a_goal_of_latency_on_a_cpu_says_what_brings_it() -> None:
    with pytest.raises(UsageError) as refused:
        tg.advise(Wide(), (3, 8, 8), goal="latency:5ms", device="cpu")
    assert refused.value.message == (
        "'latency:5ms' cannot be checked: no time can be predicted for cpu"
    )
    assert refused.value.hint == (
        "name a GPU: --device T4; for this CPU, torchgauge measure --calibrate"
    )
