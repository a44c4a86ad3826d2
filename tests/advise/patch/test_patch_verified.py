"""Patched files imported in a fresh process: their figures, their outputs, and the user's files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import torchgauge as tg
from torchgauge.advise.figures import figures_of, side_by_side
from torchgauge.advise.rules import rule_of
from torchgauge.advise.subject import Subject
from torchgauge.analyze import analyze_model
from torchgauge.changes.change import Change, applied
from torchgauge.cli.main import main
from torchgauge.errors import UsageError
from torchgauge.facts.loop.advice import Fault, Patch, Suggestion
from torchgauge.models.requests import request_of

pytest.importorskip("libcst")

from torchgauge.advise.patch.made import Drafted, drafted, verified

FILE = Path(__file__).parent / "patched_models.py"
REPOSITORY = Path(__file__).parents[3]
TRAINING = {"mode": "training", "loss": "cross_entropy"}
TOKENS = {"dtypes": ["int64"]}
CASES: dict[str, tuple[tuple[int, ...], dict[str, Any], tuple[str, ...]]] = {
    "Course": (
        (4, 3, 8, 8), TRAINING,
        ("depthwise-separable", "global-pooling", "low-rank", "bias-before-norm", "dead-output",
         "never-called", "in-place", "double-softmax", "missing-activation"),
    ),
    "InSequence": ((4, 3, 8, 8), {}, ("repeated-activation", "in-place", "global-pooling")),
    "Attention": ((2, 64, 32), {}, ("attention",)),
    "OneHead": ((2, 64, 32), {}, ("attention",)),
    "Early": (
        (2, 3, 64, 64), {}, ("grouped-convolution", "stride-earlier", "wide-early-maps"),
    ),
    "Hidden": ((2, 8), {}, ("hidden-modules",)),
    "Large": ((4, 16, 16, 16), {}, ("large-kernel",)),
    "Untied": ((4, 16), TOKENS, ("untied-copy",)),
    "UntiedLater": ((4, 16), TOKENS, ("untied-copy",)),
    "untied": ((4, 16), TOKENS, ("untied-copy",)),
    "Stem": ((4, 3, 8, 8), {}, ("fold-batchnorm",)),
    "ready": ((4, 3, 8, 8), {}, ("fold-batchnorm",)),
}  # fmt: skip


def suggestion_of(subject: Subject, change: Change) -> Suggestion:
    """What the advisor would say of a change, whether or not it gains anything here."""
    request = applied(change, subject.request, rule_of(change.rule))
    figures = side_by_side(figures_of(subject.report), figures_of(analyze_model(request)))
    return Suggestion(
        rule=change.rule, text=change.text, where=change.where, code="", why=change.why,
        accuracy=change.accuracy, cost="", source="", figures=figures, settings=change.settings,
    )  # fmt: skip


def all_drafts(*only: str) -> dict[str, Drafted | Patch]:
    found: dict[str, Drafted | Patch] = {}
    for name, (size, options, rules) in CASES.items():
        rules = tuple(rule for rule in rules if not only or f"{name}, {rule}" in only)
        if not rules:
            continue
        request = request_of(f"{FILE}:{name}", size, options)
        subject = Subject(request=request, report=analyze_model(request))
        for rule in rules:
            # A fault has a repair of its own; of the changes the first is written.
            items = [x for x in rule_of(rule).look(subject) if not isinstance(x, str)]
            of_kind = {type(item): item for item in reversed(items)}
            for kind, item in of_kind.items():
                change = item if isinstance(item, Fault) else suggestion_of(subject, item)
                figures = () if isinstance(change, Fault) else change.figures
                twice = " repaired" if kind is Fault and len(of_kind) > 1 else ""
                found[f"{name}, {rule}{twice}"] = drafted(subject, [change], figures)
    return found


def made_of(drafts: dict[str, Drafted | Patch]) -> dict[str, Patch]:
    return dict(zip(drafts, verified(list(drafts.values())), strict=True))


@pytest.mark.slow
def test_a_patch_is_imported_traced_and_run() -> None:
    before = FILE.read_bytes()
    drafts = all_drafts("Course, in-place", "Course, double-softmax", "OneHead, attention")
    good = drafts["Course, in-place"]
    assert isinstance(good, Drafted)
    (path, text), *_ = good.task.texts.items()
    # What a patch must not pass with: other figures, other outputs, no import.
    params = next(figure for figure in good.figures if figure.name == "totals.params")
    drafts["other figures"] = replace(good, figures=(replace(params, after=1),))
    scaled = text.replace("x = self.bn2(", "x = 2 * self.bn2(")
    drafts["other outputs"] = replace(good, task=replace(good.task, texts={path: scaled}))
    drafts["no import"] = replace(good, task=replace(good.task, texts={path: "import nothing_so"}))
    made = made_of(drafts)
    assert FILE.read_bytes() == before, "no file is written"
    assert made["Course, in-place"].proof == (
        "imported in a fresh process and traced: all 6 figures as shown",
        "run on the CPU: outputs equal to the bit",
    )
    assert made["Course, double-softmax"].proof[0].endswith("the fault is gone")
    assert "outputs equal" in made["OneHead, attention"].proof[-1]
    assert made["other figures"].why_not == (
        f"the patched file gives totals.params {params.after}, not 1"
    )
    assert "computes something else" in made["other outputs"].why_not
    assert "nothing_so" in made["no import"].why_not
    assert [name for name in made if not made[name].diff] == [
        "other figures", "other outputs", "no import",
    ]  # fmt: skip


@pytest.mark.slow
def test_every_rule_has_a_patch_that_holds() -> None:
    made = made_of(all_drafts())
    for name, patch in made.items():
        assert patch.diff, (name, patch.why_not)
        assert patch.proof[-1].startswith("run on the CPU: ")
    assert "outputs equal" in made["Attention, attention"].proof[-1]
    for name in ("Untied", "UntiedLater", "untied"):
        assert made[f"{name}, untied-copy"].proof[-1] == "run on the CPU: outputs equal to the bit"
        assert made[f"{name}, untied-copy repaired"].proof[0].endswith("the fault is gone")
    for name in ("Stem", "ready"):
        assert "outputs equal within" in made[f"{name}, fold-batchnorm"].proof[-1]
    assert made["Course, low-rank"].proof[-1] == "run on the CPU: output [4, 64] as before"


def test_simple_cnn_patched_by_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(REPOSITORY / "examples" / "simple_cnn.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    asked = ["advise", "simple_cnn.py:SimpleCNN", "--input-size", "3,224,224", "--no-proof"]
    assert (
        main([*asked, "--rule", "global-pooling", "--patch", "out.diff", "--format", "json"]) == 0
    )
    found = json.loads(capsys.readouterr().out)["suggestions"][0]
    assert found["patched"]["diff"] == Path("out.diff").read_text(encoding="utf-8")
    assert found["patched"]["files"] == ["simple_cnn.py"]
    subprocess.run(["git", "apply", "out.diff"], check=True)
    assert "two convolutions" in Path("simple_cnn.py").read_text(encoding="utf-8").lower()
    script = (
        "import torch, simple_cnn; net = simple_cnn.SimpleCNN(); "
        "print(sum(p.numel() for p in net.parameters()), "
        "list(net(torch.randn(2, 3, 224, 224)).shape))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert ran.stdout.split(maxsplit=1) == ["204648", "[2, 1000]\n"]


def test_what_the_command_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["advise", f"{FILE}:InSequence", "--input-size", "4,3,8,8", "--no-proof", "--quiet"]
    assert main([*asked, "--patch", str(FILE)]) == 2
    assert "would be overwritten by the diff" in capsys.readouterr().err
    assert main([*asked, "--patch", "no/such/out.diff"]) == 2
    assert "there is no folder no/such" in capsys.readouterr().err
    assert main([*asked, "--rule", "lora", "--patch", "out.diff"]) == 1
    assert "no patch was written" in capsys.readouterr().err
    assert main([*asked, "--check", "data.json"]) == 2
    assert "'data.json' names nothing in Python code" in capsys.readouterr().err


@pytest.mark.slow
def test_both_changes_of_simple_cnn_run_for_real() -> None:
    advice = tg.advise(
        f"{REPOSITORY / 'examples' / 'simple_cnn.py'}:SimpleCNN",
        (3, 224, 224),
        rules=("global-pooling", "depthwise-separable"),
        patch=True,
        device="T4",
    )
    params = {}
    for found in advice.suggestions:
        assert found.proof == ("run on the CPU: output [1, 1000] as before",)
        assert found.patched is not None
        assert found.patched.proof[-1] == "run on the CPU: output [1, 1000] as before"
        assert found.gain("time.total_ms") > 0
        params[found.where] = found.gain("totals.params")
        saves_memory = found.gain("memory.device_bytes") > 0
        assert saves_memory == (found.rule == "global-pooling"), "of a peak in another layer"
    assert params.keys() == {("classifier",), ("features.3",)}
    assert params["classifier",] == 1 - 204_648 / 401_484_648


def test_a_model_that_came_as_an_object_has_no_patch() -> None:
    from patched_models import InSequence

    advice = tg.advise(
        InSequence(), (4, 3, 8, 8), rules=("global-pooling",), prove=False, patch=True
    )
    (found,) = advice.suggestions
    assert found.patched is not None and not found.patched.diff
    with pytest.raises(UsageError, match=r"the model came as an object; name it as file.py:Name"):
        found.patch()


def test_without_being_asked_for_there_is_no_patch() -> None:
    from patched_models import InSequence

    advice = tg.advise(InSequence(), (4, 3, 8, 8), rules=("global-pooling",), prove=False)
    with pytest.raises(UsageError, match="no patch was made"):
        advice.suggestions[0].patch()
