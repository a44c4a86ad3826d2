"""``torchgauge compare`` and ``watch``: the sides, the changes, the messages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lean_data import data_in
from torchgauge.cli.main import main
from torchgauge.loop.sides import is_saved, split_revision

NET = """
from torch import nn
from width import WIDTH


class Net(nn.Sequential):
    def __init__(self, width=WIDTH):
        super().__init__(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 2))
"""

ODD = """
from torch import nn


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.spare = nn.Linear(8, 2), nn.Linear(8, 2)

    def forward(self, x):
        return self.used(x)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net_of_test.py").write_text(NET, encoding="utf-8")
    (tmp_path / "width.py").write_text("WIDTH = 8\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("net_of_test", "width"):
        sys.modules.pop(name, None)


SIZE = ["--input-size", "2,8"]


def compared(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main(["compare", *arguments, "--format", "json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_two_models(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(capsys, "net_of_test.py:Net", "net_of_test.py:Net(width=16)", *SIZE)
    assert found["figures"][0]["difference"] == (8 * 16 + 16 + 32) - (8 * 8 + 8 + 16)


def test_the_same_twice(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "net_of_test.py:Net", "net_of_test.py:Net", *SIZE]) == 0
    assert "no difference" in capsys.readouterr().out


def test_changes_are_options_of_the_second_alone(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = compared(
        capsys, "net_of_test.py:Net", *SIZE, "--change", "set=width=16", "--change",
        "mode=training", "--change", "input-size=4,8", "--change", "optimizer=sgd",
    )  # fmt: skip
    settings = {item["name"]: (item["before"], item["after"]) for item in found["settings"]}
    assert settings["mode"] == ("inference", "training")
    assert settings["batch size"] == ("2", "4")
    assert found["figures"][0]["difference"] == (8 * 16 + 16 + 32) - (8 * 8 + 8 + 16)


def test_a_flag_can_be_a_change(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training = ["--mode", "training", "--optimizer", "sgd"]
    found = compared(capsys, "net_of_test.py:Net", *SIZE, *training, "--change", "checkpointing")
    assert [item["name"] for item in found["settings"]] == ["checkpointing"]


def test_what_a_rule_would_change_is_a_change(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = ["--mode", "training", "--optimizer", "sgd"]
    found = compared(capsys, "net_of_test.py:Net", *SIZE, *training, "--change", "rule=lora")
    assert found["figures"][0]["difference"] == 16 * (8 + 8) + 16 * (8 + 2)
    assert found["settings"] == []


def test_a_saved_report_is_a_side(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "net_of_test.py:Net", *SIZE, "--output", "before.json"]) == 0
    found = compared(capsys, "before.json", "net_of_test.py:Net", *SIZE)
    assert found["is_equal"] is True


def test_a_revision_is_a_side_and_the_work_tree_stays(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def git(*arguments: str) -> str:
        names = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(project), *names, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    git("init", "-q", "-b", "main")
    (project / "gone.py").write_text(NET, encoding="utf-8")
    git("add", ".")
    git("commit", "-q", "-m", "a")
    (project / "width.py").write_text("WIDTH = 16\n", encoding="utf-8")
    (project / "gone.py").unlink()
    before = git("status", "--porcelain")
    found = compared(capsys, "net_of_test.py:Net@main", "net_of_test.py:Net", *SIZE)
    assert found["figures"][0]["before"] == 90 and found["figures"][0]["after"] == 178
    found = compared(capsys, "gone.py:Net@main", "net_of_test.py:Net", *SIZE)
    assert found["figures"][0]["before"] == 90, "a file that is there at the revision alone"
    assert git("status", "--porcelain") == before
    assert main(["compare", "net_of_test.py:Net@nope", "net_of_test.py:Net", *SIZE]) == 2
    assert "there is no revision 'nope'" in capsys.readouterr().err


def test_as_html_it_is_the_page_of_both(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = ["net_of_test.py:Net", "net_of_test.py:Net(width=16)", *SIZE]
    assert main(["compare", *both, "--output", "page.html"]) == 0
    data = data_in((project / "page.html").read_text(encoding="utf-8"))
    params = [item["report"]["totals"]["params"] for item in data["answers"]]
    assert params == [90, 178]


def test_a_model_that_fails_is_compared_up_to_there(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = ["net_of_test.py:Net", "net_of_test.py:Net", "--input-size", "2,9"]
    assert main(["compare", *broken]) == 3
    assert "no difference" in capsys.readouterr().out, "both fail at the same layer"
    changed = ["net_of_test.py:Net", *SIZE, "--change", "input-size=2,9", "--format", "json"]
    assert main(["compare", *changed]) == 3
    shown = capsys.readouterr()
    assert [note["name"] for note in json.loads(shown.out)["notes"]] == ["failed"]
    assert "Net failed in 0, so it was compared up to there" in shown.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["net_of_test.py:Net"], "there is nothing to compare with"),
        (["net_of_test.py:Net", "--change", "precison=bf16"], "--precison"),
        (["net_of_test.py:Net", "--change", "rule=lora"], "lora changes nothing: nothing is"),
        (["net_of_test.py:Net", "--change", "rule=lara"], "there is no rule 'lara'"),
        (["net_of_test.py:Net", "missing.json"], "cannot read missing.json"),
        (["torchvision:resnet18@main", "net_of_test.py:Net"], "is not a file of a repository"),
        (["net_of_test.py:Net", "--measured", "--change", "compiled"], "--measured compares one"),
    ],
)
def test_what_is_wrong_is_said(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["compare", *arguments, *SIZE]) == 2
    assert message in capsys.readouterr().err


def test_options_that_would_say_nothing_are_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["summary", "net_of_test.py:Net", *SIZE, "--output", "a.json"]) == 0
    for arguments, message in (
        (["compare", "a.json", "a.json", "--device", "T4"], "--device has no meaning for two"),
        (["compare", "a.json", "a.json", *SIZE], "--input-size has no meaning for two"),
        (["compare", "a.json", "--change", "mode=training"], "--change has no meaning for a.json"),
        (
            ["summary", "net_of_test.py:Net", *SIZE, "--against", "a.json", "--depth", "1"],
            "--depth",
        ),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
    assert main(["compare", "a.json", "a.json", "--width", "80"]) == 0


def test_strict_fails_where_the_second_guesses(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "odd_of_test.py").write_text(
        ODD,
        encoding="utf-8",
    )
    arguments = ["compare", "net_of_test.py:Net", "odd_of_test.py:Odd", *SIZE]
    assert main(arguments) == 0
    assert main([*arguments, "--strict"]) == 4
    assert "spare" in capsys.readouterr().err


def test_sides_are_told_apart() -> None:
    assert is_saved("a/b.json") and is_saved("step.gauge")
    assert not is_saved("hf:a/config.json")
    assert split_revision("model.py:Net(x=1)@v1.0") == ("model.py:Net(x=1)", "v1.0")
    assert split_revision("torchvision:resnet50") == ("torchvision:resnet50", "")


def edit_after(path: Path, texts: list[str], printed: list[str]) -> threading.Thread:
    """Save a text after each page that was printed."""

    def edit() -> None:
        for number, text in enumerate(texts, 1):
            deadline = time.monotonic() + 60
            while len(printed) < number and time.monotonic() < deadline:
                time.sleep(0.05)
            other = path.with_suffix(".tmp")
            other.write_text(text, encoding="utf-8")
            os.replace(other, path)

    thread = threading.Thread(target=edit, daemon=True)
    thread.start()
    return thread


def test_watch_says_what_each_save_changed(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[str] = []
    monkeypatch.setattr("builtins.print", lambda text="", **_: printed.append(str(text)))
    saved = ["WIDTH = 16\n", "WIDTH =\n", "WIDTH = 16\n", "WIDTH = 8\n"]
    editing = edit_after(project / "width.py", saved, printed)
    arguments = ["watch", "net_of_test.py:Net", *SIZE, "--width", "100", "--times", "5"]
    assert main(arguments) == 0
    editing.join()
    first, wider, broken, mended, back = printed
    assert "Params" in first and "saved" not in first
    assert "width.py saved" in wider and "90 → 178" in wider
    assert "not analysed" in broken and "width.py" in broken and "SyntaxError" in broken
    assert "no difference" in mended and "Since the first version" in mended
    assert "178 → 90" in back


def test_watch_goes_on_after_code_that_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    net = tmp_path / "ends_of_test.py"
    net.write_text("import os\nos._exit(7)\n")
    monkeypatch.chdir(tmp_path)
    assert main(["watch", "ends_of_test.py:Net", *SIZE, "--times", "1"]) == 0
    said = capsys.readouterr()
    assert "the process that analysed it ended: exit status 7" in said.out
    assert "look for os._exit in the model's code" in said.out
    assert "nothing to watch" not in said.err


def test_watch_needs_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "torch.nn:Linear(8, 2)", *SIZE, "--times", "2"]) == 2
    assert "nothing to watch" in capsys.readouterr().err
