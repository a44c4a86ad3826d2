"""``torchgauge check`` in scratch projects, run as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from budget_project import PARAMS, Project
from torchgauge.cli.main import main
from torchgauge.loop.workers import usable_cpus

SMALL = """\
[tool.torchgauge.models.small]
spec = "net.py:Net"
input-size = [8]
batch-size = 4
"""
BUDGETS = f"""\
{SMALL}max-params = 1000
peak-memory = "1 MiB"

[tool.torchgauge.models.wide]
spec = "net.py:Net"
set = {{ width = 4096 }}
input-size = "8"
max-params = "10 K"
mode = "training"
optimizer = "adamw"
fits = ["T4", "A10"]
step-time = "1 s"
nothing-uncounted = true

[tool.torchgauge.models.broken]
spec = "net.py:Broken"
input-size = [3, 8]

[tool.torchgauge.models.gone]
spec = "gone.py:Net"

[tool.torchgauge.models.dies]
spec = "dies.py:Net"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    made = Project(tmp_path_factory.mktemp("project"), BUDGETS)
    made.write("dies.py", "import os\nos.kill(os.getpid(), 11)\n")
    return made


@pytest.fixture(scope="module")
def done(project):
    saved = ("--save", "json=check.json", "--save", "junit=check.xml")
    return project.check("--width", "100", *saved, "--jobs", "1")


@pytest.fixture(scope="module")
def answer(project, done):
    assert done.returncode == 3, done.stderr
    return json.loads((project.folder / "check.json").read_text())


def of(answer, name):
    (found,) = [model for model in answer["models"] if model["name"] == name]
    return found


def test_each_limit_has_a_line(done, answer):
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["small", "ok", "max-params", str(PARAMS), "1,000", "−822", "(−82.20", "%)"] in lines
    assert [model["outcome"] for model in answer["models"]] == [
        "ok", "over", "error", "error", "error",
    ]  # fmt: skip
    assert [limit["key"] for limit in of(answer, "wide")["limits"]] == [
        "max-params", "step-time", "fits", "fits", "nothing-uncounted",
    ]  # fmt: skip


def test_the_layer_that_broke_it_is_named(answer, done):
    limit = of(answer, "wide")["limits"][0]
    assert (limit["value"], limit["limit"], limit["excess"]) == (45058, 10000, 35058)
    assert limit["layers"][0] == {
        "path": "0", "type": "Linear", "value": 36864, "is_difference": False,
    }  # fmt: skip
    assert "in     0 Linear: 36,864" in done.stdout


def test_a_model_that_fails_does_not_hold_up_the_others(answer):
    assert of(answer, "broken")["error"].startswith(
        "Broken failed in forward: ValueError: no weights today"
    )
    assert of(answer, "broken")["error_status"] == 3
    assert "there is no file gone.py" in of(answer, "gone")["error"]
    assert of(answer, "gone")["error_status"] == 2
    assert of(answer, "dies")["error"] == "the process that analysed it ended: SIGSEGV"


def test_the_status_is_that_of_what_was_named(project):
    done = project.check("small", "--format", "github")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "torchgauge: 1 model within budget"
    assert "::error" not in done.stdout


def test_from_a_folder_below(project):
    (project.folder / "deep").mkdir()
    below = Project(project.folder / "deep")
    (below.folder / "pyproject.toml").unlink()
    (below.folder / "net.py").unlink()
    done = below.check("wide", "--format", "gitlab")
    assert done.returncode == 1, done.stderr
    (entry,) = json.loads(done.stdout)
    assert entry["check_name"] == "torchgauge.max-params"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("smal",), "pyproject.toml has no model 'smal'\n  try: did you mean small?"),
        (("--config", "no.toml"), "cannot read no.toml: No such file or directory"),
        (("--base", "main"), "git rev-parse failed"),
        (("--comment",), "--comment needs GITHUB_REPOSITORY, which is not set"),
        (("--save", "junit"), "'junit' is not FORMAT=FILE; write junit=budgets.xml"),
        (("--save", "junit=no/x.xml"), "there is no folder no"),
        (("--format", "sarif", "--width", "60"), "--width has no meaning in sarif"),
        (("--format", "junt"), "unknown name 'junt'; did you mean junit?"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, arguments, message, monkeypatch, capsys):
    monkeypatch.chdir(Project(tmp_path, SMALL).folder)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    assert main(["check", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_suffix_chooses_the_format(tmp_path):
    project = Project(tmp_path, SMALL)
    assert project.check("--output", "found.sarif").returncode == 0
    assert json.loads((tmp_path / "found.sarif").read_text())["version"] == "2.1.0"


@pytest.mark.slow
def test_against_a_baseline(tmp_path):
    project = Project(tmp_path, SMALL + 'max-params = "baseline"\npeak-memory = "baseline + 2 %"\n')
    missing = project.check()
    assert missing.returncode == 2
    assert "there is no baseline .torchgauge/small.json" in missing.stdout

    assert project.check("--update-baseline").returncode == 0
    assert (tmp_path / ".torchgauge" / "small.json").stat().st_size < 20_000

    project.write("net.py", (tmp_path / "net.py").read_text().replace("width=16", "width=17"))
    grown = project.check("--width", "100")
    assert grown.returncode == 1
    assert "189, 11 over the limit of 178 (baseline) (+6.18 %)" in grown.stdout
    assert "grew most since the baseline" in grown.stdout
    assert "0 Linear: +9" in grown.stdout


def test_models_with_files_of_the_same_name(tmp_path):
    tables = [SMALL.replace("small", name).replace("net.py", f"{name}/net.py") for name in "ab"]
    project = Project(tmp_path, "".join(tables))
    for name, width in (("a", 3), ("b", 5)):
        project.write(f"{name}/sizes.py", f"width = {width}")
        project.write(
            f"{name}/net.py",
            "from torch import nn\nfrom sizes import width\nNet = lambda: nn.Linear(8, width)\n",
        )
    done = project.check("--format", "json", "--jobs", "1", "--update-baseline")
    assert done.returncode == 0, done.stdout
    params = {
        name: json.loads((tmp_path / ".torchgauge" / f"{name}.json").read_text())["totals"][
            "params"
        ]
        for name in "ab"
    }
    assert params == {"a": 8 * 3 + 3, "b": 8 * 5 + 5}


@pytest.mark.slow
def test_against_the_base_branch(tmp_path):
    project = Project(tmp_path, SMALL + "max-params = 1000\n")
    project.commit()
    project.git("checkout", "-q", "-b", "change")
    project.write("net.py", (tmp_path / "net.py").read_text().replace("width=16", "width=32"))
    project.write("new.py", "from torch import nn\nNet = lambda: nn.Linear(8, 8)\n")
    new = SMALL.replace("small", "new").replace("net.py", "new.py")
    project.write("pyproject.toml", SMALL.replace("batch-size = 4", "batch-size = 8") + new)
    before = project.git("status", "--porcelain")

    done = project.check("--base", "main", "--format", "markdown")

    assert done.returncode == 0, done.stderr
    assert "| `small` | parameters | 178 | 354 | +176 (+98.88 %) |" in done.stdout
    assert "small: 0 Linear changed, +144 parameters" in done.stdout
    assert "new: nothing to compare with at main: " in done.stdout
    assert "there is no file new.py" in done.stdout
    assert "small: different settings at main: batch size 4 → 8, inputs " in done.stdout
    assert project.git("status", "--porcelain") == before

    wrong = project.check("--base", "mian")
    assert wrong.returncode == 2
    assert "there is no revision 'mian'" in wrong.stderr


def test_strict_refuses_what_was_guessed(tmp_path):
    op = (
        "import torch\nfrom torch import nn\n"
        "@torch.library.custom_op('my::op', mutates_args=())\n"
        "def op(x: torch.Tensor) -> torch.Tensor:\n    return x.clone()\n"
        "@op.register_fake\ndef _(x):\n    return torch.empty_like(x)\n"
        "class Net(nn.Module):\n    def forward(self, x):\n        return op(x)\n"
    )
    project = Project(tmp_path, SMALL)
    project.write("net.py", op)
    done = project.check("--strict", "--quiet")
    assert done.returncode == 4
    assert "small: not counted: my.op.default" in done.stderr
    project.write("pyproject.toml", SMALL + "nothing-uncounted = true\n")
    done = project.check("--width", "100")
    assert done.returncode == 1
    assert "nothing-uncounted\n   1 kind of operators: my.op.default" in done.stdout


def test_importing_the_command_is_light():
    code = (
        "import torchgauge.cli.commands.check, torchgauge.budget.check, sys; "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False"


@pytest.mark.timed
def test_ten_models_take_at_most_twice_as_long_as_the_slowest(tmp_path):
    if os.getloadavg()[0] > 1.5 * usable_cpus():
        pytest.skip("other programs use the CPUs, so that times say nothing")
    table = """\
[tool.torchgauge.models.m{number}]
spec = "deep.py:deep"
set = {{ layers = {layers} }}
input-size = [8, 32, 32]
batch-size = 4
mode = "training"
device = "T4"
max-params = "1 M"
"""
    sizes = [300, *([100] * 9)]
    tables = (table.format(number=number, layers=layers) for number, layers in enumerate(sizes))
    project = Project(tmp_path, "".join(tables))
    project.write(
        "deep.py",
        "from torch import nn\n"
        "def deep(layers):\n    return nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1)"
        " for _ in range(layers)))\n",
    )
    started = time.monotonic()
    assert project.check("m0").returncode == 0
    alone = time.monotonic() - started
    assert project.check().returncode == 0
    assert time.monotonic() - started - alone <= 2 * alone
