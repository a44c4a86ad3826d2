"""The one change that a summary names: measured, cheap, and only where it is worth a line."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchgauge as tg
from torchgauge.advise import best
from torchgauge.advise.best import best_suggestion
from torchgauge.analyze import analyze_model
from torchgauge.cli.main import main
from torchgauge.facts.loop.advice import Suggestion
from torchgauge.facts.report import report_from_json
from torchgauge.models.requests import request_of
from untouched import fingerprint, same

CNN = "examples/simple_cnn.py:SimpleCNN"
ASKED = ["summary", CNN, "--input-size", "3,224,224", "--quiet"]


class Wide(nn.Module):
    """A map of 8 × 8 pixels, flattened into a wide classifier below another module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 3, padding=1)
        self.top = nn.ModuleDict({"head": nn.Linear(64 * 8 * 8, 10)})

    def forward(self, x: Tensor) -> Tensor:
        return self.top["head"](torch.relu(self.conv(x)).flatten(1))


class Tied(Wide):
    """The classifier's weight is also somebody else's: a smaller one saves nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(64 * 8 * 8, 10)
        self.top["head"].weight = self.other.weight

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.other(torch.relu(self.conv(x)).flatten(1))


def found(model: Any, size: Any, *, may_trace: bool = True, **options: Any) -> Suggestion | None:
    request = request_of(model, size, options)
    return best_suggestion(request, analyze_model(request), may_trace=may_trace)


@pytest.mark.parametrize("may_trace", [True, False])
@pytest.mark.parametrize("batch", [1, 4])
def test_a_layer_is_measured_as_the_advisor_measures_the_model(may_trace: bool, batch: int) -> None:
    one = found(Wide(), (3, 8, 8), may_trace=may_trace, batch_size=batch)
    advice = tg.advise(Wide(), (3, 8, 8), batch_size=batch)
    other = next(item for item in advice.suggestions if item.rule == "global-pooling")
    assert one is not None and one.text == other.text
    measured = {figure.name: figure for figure in other.figures}
    assert [figure.name for figure in one.figures] == [
        "totals.params", "totals.param_bytes", "totals.forward_macs",
    ]  # fmt: skip
    for figure in one.figures:
        assert figure == measured[figure.name]


def test_a_training_step_has_the_same_layer() -> None:
    one = found(Wide(), (3, 8, 8), mode="training", batch_size=4)
    assert one is not None and one.rule == "global-pooling"
    changed = tg.analyze(one.apply(Wide()), (3, 8, 8), mode="training", batch_size=4)
    assert changed.totals.forward_macs == one.figures[2].after


def test_the_model_stays() -> None:
    model = Wide()
    before = fingerprint(model)
    assert found(model, (3, 8, 8)) is not None
    assert same(fingerprint(model), before)


def test_where_the_totals_do_not_follow_from_the_layer_nothing_is_said() -> None:
    assert found(Tied(), (3, 8, 8)) is None


def test_a_gpu_that_computes_in_fp32_is_told_of_autocast() -> None:
    one = found("torchvision:resnet18", (3, 64, 64), mode="training", device="T4", batch_size=8)
    assert one is not None and one.scenario == {"precision": "fp16-autocast"}
    after = tg.analyze(
        "torchvision:resnet18", (3, 64, 64), mode="training", device="T4", batch_size=8,
        precision="fp16-autocast",
    )  # fmt: skip
    figures = {figure.name: figure.after for figure in one.figures}
    assert after.memory is not None and after.time is not None
    assert figures["memory.device_bytes"] == after.memory.device_bytes
    assert figures["time.total_ms"] == after.time.total_ms


def test_a_step_that_does_not_fit_needs_memory_first() -> None:
    one = found("torchvision:resnet18", (3, 224, 224), mode="training", device="T4", batch_size=512)
    assert one is not None and one.scenario == {"checkpointing": True}


def test_what_takes_a_trace_is_left_out_where_there_is_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, Any] = {"mode": "training", "device": "T4", "batch_size": 8}
    assert found("torchvision:resnet18", (3, 64, 64), may_trace=False, **asked) is None
    monkeypatch.setattr(best, "_MOST_OPERATORS", 10)
    assert found("torchvision:resnet18", (3, 64, 64), **asked) is None


def test_at_most_one_step_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    request = request_of("torchvision:resnet18", (3, 64, 64), {"mode": "training", "device": "T4"})
    report = analyze_model(request)
    traced: list[object] = []
    monkeypatch.setattr(best, "analyze_model", lambda asked: (traced.append(1), report)[1])
    assert best_suggestion(request, report) is None, "it saves nothing"
    assert len(traced) == 1


@pytest.mark.parametrize(
    ("model", "size"),
    [("torchvision:resnet18", (3, 64, 64)), (nn.Linear(8, 2), (4, 8)), (Wide(), None)],
)
def test_where_nothing_is_worth_a_line_there_is_none(model: Any, size: Any) -> None:
    assert found(model, size) is None


class Uncopied(Wide):
    """Looked at too closely, it raises."""

    def named_modules(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no")


def test_a_model_that_cannot_be_looked_at_does_not_spoil_the_summary() -> None:
    request = request_of(Wide(), (3, 8, 8), {})
    report = analyze_model(request)
    request = request_of(Uncopied(), (3, 8, 8), {})
    assert best_suggestion(request, report) is None


# ---------------------------------------------------------------------------- where it is shown


def test_the_summary_ends_its_answers_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ASKED, "--width", "100"]) == 0
    shown = capsys.readouterr().out
    assert (
        " Try       average the 56 × 56 pixels before classifier · 401,484,648 → 204,648 params · "
        "−28 % MACs\n           needs retraining · torchgauge advise\n" in shown
    )
    assert main([*ASKED, "--no-suggest"]) == 0
    assert "Try " not in capsys.readouterr().out


def test_json_has_it_when_asked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([*ASKED, "--format", "json"]) == 0
    assert "suggestion" not in json.loads(capsys.readouterr().out)
    assert main([*ASKED, "--format", "json", "--suggest"]) == 0
    text = capsys.readouterr().out
    suggestion = json.loads(text)["suggestion"]
    assert suggestion["figures"][0]["after"] == 204_648
    assert suggestion["code"] == "simple_cnn.py:24"
    read = report_from_json(text)
    assert read.suggestion is not None and read.suggestion.text == suggestion["text"]
    assert json.loads(read.to_json()) == json.loads(text)


def test_a_page_has_it_and_a_table_for_programs_has_not(tmp_path: Path) -> None:
    for name, has_it in (("page.html", True), ("page.md", True), ("page.csv", False)):
        assert main([*ASKED, "--output", str(tmp_path / name)]) == 0
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert ("average the 56" in text) is has_it, name


def test_python_prints_it_and_returns_the_report_without(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert tg.analyze(Wide(), (3, 8, 8)).suggestion is None
    report = tg.summary(Wide(), (3, 8, 8))
    assert "average the 8 × 8 pixels before top.head" in capsys.readouterr().out
    assert report.suggestion is None
    assert tg.summary(Wide(), (3, 8, 8), suggest=True).suggestion is not None
    capsys.readouterr()
    file = io.StringIO()
    tg.summary(Wide(), (3, 8, 8), suggest=False, file=file)
    assert "Try" not in file.getvalue()


def test_a_history_keeps_figures_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchgauge.loop import history

    spec = str(Path(CNN.partition(":")[0]).resolve()) + ":SimpleCNN"
    monkeypatch.chdir(tmp_path)
    path = history.start(tmp_path)
    assert main(["summary", spec, "--input-size", "3,224,224", "--quiet"]) == 0
    assert "Try " in capsys.readouterr().out
    assert history.last(path, spec).suggestion is None


def test_where_it_cannot_be_shown_it_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, where in (
        (["--format", "csv"], "csv"),
        (["--output", str(tmp_path / "net.svg"), "--figure", "graph"], "figure"),
        (["--against", "last"], "a comparison"),
    ):
        assert main([*ASKED, "--suggest", *words]) == 2
        assert f"--suggest has no meaning in {where}" in capsys.readouterr().err


def test_it_is_left_out_where_something_else_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ASKED, "--output", str(tmp_path / "report.json")]) == 0
    assert main([*ASKED, "--against", str(tmp_path / "report.json")]) == 0
    assert "Try " not in capsys.readouterr().out
