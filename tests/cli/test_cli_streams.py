"""The command line's two streams and its working directory, whatever the model's code does."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest

from torchgauge.cli.main import main
from torchgauge.cli.streams import forgiving_stderr

NET = """
import atexit, ctypes, io, logging, os, sys
import torch

os.write(1, b"raw, at import\\n")
logging.getLogger("net").addHandler(logging.StreamHandler(sys.stdout))


class Net(torch.nn.Linear):
    def __init__(self):
        super().__init__(8, 8)


class Noisy(Net):
    def __init__(self):
        super().__init__()
        print("printed by the constructor")
        atexit.register(print, "printed at exit")

    def forward(self, x):
        print("printed")
        sys.__stdout__.write("past the redirection\\n")
        os.write(1, b"raw\\n")
        os.system("echo from a child")
        ctypes.CDLL(None).puts(b"from C, held back")
        logging.getLogger("net").warning("logged")
        return super().forward(x)


class Closes(Net):
    def forward(self, x):
        sys.stdout.close()
        return super().forward(x)


class Replaces(Net):
    def forward(self, x):
        sys.stdout = io.StringIO()
        return super().forward(x)


class Fails(Net):
    def forward(self, x):
        os.write(1, b"raw\\n")
        raise ValueError("no")


class Moves(Net):
    def forward(self, x):
        os.chdir("/")
        return super().forward(x)


class MovesWhenBuilt(Net):
    def __init__(self):
        super().__init__()
        os.chdir("/")


class Interrupted(Net):
    def forward(self, x):
        raise KeyboardInterrupt


class Asks(Net):
    def forward(self, x):
        return super().forward(x) * float(input("scale? "))


class Stops(Net):
    def forward(self, x):
        raise BaseException("no Exception")


class Endless(Net):
    def forward(self, x):
        return self.forward(x)


class Colours(Net):
    def forward(self, x):
        raise ValueError("\\x1b]0;title\\x07 \\u202e\\nsecond line")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def summary(name, *options):
    return main(["summary", f"net.py:{name}", "--input-size", "8", "--batch-size", "2", *options])


# ---------------------------------------------------------------------------- stdout


@pytest.mark.parametrize("name", ["Net", "Noisy", "Closes", "Replaces"])
def test_stdout_holds_the_result_alone(folder, capfd, name):
    assert summary(name, "--format", "json") == 0
    printed = capfd.readouterr()
    assert json.loads(printed.out)["totals"]["params"] == 72
    assert "raw, at import" in printed.err
    if name == "Noisy":
        for text in ("printed by the constructor", "printed\n", "past the redirection", "raw\n",
                     "from a child", "from C, held back", "logged"):  # fmt: skip
            assert text in printed.err


def test_stdout_is_kept_free_where_the_model_fails(folder, capfd):
    assert summary("Fails", "--format", "json") == 3
    assert json.loads(capfd.readouterr().out)["failure"]["error"] == "no"


def test_what_the_program_prints_at_its_end_is_not_part_of_the_result(folder):
    command = [sys.executable, "-m", "torchgauge", "summary", "net.py:Noisy", "--input-size", "8",
               "--format", "json"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert json.loads(done.stdout)["model"]["name"] == "Noisy"
    assert done.stderr.endswith("printed at exit\n")


# ---------------------------------------------------------------------------- stderr


def test_a_closed_stderr_changes_nothing(folder):
    command = f"{sys.executable} -m torchgauge summary net.py:Net --input-size 8 --format json 2>&-"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == 0
    assert json.loads(done.stdout)["model"]["name"] == "Net"


@pytest.mark.parametrize("stream", ["2>&-", ">&- 2>&-", "2>/dev/full"])
def test_an_error_that_nobody_can_read_keeps_its_status(stream):
    if "full" in stream and not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    command = f"{sys.executable} -m torchgauge nonsense {stream}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")


class _Broken(io.StringIO):
    def write(self, text):
        raise BrokenPipeError

    def isatty(self):
        return False


@pytest.mark.parametrize("stream", [None, _Broken()], ids=["none", "broken"])
def test_messages_are_dropped_where_stderr_is_none(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    with forgiving_stderr():
        print("a message", file=sys.stderr)
        sys.stderr.close()
        print("another", file=sys.stderr)
        assert not sys.stderr.isatty()
    assert sys.stderr is stream


# ---------------------------------------------------------------------------- working directory


@pytest.mark.parametrize("name", ["Moves", "MovesWhenBuilt"])
def test_a_model_that_changes_the_directory_moves_no_file(folder, name):
    assert summary(name, "--output", "report.json", "--timeline", "step.json",
                   "--device", "T4") == 0  # fmt: skip
    assert {path.name for path in folder.iterdir()} >= {"report.json", "step.json"}
    assert os.getcwd() == str(folder)


# ---------------------------------------------------------------------------- what stops a model


def test_an_interrupt_in_the_forward_is_one(folder, capfd):
    assert summary("Interrupted") == 130
    assert "torchgauge: interrupted" in capfd.readouterr().err


def test_what_is_no_exception_ends_with_a_message_and_no_traceback(folder, capfd):
    assert summary("Stops") == 3
    said = capfd.readouterr().err
    assert "the model's code raised BaseException: no Exception" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("name", "error", "hint"),
    [
        ("Asks", "EOFError: EOF when reading a line", "the model reads from the standard input"),
        ("Endless", "RecursionError", "the model calls itself without end"),
    ],
)
def test_what_a_forward_cannot_have_is_said(folder, capfd, monkeypatch, name, error, hint):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert summary(name, "--output", "report.json") == 3
    said = capfd.readouterr().err
    assert error in said and hint in said


def test_a_message_does_not_steer_the_terminal(folder, capfd):
    assert summary("Colours", "--output", "report.json") == 3
    said = capfd.readouterr().err
    assert r"\x1b]0;title\x07 \u202e" in said
    assert all(char.isprintable() or char == "\n" for char in said)
