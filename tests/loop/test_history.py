"""The history of a project: opt-in, what it holds, and how a figure changed."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
import zstandard
from torch import nn

import torchgauge as tg
from torchgauge.cli.main import main
from torchgauge.errors import UsageError
from torchgauge.facts.report import Report
from torchgauge.loop import history
from torchgauge.loop.trend import trend
from torchgauge.render import get_format
from torchgauge.render.page import Chart
from torchgauge.render.pages.loop.history import history_page

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
    found = trend(file, "totals.params", spec="net.py:Net")
    assert [item.value for item in found.analyses] == [18, 36, 72]
    assert [item.number for item in found.analyses] == [1, 2, 3]
    assert len(trend(file, "totals.params").analyses) == 4
    last = trend(file, "totals.params", most=2).analyses
    assert [item.value for item in last] == [72, 45]


def test_a_figure_that_some_lack(file: Path) -> None:
    history.add(file, report(2))
    history.add(file, report(2, device="T4"))
    values = [item.value for item in trend(file, "memory.device_bytes").analyses]
    assert values[0] is None and values[1] is not None and values[1] > 10**8
    for name in ("totals.parms", "totals", "model_name", "memory.fits"):
        with pytest.raises(UsageError, match="none of these analyses holds"):
            trend(file, name)


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
    none, clean, dirty = trend(file, "totals.params").analyses
    assert (none.revision, none.is_dirty) == ("", False)
    assert len(clean.revision) == 40 and not clean.is_dirty
    assert dirty.revision == clean.revision and dirty.is_dirty


def test_a_damaged_file_is_said_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / ".torchgauge" / "history.sqlite"
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 100)
    for use in (lambda: history.add(path, report(2)), lambda: trend(path, "params")):
        with pytest.raises(UsageError, match="cannot be used") as error:
            use()
        assert str(path) in error.value.message
        assert error.value.hint.startswith(f"move {path} away; torchgauge history --start")
    path.rename(path.with_suffix(".old"))
    assert history.start(tmp_path) == path
    history.add(path, report(2))


def test_another_database_is_no_history(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE things (name TEXT)")
    with pytest.raises(UsageError, match="no such table") as error:
        trend(path, "params")
    assert error.value.hint.startswith(f"move {path} away")


def test_a_damaged_report_is_named(file: Path) -> None:
    for packed in (b"x", zstandard.compress(b"{}"), zstandard.compress(b"\xff")):
        history.add(file, report(2))
        with closing(sqlite3.connect(file)) as database, database:
            database.execute(
                "UPDATE analyses SET report = ? WHERE number = (SELECT max(number) FROM analyses)",
                (packed,),
            )
        with pytest.raises(UsageError, match=r"analysis \d+ in .* cannot be read") as error:
            trend(file, "params")
        assert str(file) in error.value.hint


def test_what_else_stops_a_file_has_another_hint(tmp_path: Path) -> None:
    for error, hint in (
        ("database is locked", "another program writes to it"),
        ("attempt to write a readonly database", "allow this user to write"),
        ("database or disk is full", "make room on the disk"),
    ):
        assert history._hint(tmp_path, error).startswith(hint)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("peak_memory", "memory.peak_allocated_bytes"),
        ("peak-memory", "memory.peak_allocated_bytes"),
        ("params", "totals.params"),
        ("macs", "totals.forward_macs"),
        ("totals.buffers", "totals.buffers"),
    ],
)
def test_figures_have_short_names(file: Path, name: str, place: str) -> None:
    history.add(file, report(2))
    assert trend(file, name).figure == place


def test_an_analysis_that_was_not_run_is_a_gap(file: Path) -> None:
    for size in ((2, 8), None, (2, 8)):
        history.add(file, tg.analyze(nn.Linear(8, 2), size, model_spec="net.py:Net"))
    found = trend(file, "peak_memory")
    ((spec, asked), of), *rest = found.groups.items()
    assert (spec, asked, rest) == ("net.py:Net", "inference · B = 2", [])
    assert [item.value is None for item in of] == [False, True, False]
    assert "not known in 1 of them" in get_format("text").render(history_page(found))
    assert len(trend(file, "params").groups) == 2
    with pytest.raises(UsageError) as error:
        trend(file, "step_time")
    assert "--device T4" in error.value.hint


def test_a_figure_that_is_nearly_a_name_is_offered(file: Path) -> None:
    history.add(file, report(2))
    with pytest.raises(UsageError) as error:
        trend(file, "peak_memry")
    assert "did you mean peak_memory" in error.value.hint


def test_few_models_are_drawn_and_many_have_bars(file: Path) -> None:
    def charts() -> int:
        blocks = history_page(trend(file, "params")).blocks
        return sum(isinstance(block, Chart) for block in blocks)

    for number in range(4):
        assert charts() == (number if number < 4 else 0)
        for width in (2, 8, 4):
            history.add(file, report(width, f"net{number}.py:Net"))
    assert charts() == 0
    assert "▁█▃" in get_format("text").render(history_page(trend(file, "params")))
    ascii = get_format("text", ascii=True).render(history_page(trend(file, "params")))
    assert "_#:" in ascii and "\\u" not in ascii


def test_pictures(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(file.parent.parent)
    for width in (2, 8, 4):
        history.add(file, report(width))
    for name, start in (("a.svg", b"<?xml"), ("a.PNG", b"\x89PNG"), ("a.html", b"<!doctype")):
        assert main(["history", "--figure", "peak_memory", "--output", name]) == 0
        content = Path(name).read_bytes()
        assert content.startswith(start)
    assert content.count(b"<circle") == 3
    for arguments, message in (
        (["--output", "a.svg", "--format", "json"], "--format has no meaning in a picture"),
        (["--output", "a.svg", "--width", "80"], "--width has no meaning in a picture"),
        (["--output", "nowhere/a.svg"], "there is no folder"),
        (["--output", "a.gif"], "does not say which format"),
        (["--output", "a.svg", "--figure", "nothing"], "none of these analyses holds"),
        (["--output", "b.svg", "other.py:Net"], "nothing to draw"),
    ):
        assert main(["history", *arguments]) == 2
        said = capsys.readouterr().err
        assert message in said and "try: " in said
    assert not Path("b.svg").exists()


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
