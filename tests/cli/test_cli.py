"""The ``torchgauge`` command: what goes to stdout, what to stderr, and the exit status.

The analysis is a stand-in here, so that each test says exactly what the report holds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import json
import os
import re
import shlex
import stat
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from rich.cells import cell_len
from rich.console import Console

import report_builder
import torchgauge.render
from torchgauge.cli import output, progress
from torchgauge.cli.main import main
from torchgauge.errors import ModelError
from torchgauge.facts.guess import Guess
from torchgauge.facts.report import ModuleTable, Report, Totals
from torchgauge.facts.scenario import Scenario
from torchgauge.facts.trace import Execution, NotCounted
from torchgauge.request import Inputs, Request

NET = """
import torch

print("the user's own print")


class Net(torch.nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.layer = torch.nn.Linear(width, 2)

    def forward(self, x):
        return self.layer(x)


class Broken(torch.nn.Module):
    def __init__(self):
        super().__init__()
        raise RuntimeError("no such thing")
"""

TOTALS = Totals(
    **{field.name: 0 for field in dataclasses.fields(Totals)}
    | {"params": 10, "trainable_params": 10}
)
REPORT = Report(
    tool_version="0",
    torch_version="0",
    execution=Execution.SIMULATED,
    model_name="Net",
    model_spec=None,
    scenario=Scenario(),
    inputs=(),
    outputs=(),
    totals=TOTALS,
    memory=None,
    modules=ModuleTable(()),
)


class Analysis:
    """A stand-in for ``analyze_model`` that remembers what it was asked."""

    def __init__(self) -> None:
        self.report = REPORT
        self.error: BaseException | None = None
        self.asked: Request | None = None
        self.options: dict[str, object] = {}

    def __call__(self, request, **options):
        print("printed while analysing")
        self.asked, self.options = request, options
        if self.error is not None:
            raise self.error
        return self.report


class Rendering:
    """A stand-in for a format that remembers its options and those of the table."""

    def __init__(self, name, options):
        self.name, self.options, self.tree = name, options, None

    def render(self, page):
        self.tree = page
        return json.dumps({"format": self.name})


@pytest.fixture
def analysis(monkeypatch):
    analysis = Analysis()
    module = importlib.import_module("torchgauge.analyze")
    monkeypatch.setattr(module, "analyze_model", analysis)
    return analysis


@pytest.fixture
def rendering(monkeypatch):
    """Collect the formats asked for, made for real to check their options."""
    made = []
    real = torchgauge.render.get_format

    def get_format(name, **options):
        real(name, **options)
        made.append(Rendering(name, options))
        return made[-1]

    monkeypatch.setattr("torchgauge.render.get_format", get_format)
    monkeypatch.setattr("torchgauge.render.pages.report.report_page", lambda _, **tree: tree)
    return made


@pytest.fixture
def net(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    yield "net.py:Net"
    sys.modules.pop("net", None)


@pytest.fixture
def summary(analysis, rendering, net, capsys):
    """Run ``torchgauge summary`` and return exit status, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(["summary", *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


# ---------------------------------------------------------------------------- usage


def in_new_process(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return result.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["sumary"],
        ["summary", "--help"],
        ["summary", "net.py:Net", "--input-size", "3,x"],
        ["summary", "resnet50"],
        ["summary", "net.py:Net", "--optimizer", "adamw"],
    ],
)
def test_help_and_bad_usage_do_not_import_torch_or_rich(arguments):
    code = (
        "import sys; from torchgauge.cli.main import main\n"
        f"main({arguments!r})\n"
        "print([name for name in ('torch', 'rich', 'numpy') if name in sys.modules])"
    )
    assert in_new_process(code) == "[]"


def test_help_lists_the_commands_and_exits_with_0(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert re.search("  summary +show parameters, shapes, MACs and memory", shown)


def test_nothing_at_all_shows_the_help_on_stderr_and_exits_with_2(capsys):
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "torchgauge COMMAND" in captured.err


def test_version(capsys):
    from torchgauge import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"torchgauge {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["sumary"], ["unknown command 'sumary'", "try: did you mean summary?"]),
        (["zzz"], ["unknown command 'zzz'", "try: one of summary"]),
        (
            ["net.py:Net", "--depth", "2"],
            ["unknown command 'net.py:Net'", "try: torchgauge summary net.py:Net --depth 2"],
        ),
        (["summary"], ["the following arguments are required: MODEL"]),
        (
            ["summary", "net.py:Net", "--input-sise", "3"],
            ["unknown argument '--input-sise'", "try: did you mean --input-size?"],
        ),
        (["summary", "net.py:Net", "--mode", "trainig"], ["did you mean training?"]),
        (["summary", "net.py:Net", "--input-size", "3,x"], ["'3,x' is not a size; write 3,224"]),
        (["summary", "net.py:Net", "--set", "width"], ["'width' is not KEY=VALUE"]),
        (["summary", "net.py:Net", "--format", "jsn"], ["did you mean json?"]),
        (["summary", "net.py:Net", "--depth", "0"], ["'0' is not a whole number of 1 or more"]),
        (["summary", "net.py:Net", "--width", "10"], ["--width 10 is too narrow for a table"]),
        (
            ["summary", "net.py:Net", "--format", "json", "--ascii"],
            ["--ascii has no meaning in json"],
        ),
        (
            ["summary", "net.py:Net", "--columns", "nonsense"],
            ["nonsense"],
        ),
        (
            ["summary", "net.py:Net", "--output", "missing/report.json"],
            ["there is no folder missing"],
        ),
        (
            ["summary", "net.py:Net", "--output", "report.xyz"],
            ["the name report.xyz does not say which format it wants"],
        ),
        (["summary", "net.py:Net(width=2)", "--set", "width=3"], ["width is given twice"]),
    ],
)
def test_bad_usage_exits_with_2_and_one_message(
    arguments, messages, net, analysis, rendering, capsys
):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("torchgauge: error: ")
    assert "Traceback" not in captured.err
    assert analysis.asked is None
    for message in messages:
        assert message in captured.err


# ---------------------------------------------------------------------------- the result


def test_the_result_alone_goes_to_stdout(summary):
    status, out, err = summary("net.py:Net", "--input-size", "4", "--format", "json")
    assert status == 0
    assert json.loads(out)["totals"]["params"] == 10
    assert out.endswith("}\n")
    assert err == "the user's own print\nprinted while analysing\n"


def test_what_was_asked_arrives_at_analyze(summary, analysis):
    status, _, _ = summary(
        *("net.py:Net", "--set", "width=6", "--input-size", "x=6", "--dtype", "fp16"),
        *("--batch-size", "8", "--batch-dim", "0", "--mode", "training", "--optimizer", "adamw"),
    )
    assert status == 0
    asked = analysis.asked
    assert asked.model.layer.in_features == 6
    assert asked.model.layer.weight.is_meta
    assert asked.inputs == Inputs(size={"x": (6,)}, dtypes=["float16"], batch_size=8, batch_dim=0)
    assert asked.scenario == Scenario(mode="training", optimizer="adamw")
    assert (asked.name, asked.spec, asked.real_run) == ("Net", "net.py:Net", True)
    assert analysis.options == {"batch_names": True, "timeline": None}


def test_without_a_size_the_structure_is_shown_and_a_note_says_so(summary, analysis, monkeypatch):
    status, _, err = summary("net.py:Net")
    assert status == 0
    assert not analysis.asked.inputs.are_given
    assert "note: no input size was given, so the model was not run: parameters only" in err
    assert summary("net.py:Net", "--quiet")[2].count("note") == 0
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert summary("net.py:Net")[2].count("note") == 0  # the page says it


def test_a_batch_size_without_a_size_is_refused(summary):
    status, out, err = summary("net.py:Net", "--batch-size", "4")
    assert (status, out) == (2, "")
    assert "a batch size, a batch dimension and dtypes need a size to act on" in err


def test_every_format_but_json_is_one_of_the_renderers():
    assert set(output.FORMATS) == {*torchgauge.render.FORMATS, "json"}


@pytest.mark.parametrize("word", ["--expand", "--unfold"])
def test_options_of_the_table_reach_the_renderer(word, summary, rendering):
    summary(
        *("net.py:Net", "--depth", "2", "--columns", "params, macs", word, "--ascii"),
        *("--width", "90", "--color", "always", "--no-details"),
    )
    assert rendering[-1].name == "text"
    assert rendering[-1].tree == {"depth": 2, "columns": ("params", "macs"), "expand": True}
    assert rendering[-1].options == {
        "ascii": True, "width": 90, "color": True, "details": False,
    }  # fmt: skip


@pytest.mark.parametrize("command", ["summary", "fit", "measure", "devices", "doctor"])
def test_the_former_name_of_expand_is_not_in_the_help(command, capsys):
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--unfold" not in shown and "html" in shown and "import:" in shown


@pytest.mark.parametrize(
    ("options", "is_terminal", "expected"),
    [
        ((), True, False),
        ((), False, True),
        (("--details",), True, True),
        (("--no-details",), False, False),
        (("--output", "report.txt"), True, True),
    ],
)
def test_a_terminal_shows_the_calm_view_and_a_file_everything(
    options, is_terminal, expected, summary, rendering, monkeypatch
):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal, raising=False)
    summary("net.py:Net", *options)
    assert rendering[-1].options["details"] is expected


def test_a_format_is_imported_from_the_folder_one_is_in(summary, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    code = "class Short:\n    def render(self, page):\n        return 'short'\n"
    (tmp_path / "own_format.py").write_text(code)
    status, _, err = summary("net.py:Net", "--format", "import:own_format:Short")
    assert (status, err.count("error")) == (0, 0)
    status, _, err = summary("net.py:Net", "--format", "import:own_format:Long")
    assert status == 2
    assert "import:own_format:Long cannot be imported: AttributeError: module" in err


@pytest.mark.parametrize(
    ("choice", "is_terminal", "no_color", "expected"),
    [
        ("auto", True, "", True),
        ("auto", True, "1", False),
        ("auto", False, "", False),
        ("always", False, "1", True),
        ("never", True, "", False),
    ],
)
def test_colour_follows_the_terminal_no_color_and_the_option(
    choice, is_terminal, no_color, expected, summary, rendering, monkeypatch
):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    summary("net.py:Net", "--color", choice)
    assert rendering[-1].options["color"] is expected


# ---------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("name", "format_name"),
    [("r.md", "markdown"), ("r.csv", "csv"), ("r.tex", "latex"), ("r.html", "html")],
)
def test_the_suffix_of_the_file_chooses_the_format(name, format_name, summary, tmp_path):
    status, out, _ = summary("net.py:Net", "--output", name)
    assert (status, out) == (0, "")
    assert json.loads((tmp_path / name).read_text())["format"] == format_name


def test_format_beats_the_suffix(summary, tmp_path):
    summary("net.py:Net", "--output", "r.md", "--format", "json")
    assert json.loads((tmp_path / "r.md").read_text())["schema_version"] == 1


def test_a_file_is_replaced_whole_and_keeps_its_permissions(summary, tmp_path):
    old = tmp_path / "report.json"
    old.write_text("old")
    old.chmod(0o600)
    summary("net.py:Net", "--output", "report.json")
    assert "old" not in old.read_text()
    assert stat.S_IMODE(old.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != "") == [
        "net.py",
        "report.json",
    ]


def test_a_file_stays_as_it_was_when_writing_fails(summary, tmp_path, monkeypatch):
    (tmp_path / "report.json").write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    status, _, err = summary("net.py:Net", "--output", "report.json")
    assert status == 2
    assert "cannot write report.json: No space left on device" in err
    assert (tmp_path / "report.json").read_text() == "old"
    assert not list(tmp_path.glob(".report.json.*"))


# ---------------------------------------------------------------------------- failures


def test_a_failing_model_prints_its_partial_report_and_exits_with_3(summary, analysis):
    analysis.error = ModelError("layer1 failed", hint="use 3 channels", report=REPORT)
    status, out, err = summary("net.py:Net", "--input-size", "4", "--format", "json")
    assert status == 3
    assert json.loads(out)["totals"]["params"] == 10
    assert "torchgauge: error: layer1 failed\n  try: use 3 channels\n" in err
    assert "Traceback" not in err


def test_a_constructor_that_raises_is_named_with_its_line(summary):
    status, out, err = summary("net.py:Broken")
    assert (status, out) == (2, "")
    line = NET.splitlines().index('        raise RuntimeError("no such thing")') + 1
    assert (
        f"torchgauge: error: net.py:Broken: building the model failed at net.py:{line}: "
        "RuntimeError: no such thing" in err
    )
    assert "Traceback" not in err


def test_debug_shows_the_traceback(summary):
    status, _, err = summary("net.py:Broken", "--debug")
    assert status == 2
    assert "Traceback (most recent call last)" in err
    assert 'raise RuntimeError("no such thing")' in err


def test_ctrl_c_is_one_line_and_130(summary, analysis):
    analysis.error = KeyboardInterrupt()
    status, out, err = summary("net.py:Net")
    assert (status, out) == (130, "")
    assert err.endswith("torchgauge: interrupted\n")
    assert "Traceback" not in err


def test_a_terminal_that_shows_a_failure_does_not_get_it_again(summary, analysis, monkeypatch):
    report = report_builder.failed()
    analysis.error = ModelError("features.3 failed: sizes", hint="use 32 channels", report=report)
    assert "error: features.3 failed: sizes\n  try: use 32 channels" in summary("net.py:Net")[2]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    status, _, err = summary("net.py:Net")
    assert status == 3
    assert err.endswith("torchgauge: error: features.3 (Conv2d) failed, see above\n")


def test_a_dependency_that_is_missing_is_named(summary, analysis):
    analysis.error = ModuleNotFoundError("No module named 'msgspec'", name="msgspec")
    status, _, err = summary("net.py:Net")
    assert status == 2
    assert err.endswith("error: msgspec is not installed\n  try: pip install msgspec\n")


def test_a_bug_of_ours_is_called_one(summary, analysis):
    analysis.error = ZeroDivisionError("division by zero")
    status, _, err = summary("net.py:Net")
    assert status == 70
    assert "internal error: ZeroDivisionError: division by zero" in err
    assert "Traceback" not in err


def test_the_search_path_is_left_as_it_was(summary, tmp_path):
    before = list(sys.path)
    summary("net.py:Net")
    assert sys.path == before


@pytest.mark.parametrize("lines", [1, 20_000])
def test_a_reader_that_goes_away_is_no_error(lines):
    code = (
        "import sys; from torchgauge.cli import main as cli\n"
        "def write(arguments):\n"
        "    sys.stdin.read()  # until the reader is gone\n"
        f"    for _ in range({lines}): print('x' * 50)\n"
        "    return 0\n"
        "cli._dispatch = write\n"
        "sys.exit(cli.main(['anything']))"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # Buffered, as usual: what is left in the buffer is what Python trips over when it ends.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, text=True, env=env, **pipes) as process:
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 141


@pytest.mark.parametrize(
    ("redirection", "message"),
    [(">&-", "the standard output is closed"), (">/dev/full", "cannot write to the standard")],
)
def test_an_output_that_takes_nothing_is_no_bug(redirection, message):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    code = "from torchgauge.cli.main import main; raise SystemExit(main())"
    shell = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(code)} summary torch.nn:Linear"
    done = subprocess.run(
        ["sh", "-c", f"{shell} --set in_features=2 --set out_features=2 {redirection}"],
        stderr=subprocess.PIPE, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert message in done.stderr and "--output" in done.stderr and "bug" not in done.stderr


# ---------------------------------------------------------------------------- strict


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"not_counted": (NotCounted(op="my.op", calls=3, why="no formula"),)},
            "not counted: my.op (3 ×): no formula",
        ),
        ({"assumptions": ("as usual", Guess("x is an image"))}, "guessed: x is an image"),
        ({"warnings": ("layer2 never ran",)}, "warning: layer2 never ran"),
    ],
)
def test_strict_exits_with_4_and_lists_what_is_in_doubt(change, line, summary, analysis):
    analysis.report = dataclasses.replace(REPORT, **change)
    assert summary("net.py:Net", "--input-size", "4")[0] == 0
    status, out, err = summary("net.py:Net", "--input-size", "4", "--strict", "--format", "json")
    assert status == 4
    assert json.loads(out)["totals"]["params"] == 10
    assert f"--strict: the report is incomplete or holds guesses\n  {line}\n" in err


def test_strict_is_fine_with_a_report_free_of_doubt(summary, analysis):
    analysis.report = dataclasses.replace(REPORT, assumptions=("read as a batch",))
    assert summary("net.py:Net", "--input-size", "4", "--strict")[0] == 0


# ---------------------------------------------------------------------------- progress


@pytest.mark.parametrize("width", [8, 20, 39, 80])
@pytest.mark.parametrize(
    "text",
    [
        "real run of every layer on the CPU, which takes a while [/x]",
        "在 CPU 上真实运行，需要较长的时间",
    ],
)
def test_a_line_of_progress_does_not_wrap(text, width):
    """Not even where a terminal wraps after its last cell."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, color_system=None)
    with console.status(progress._line(text, width)):
        pass
    shown = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "\n", stream.getvalue())
    lines = [line for line in shown.split("\n") if line.strip()]
    assert lines
    assert all(cell_len(line.rstrip()) < width for line in lines)
    assert any(line.strip().endswith("…") for line in lines)
    assert len({line for line in lines if "…" in line}) <= 2  # the marks turn, the text stays


def test_progress_appears_on_a_terminal_after_a_moment_only(monkeypatch):
    shown = threading.Event()

    class Status:
        console = SimpleNamespace(width=80)

        def start(self):
            shown.set()

        def update(self, text):
            pass

        def stop(self):
            pass

    class Console:
        width = 80

        def __init__(self, **_):
            pass

        def status(self, text):
            return Status()

    monkeypatch.setattr("rich.console.Console", Console)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.Progress(delay=30):
        pass
    assert not shown.is_set()
    with progress.Progress(delay=0) as status:
        assert shown.wait(10)
        status.update("forward")
    shown.clear()
    with progress.Progress(enabled=False, delay=0), contextlib.suppress(TimeoutError):
        assert not shown.wait(0.05)
