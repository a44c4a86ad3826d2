"""What a change does on the user's data: each figure by hand, the model untouched, errors told."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from checked_data import (
    Net,
    a_script,
    a_word,
    broken,
    endless,
    for_each_sample,
    loader,
    nothing_known,
    one_element,
    trained,
)
from torch import Tensor, nn

import torchgauge as tg
from torchgauge.advise.check.run import Check
from torchgauge.cli.main import main
from torchgauge.errors import UsageError
from torchgauge.facts.loop.advice import Advice
from torchgauge.language import spoken
from torchgauge.render import get_format
from torchgauge.render.pages.loop.advice import advice_page
from untouched import fingerprint, same

FILE = Path(__file__).parent / "checked_data.py"


def advised(model: nn.Module | None = None, **options: Any) -> Advice:
    options = {"rules": ("global-pooling", "low-rank"), "prove": False} | options
    return tg.advise(trained() if model is None else model, (1, 3, 8, 8), **options)


def accuracy(model: nn.Module) -> float:
    right = [model.eval()(x).argmax(1) == y for x, y in loader()]
    return float(torch.cat(right).double().mean())


def test_before_and_after_are_those_of_a_plain_loop() -> None:
    model = trained()
    before = fingerprint(model)
    advice = advised(model, rules=("low-rank",), check=loader)
    assert same(fingerprint(model), before)
    check = advice.data_check
    assert check is not None
    assert (check.data, check.metric, check.samples) == ("function", "accuracy", 32)
    assert check.is_complete and check.weights == ""
    assert check.before == accuracy(trained())
    (found,) = advice.suggestions
    assert found.check is not None and found.check.note == "before retraining"
    again = trained()
    torch.manual_seed(0)  # the decomposition draws random numbers
    assert found.check.after == accuracy(found.apply(again))


class WithSpare(Net):
    """Holds a layer that nothing calls."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(9, 999)


def test_what_keeps_the_function_keeps_the_figure() -> None:
    advice = advised(WithSpare(), rules=("never-called",), check=list(loader()))
    (found,) = advice.suggestions
    assert found.check is not None and found.check.note == ""
    assert found.check.after == found.check.before == advice.data_check.before  # type: ignore[union-attr]


def test_steps_of_a_path_are_measured_together() -> None:
    rules = ("never-called", "global-pooling")
    advice = advised(WithSpare(), rules=rules, goal="params:-90%", check=loader)
    assert advice.reached and len(advice.path) == 2
    alone = {item.text: item.check for item in advice.suggestions}
    assert advice.path[0].check == alone[advice.path[0].text]
    assert all(step.check is not None for step in advice.path)


def test_a_generator_that_is_read_once_serves_all_models() -> None:
    given = loader()
    advice = advised(check=given)
    assert advice.data_check is not None and advice.data_check.samples == 32
    assert all(item.check is not None for item in advice.suggestions)


def test_nothing_is_claimed_without_data() -> None:
    advice = advised()
    assert advice.data_check is None
    assert all(item.check is None for item in advice.suggestions)


class Returning(nn.Module):
    """Returns what it is made with, whatever comes in."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output, self.layer = output, nn.Linear(1, 1)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        return self.output


LOGITS = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
X = torch.zeros(3, 1)


@pytest.mark.parametrize(
    ("output", "batch", "metric", "value"),
    [
        (LOGITS, (X, torch.tensor([1, 1, 1])), "accuracy", 2 / 3),
        (LOGITS, (X, torch.tensor([1, -100, 1])), "accuracy", 1.0),
        (LOGITS, {"x": X, "labels": torch.tensor([0, 0, 1]), "id": 5}, "accuracy", 2 / 3),
        ((LOGITS, X), ((X,), torch.tensor([0, 0, 0])), "accuracy", 1 / 3),
        (LOGITS[:, None, :].expand(3, 4, 2), (X, torch.ones(3, 4).long()), "accuracy", 2 / 3),
        (LOGITS[..., None].expand(3, 2, 4), (X, torch.ones(3, 4).long()), "accuracy", 2 / 3),
        (LOGITS, (X, torch.zeros(3, 2)), "mean squared error", 0.5),
        (LOGITS[:, :1], (X, torch.ones(3)), "mean squared error", 2 / 3),
        (SimpleNamespace(loss=torch.tensor(0.25), logits=LOGITS), {"x": X}, "loss", 0.25),
        ({"loss": torch.tensor(0.25), "logits": LOGITS}, {"x": X}, "loss", 0.25),
    ],
)
def test_the_metric_that_fits(output: Any, batch: Any, metric: str, value: float) -> None:
    found = Check(loader=[batch, batch], name="data").run(Returning(output), [])
    assert (found.metric, found.samples) == (metric, 6)
    assert found.before == pytest.approx(value, rel=1e-6)


def test_batches_weigh_as_much_as_they_hold() -> None:
    def metric(outputs: Tensor, targets: Tensor) -> float:
        return float(targets.float().mean())

    data = [(torch.zeros(1, 1), torch.ones(1)), (torch.zeros(3, 1), torch.zeros(3))]
    found = Check(loader=data, name="data", metric=metric).run(Returning(LOGITS), [])
    assert (found.metric, found.before) == ("metric", 0.25)


@pytest.mark.parametrize(
    ("output", "data", "message"),
    [
        (LOGITS, [], "data gives no batch"),
        (LOGITS, 5, "data failed: TypeError: 'int' object is not iterable"),
        (LOGITS, [3], "data gives int, which holds no tensor"),
        (LOGITS, [(X, None)], "the data hold no targets, and the model returns no loss"),
        (LOGITS, [{"image": X}], "dicts with image, and the model's forward takes none of that"),
        (LOGITS, [(X, torch.zeros(3, 5).long())], "no metric is known for outputs [3, 2]"),
        (None, [(X, torch.zeros(3))], "the model returns NoneType"),
        (LOGITS, [(X, torch.full((3,), -100))], "every target has the ignored index"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_used(output: Any, data: Any, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        Check(loader=data, name="data").run(Returning(output), [])
    assert message in raised.value.message


def test_a_loader_that_raises_is_told_with_its_line() -> None:
    with pytest.raises(UsageError, match=r"function failed at .*checked_data.py:\d+: OSError: the"):
        advised(check=broken)


def test_a_metric_that_raises_is_told() -> None:
    with pytest.raises(UsageError, match="the metric <lambda> failed"):
        advised(check=loader, check_metric=lambda outputs, targets: outputs.nothing)
    with pytest.raises(UsageError, match="a metric without data"):
        advised(check_metric=lambda outputs, targets: 1.0)


def test_a_model_that_does_not_take_the_data() -> None:
    with pytest.raises(UsageError, match="the model fails on what list gives: RuntimeError"):
        advised(check=[(torch.zeros(2, 1, 8, 8), torch.zeros(2).long())])
    with pytest.raises(UsageError, match="the model has no weights"):
        advised(Net().to("meta"), check=loader)


def test_time_that_is_up() -> None:
    advice = advised(check=endless, check_limit_s=0.2)
    check = advice.data_check
    assert check is not None and not check.is_complete and check.samples % 8 == 0
    with pytest.raises(UsageError, match="the time for the check is not positive"):
        advised(check=endless, check_limit_s=0)


def test_a_norm_without_a_batch_says_that_the_model_is_untrained() -> None:
    class Normed(Net):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16))

    advice = advised(Normed(), check=loader)
    assert advice.data_check is not None
    assert "have not seen a batch" in advice.data_check.weights


def test_the_command_measures_in_a_process_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ["advise", f"{FILE}:trained", "--input-size", "1,3,8,8", "--no-proof", "--quiet"]
    asked += ["--rule", "global-pooling", "--format", "json"]
    assert main([*asked, "--check", f"{FILE}:loader"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["data_check"]["before"] == accuracy(trained())
    assert found["data_check"]["weights"] == ""
    assert found["suggestions"][0]["check"]["note"] == "before retraining"
    assert main([*asked, "--check", f"{FILE}:broken"]) == 2
    assert "OSError: the disk is gone" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "data", "more", "status", "message"),
    [
        ("Net", "loader", ["--check-metric", f"{FILE}:share_of_zeros"], 0, "share_of_zeros"),
        ("Net", "loader", [], 0, "the model's weights are random, as they were built"),
        ("trained", "ends_the_program", [], 2, "no data here"),
        ("trained", "ends_the_program", [], 2, "ends the program (sys.exit at "),
        ("trained", "nothing", [], 2, "has no 'nothing'"),
    ],
)
def test_the_command_says_what_it_found(
    model: str, data: str, more: list[str], status: int, message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    asked = ["advise", f"{FILE}:{model}", "--input-size", "1,3,8,8", "--no-proof", "--quiet"]
    asked += ["--rule", "global-pooling", "--check", f"{FILE}:{data}", *more]
    assert main(asked) == status
    captured = capsys.readouterr()
    assert message in captured.out + captured.err


def test_the_page_shows_what_was_measured() -> None:
    advice = advised(check=loader, goal="params:-99.9%")
    for width in (80, 120):
        text = get_format("text", width=width).render(advice_page(advice))
        assert ", 32 samples" in text and "before retraining" in text
        assert max(map(len, text.splitlines())) <= width or "$" in text
    with spoken("zh"):
        assert ", 32 个样本" in get_format("text", width=80).render(advice_page(advice))


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (nothing_known, "nothing_known is nan for a batch"),
        (a_word, "the metric a_word returns str, not a number"),
        (for_each_sample, "the metric for_each_sample returns Tensor of shape [8], not a number"),
        (a_script, "the metric a_script ends the program (sys.exit at "),
        (lambda outputs, targets: None, "returns NoneType, not a number"),
        (lambda outputs, targets: 1j, "returns complex, not a number"),
        (lambda outputs, targets: -math.inf, "is -inf for a batch"),
    ],
)
def test_a_metric_that_gives_no_number(metric: Any, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        advised(check=loader, check_metric=metric)
    assert said in refused.value.message


def test_a_metric_of_one_element_is_a_number() -> None:
    advice = advised(rules=("low-rank",), check=loader, check_metric=one_element)
    assert advice.data_check is not None and 0 <= advice.data_check.before <= 1


def test_a_copy_that_gives_no_number_has_none_and_says_why() -> None:
    def of_the_weights(outputs: Tensor, targets: Tensor) -> float:
        seen.append(1)
        return math.nan if len(seen) == 2 else 1.0  # the second is that of the copy

    seen: list[int] = []
    advice = advised(rules=("low-rank",), check=loader, check_metric=of_the_weights)
    (found,) = advice.suggestions
    assert found.check is not None and found.check.after is None
    assert found.check.note == "of_the_weights is nan for a batch"
    assert "NaN" not in advice.to_json()
