"""Analyses in processes of their own: nothing of the model's code stays, and crashes are told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from torchgauge.loop.fresh import Fresh
from torchgauge.models.users_code import is_users
from torchgauge.request import Inputs, Request

CRASH = "import os\ndef Net():\n    os._exit(3)\n"
PRINTS = """
import torch
print("hello")
class Net(torch.nn.Linear):
    def __init__(self):
        super().__init__(8, 2)
"""


def request(folder: Path, text: str) -> Request:
    path = folder / "model_of_fresh.py"
    path.write_text(text, encoding="utf-8")
    return Request(spec=f"{path}:Net", inputs=Inputs(size=(2, 8)))


def test_the_models_code_never_runs_here(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = Fresh().analysed(request(tmp_path, PRINTS))
    assert found.answered.report is not None and found.answered.report.totals.params == 18
    assert found.files == ((tmp_path / "model_of_fresh.py").resolve(),)
    assert "model_of_fresh" not in sys.modules
    assert capfd.readouterr().out == ""


def test_a_crash_is_told_and_the_next_one_works(tmp_path: Path) -> None:
    fresh = Fresh()
    answered = fresh.analysed(request(tmp_path, CRASH)).answered
    assert answered.error == "the process that analysed it ended: exit status 3" and answered.hint
    assert fresh.analysed(request(tmp_path, PRINTS)).answered.error == ""


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="each process starts bare there")
def test_the_second_analysis_imports_nothing_again(tmp_path: Path) -> None:
    fresh = Fresh()
    asked = request(tmp_path, PRINTS + "import colorsys, json.tool\n")
    first = fresh.analysed(asked)
    assert "json.tool" in first.modules and "model_of_fresh" not in first.modules
    fresh.warm()
    assert fresh.analysed(asked).modules == ()


def test_what_failed_still_names_its_files(tmp_path: Path) -> None:
    (tmp_path / "part_of_fresh.py").write_text("VALUE = 1\n", encoding="utf-8")
    text = "import part_of_fresh\nraise ValueError('no')\n"
    found = Fresh().analysed(request(tmp_path, text))
    assert "ValueError: no" in found.answered.error and found.answered.report is None
    assert (tmp_path / "part_of_fresh.py").resolve() in found.files


def test_what_is_no_exception_is_told_without_a_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("KeyboardInterrupt", "BaseException"):
        found = Fresh().analysed(request(tmp_path, f"raise {name}('no')\n"))
        assert f"the model's code raised {name}: no" in found.answered.error
    assert "Traceback" not in capfd.readouterr().err


def test_a_thread_that_never_ends_holds_nothing_up(tmp_path: Path) -> None:
    endless = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"
    assert Fresh().analysed(request(tmp_path, PRINTS + endless)).answered.error == ""


def test_whose_file_it_is(tmp_path: Path) -> None:
    import pytest as installed

    import torchgauge

    assert is_users(tmp_path / "a.py")
    for module in (installed, torchgauge, importlib_of()):
        assert module.__file__ is not None
        assert not is_users(Path(module.__file__).resolve())


def importlib_of() -> object:
    import importlib

    return importlib
