"""Completion, in the shells themselves: what Tab offers."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from torchgauge.cli.commands import COMMANDS
from torchgauge.cli.completion.words import FILES, described, torchvision_names
from torchgauge.cli.main import main
from torchgauge.devices import all_devices
from torchgauge.models.sources.library import import_library

START = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}


def script_of(shell: str, folder: Path) -> Path:
    path = folder / f"torchgauge.{shell}"
    command = [sys.executable, "-m", "torchgauge", "completion", shell]
    path.write_text(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return path


def needs(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("completion")
    (made / "network.py").touch()
    return made


class Terminal:
    """A shell in a terminal, with the completion loaded."""

    def __init__(self, shell: str, folder: Path) -> None:
        self._pid, self._end = pty.fork()
        if self._pid == 0:
            os.chdir(folder)
            environment = {**os.environ, "TERM": "dumb", "PS1": "$ ", "COLUMNS": "200"}
            os.execvpe(START[shell][0], START[shell], environment)
        ready = "autoload -U compinit; compinit -D; setopt no_list_beep; " if shell == "zsh" else ""
        if shell == "bash":
            ready = "bind 'set bell-style none'; bind 'set page-completions off'; "
        self.type(f"{ready}source {script_of(shell, folder)}; PS1='$ '; echo rea''dy\n")
        self.read("ready")

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def read(self, until: str = "", quiet: float = 1.5) -> str:
        text, limit = "", time.monotonic() + 60
        while time.monotonic() < limit:
            if not select.select([self._end], [], [], quiet)[0]:
                if not until or until in text:
                    return text
                continue
            text += os.read(self._end, 65536).decode(errors="replace")
        raise AssertionError(f"no {until!r} in {text!r}")

    def tab(self, line: str) -> str:
        """Return what stands on the line and below it after Tab was pressed twice."""
        self.type(f"\x15{line}")
        self.read()
        self.type("\t\t")
        shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x07", "", self.read())
        self.type("\x15")
        return line + shown

    def close(self) -> None:
        os.close(self._end)
        os.waitpid(self._pid, 0)


@pytest.fixture(scope="module", params=["bash", "zsh"])
def terminal(request: pytest.FixtureRequest, folder: Path) -> Terminal:
    needs(request.param)
    started = Terminal(request.param, folder)
    yield started
    started.close()


CASES = {
    "torchgauge summ": ["torchgauge summary"],
    "torchgauge summary --mo": ["summary --mode"],
    "torchgauge summary --mode tr": ["--mode training"],
    "torchgauge fit --optimizer adamw-": ["--optimizer adamw-8bit"],
    "torchgauge summary torchvision:resnext1": ["torchvision:resnext101_"],
    "torchgauge summary torchvision:wide_resnet50": ["torchvision:wide_resnet50_2"],
    "torchgauge summary netw": ["summary network.py"],
    "torchgauge summary --device Jetson\\ AGX\\ Or": ["Jetson\\ AGX\\ Orin"],
    "torchgauge summary --mode ": ["inference", "training"],
    "torchgauge summary --output netw": ["--output network.py"],
    "torchgauge explain --top 3 --modul": ["--module"],
}


@pytest.mark.slow  # a terminal says nothing of when it is done
@pytest.mark.parametrize("line", CASES)
def test_tab_in_a_terminal(terminal, line):
    if "torchvision" in line and not torchvision_names():
        pytest.skip("torchvision is not installed")
    shown = terminal.tab(line)
    for expected in CASES[line]:
        assert expected in shown


def fish(folder: Path, line: str) -> list[str]:
    script = script_of("fish", folder)
    command = ["fish", "--no-config", "-c", f"source {script}; complete -C {line!r}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    return [entry.partition("\t")[0] for entry in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("torchgauge summ", ["summary"]),
        ("torchgauge summary --mode tr", ["training"]),
        ("torchgauge summary --device 'RTX 3060 1", ["RTX 3060 12GB"]),
        ("torchgauge summary torchvision:wide_resnet50", ["torchvision:wide_resnet50_2"]),
        ("torchgauge summary netw", ["network.py"]),
    ],
)
def test_fish(folder, line, expected):
    needs("fish")
    if "torchvision" in line and not torchvision_names():
        pytest.skip("torchvision is not installed")
    assert fish(folder, line) == expected


def test_every_command_and_option_is_there():
    found = {command.name: command for command in described(COMMANDS)}
    assert list(found) == list(COMMANDS)
    summary = {flag: option for option in found["summary"].options for flag in option.flags}
    assert set(summary["--device"].values) >= {device.name for device in all_devices()}
    assert summary["--output"].values == FILES
    assert not summary["--checkpointing"].takes_value
    assert summary["--help"].help
    assert found["completion"].values == ("bash", "zsh", "fish")
    for command in found.values():
        assert any("--lang" in option.flags for option in command.options)


def test_models_of_torchvision_are_those_that_it_registers():
    if not torchvision_names():
        pytest.skip("torchvision is not installed")
    import_library("torchvision", install="torchgauge[vision]")
    models = import_library("torchvision.models", install="torchgauge[vision]")
    assert torchvision_names() == tuple(sorted(models.list_models()))


def test_the_script_is_made_without_torch():
    code = (
        "import sys\nfrom torchgauge.cli.main import main\nmain(['completion', 'bash'])\n"
        "assert not {'torch', 'torchvision', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_an_unknown_shell_is_refused(capsys):
    assert main(["completion", "fsh"]) == 2
    assert "did you mean fish" in capsys.readouterr().err
