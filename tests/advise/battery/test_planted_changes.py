"""Each change is found, and saves what a model written by hand saves: traced, and run for real."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from planted_changes import MAP, REWRITTEN, CastsBefore, Rewritten, Words, pooled, row, wide
from torch import nn

import torchgauge as tg
from real_memory import real_peak
from torchgauge.facts.loop.advice import Suggestion

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
MEASURED = tuple(
    c for c in REWRITTEN
    if "precision" not in c.case.options and c.case.options.get("dtypes") != ["bfloat16"]
)  # fmt: skip
"""Products of 16 bits take scratch memory that depends on the processor."""


_found: dict[str, Suggestion] = {}


def the_change(case: Rewritten) -> Suggestion:
    """Return what the rule suggests; asked once for each case."""
    if str(case) not in _found:
        asked = case.case
        advice = tg.advise(asked.make(), asked.size, rules=(asked.rule,), **asked.options)
        assert advice.suggestions, advice.quiet
        (_found[str(case)],) = advice.suggestions
    return _found[str(case)]


def inputs_of(case: Rewritten) -> torch.Tensor:
    if case.case.options.get("dtypes") == ["int64"]:
        return torch.randint(0, 900, case.case.size)
    return torch.randn(case.case.size)


@pytest.mark.parametrize("case", REWRITTEN, ids=str)
def test_it_is_found_and_its_figures_are_those_of_the_hand_written_model(case: Rewritten) -> None:
    found, asked = the_change(case), case.case
    assert found.where == asked.where
    assert "run on the CPU: output" in found.proof[0]
    report = tg.analyze(case.after(), asked.size, **asked.options)
    for figure in found.figures:
        part, _, field = figure.name.partition(".")
        assert getattr(getattr(report, part), field) == figure.after, figure.name


@pytest.mark.parametrize("case", MEASURED, ids=str)
def test_the_changed_copy_takes_as_much_as_a_real_step(case: Rewritten) -> None:
    asked = case.case
    peak = {f.name: f.after for f in the_change(case).figures}["memory.peak_allocated_bytes"]
    x = inputs_of(case)
    training = bool(asked.options.get("mode"))
    assert real_peak(case.after(), x, training=training) == pytest.approx(peak, rel=0.001)


@pytest.mark.parametrize("case", REWRITTEN, ids=str)
def test_the_change_is_made_in_a_copy_alone(case: Rewritten) -> None:
    model = case.case.make()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    advice = tg.advise(model, case.case.size, rules=(case.case.rule,), **case.case.options)
    advice.suggestions[0].apply(model)
    if case in MEASURED:
        model.eval()(inputs_of(case))  # its classes are as they were too
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("how", ["next", "dots", "all", "module"])
def test_a_loss_in_parts_has_the_same_gradients(how: str) -> None:
    model = Words(how)
    (found,) = tg.advise(
        model, (8, 64), rules=("chunked-loss",), mode="training", dtypes=["int64"]
    ).suggestions
    changed = found.apply(model)
    words = torch.randint(0, 900, (8, 64))
    words[0, :9] = 7
    for copied in (model, changed):
        copied(words).backward()
    assert dict(changed.named_parameters()).keys() == dict(model.named_parameters()).keys()
    for before, after in zip(model.parameters(), changed.parameters(), strict=True):
        torch.testing.assert_close(after.grad, before.grad, rtol=1e-4, atol=1e-6)


class Smoothed(Words):
    """A loss that is not the plain mean."""

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        logits = self.head(self.embed(words)).flatten(0, 1)
        return nn.functional.cross_entropy(logits, words.flatten(), label_smoothing=0.1)


class Scaled(Words):
    """Logits that are changed before the loss."""

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        logits = self.head(self.embed(words)).flatten(0, 1) * 0.5
        return nn.functional.cross_entropy(logits, words.flatten())


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Smoothed(), "no mean cross-entropy"),
        (Scaled(), "not that of a linear head"),
        (nn.Sequential(nn.Embedding(999, 32), nn.Linear(32, 999)), "computed by the model"),
    ],
)
def test_another_loss_is_left(model: nn.Module, why: str) -> None:
    options: dict[str, Any] = {"mode": "training", "dtypes": ["int64"]}
    if "computed by" in why:
        options["loss"] = "cross_entropy"
    (quiet,) = tg.advise(model, (8, 64), rules=("chunked-loss",), prove=False, **options).quiet
    assert why in quiet.why


class TwoReaders(nn.Module):
    """The pool's input is read again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 16, 3, padding=1), nn.MaxPool2d(2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.conv(x)
        return self.pool(y), y


FLAT = nn.Sequential(*list(row())[:-3], nn.Flatten(), nn.Linear(16 * 32 * 32, 4))
QUIET: tuple[tuple[str, nn.Module, tuple[int, ...], dict[str, Any], str], ...] = (
    ("grouped-convolution", nn.Conv2d(8, 8, 3), (2, 8, 8, 8), {}, "less than a tenth"),
    ("stride-earlier", pooled(), (2, 3, 30, 31), {}, "odd number of pixels"),
    ("stride-earlier", TwoReaders(), (2, 3, 32, 32), {}, "nothing of the kind"),
    ("stride-earlier", row(), (2, 3, 32, 32), {}, "has no pool of 2 × 2"),
    ("no-downsampling", row(count=2), MAP["size"], {}, "no three convolutions"),
    ("no-downsampling", FLAT, MAP["size"], {}, "does not run"),
    ("wide-early-maps", wide(16), MAP["size"], {}, "no convolution of 32 channels"),
    ("constant-folding", nn.Linear(4, 4), (2, 4), {}, "depends on parameters alone"),
    ("constant-folding", nn.Linear(4, 4), (2, 4), {"mode": "training"}, "in training"),
    ("unused-parameter", nn.Linear(4, 4), (2, 4), {}, "in use is read"),
    ("fp32-islands", nn.Linear(4, 4), (2, 4), {}, "does not compute in 16 bits"),
    ("fp32-islands", nn.Linear(4, 4), (2, 4), {"precision": "bf16"}, "has 16 bits"),
    ("fp32-islands", CastsBefore(casts=False), (2, 4, 64), {"precision": "bf16-autocast"},
     "has 16 bits"),
    ("chunked-loss", nn.Linear(4, 4), (2, 4), {}, "no cross-entropy"),
    ("shared-keys", nn.Linear(4, 4), (2, 4), {}, "no attention of transformers"),
    ("kept-graph", nn.Linear(4, 4), (2, 4), {}, "without gradients"),
    ("kept-graph", nn.Linear(4, 4), (2, 4), {"mode": "training"}, "does not return"),
    ("tf32", nn.Linear(4, 4), (2, 4), {}, "runs on a CPU"),
    ("tf32", nn.Linear(4, 4), (2, 4), {"device": "T4"}, "T4 has no TF32"),
    ("tf32", nn.Linear(4, 4), (2, 4), {"device": "T4", "precision": "fp16"},
     "computed in fp16"),
    ("compile", nn.Linear(4, 4), (2, 4), {}, "is not predicted"),
    ("compile", nn.Linear(4, 4), (2, 4), {"device": "T4", "compiled": True}, "compiled already"),
    ("int8-weights", nn.Conv2d(3, 3, 1), (1, 3, 4, 4), {}, "no linear layer|not installed"),
    ("int8-weights", nn.Linear(4, 4), (2, 4), {"mode": "training"}, "cannot be trained"),
)  # fmt: skip


@pytest.mark.parametrize(("rule", "model", "size", "options", "why"), QUIET)
def test_why_a_rule_says_nothing(
    rule: str, model: nn.Module, size: tuple[int, ...], options: dict[str, Any], why: str
) -> None:
    advice = tg.advise(model, size, rules=(rule,), prove=False, **options)
    assert not advice.suggestions and not advice.faults
    assert any(part in advice.quiet[0].why for part in why.split("|")), advice.quiet


def test_tf32_and_compile_gain_by_prediction() -> None:
    model = nn.Sequential(nn.Linear(2048, 2048), nn.ReLU())
    options: dict[str, Any] = {"device": "A100-SXM4-40GB"}
    found = tg.advise(model, (2048, 2048), rules=("tf32", "compile"), **options).suggestions
    assert {item.rule for item in found} == {"tf32", "compile"}
    for item in found:
        report = tg.analyze(model, (2048, 2048), **options, **item.scenario)
        assert report.time is not None
        told = {figure.name: figure.after for figure in item.figures}
        assert report.time.total_ms == told["time.total_ms"]


def test_a_changed_copy_with_another_output_is_not_shown_without_a_real_run() -> None:
    rows = nn.Sequential(*list(row())[:-3])  # the map itself is returned
    advice = tg.advise(rows, MAP["size"], rules=("no-downsampling",), prove=False)
    assert "the output has another shape" in advice.quiet[0].why
