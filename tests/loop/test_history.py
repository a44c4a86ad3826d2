"""The history of a project: opt-in, what it holds, and how a figure has gone."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from torch import nn

import torchgauge as tg
from torchgauge.cli.main import main
from torchgauge.errors import UsageError
from torchgauge.facts.report import Report
from torchgauge.loop import history

NET = """
from torch import nn


class Net(nn.Linear):
    def __init__(self):
        super().__init__(8, 2)
"""


def report(width: int, spec: str = "net.py:Net", **options: str) -> Report:
    return tg.analyze(nn.Linear(8, width), (2, 8), model_spec=spec, **options)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return history.start(tmp_path)


def test_it_is_found_from_below_and_only_where_it_was_begun(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert history.found(below) is None
    path = history.start(tmp_path)
    assert history.found(below) == path
    assert history.start(tmp_path) == path, "again does no harm"


def test_a_trend_holds_the_figure_of_each_analysis(file: Path) -> None:
    for width in (2, 4, 8):
        history.add(file, report(width))
    history.add(file, report(5, "other.py:Net"))
    found = history.trend(file, "totals.params", spec="net.py:Net")
    assert [item.value for item in found.analyses] == [18, 36, 72]
    assert [item.number for item in found.analyses] == [1, 2, 3]
    assert len(history.trend(file, "totals.params").analyses) == 4
    last = history.trend(file, "totals.params", most=2).analyses
    assert [item.value for item in last] == [72, 45]


def test_a_figure_that_some_lack(file: Path) -> None:
    history.add(file, report(2))
    history.add(file, report(2, device="T4"))
    values = [item.value for item in history.trend(file, "memory.device_bytes").analyses]
    assert values[0] is None and values[1] is not None and values[1] > 10**8
    for name in ("totals.parms", "totals", "model_name", "memory.fits"):
        with pytest.raises(UsageError, match="none of these analyses holds"):
            history.trend(file, name)


def test_the_last_report_comes_back_whole(file: Path) -> None:
    history.add(file, report(2))
    history.add(file, report(4))
    assert history.last(file, "net.py:Net") == report(4)
    with pytest.raises(UsageError, match="holds nothing of x"):
        history.last(file, "x")


def test_the_revision_and_whether_files_differ(tmp_path: Path, file: Path) -> None:
    def git(*arguments: str) -> None:
        names = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *names, *arguments], check=True, timeout=60)

    history.add(file, report(2))
    git("init", "-q")
    (tmp_path / "net.py").write_text("1", encoding="utf-8")
    git("add", "net.py")
    git("commit", "-q", "-m", "a")
    history.add(file, report(2))
    (tmp_path / "net.py").write_text("2", encoding="utf-8")
    history.add(file, report(2))
    none, clean, dirty = history.trend(file, "totals.params").analyses
    assert (none.revision, none.is_dirty) == ("", False)
    assert len(clean.revision) == 40 and not clean.is_dirty
    assert dirty.revision == clean.revision and dirty.is_dirty


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / ".torchgauge" / "history.sqlite"
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(UsageError, match="cannot be used"):
        history.add(path, report(2))


def test_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ["summary", "net_of_history.py:Net", "--input-size", "2,8"]
    (tmp_path / "net_of_history.py").write_text(NET, encoding="utf-8")
    assert main(["history"]) == 2
    assert main([*asked, "--against", "last"]) == 2
    assert main(asked) == 0
    assert main(["history", "--start"]) == 0
    assert main(["history"]) == 0
    assert "nothing was analysed yet" in capsys.readouterr().out
    assert main(asked) == 0
    capsys.readouterr()
    assert main([*asked, "--against", "last"]) == 0
    assert "no difference" in capsys.readouterr().out
    assert main(["history", "--figure", "totals.params", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [item["value"] for item in found["analyses"]] == [18, 18]
    assert main(["history", "--figure", "totals.params"]) == 0
    assert "18 → 18" in capsys.readouterr().out
