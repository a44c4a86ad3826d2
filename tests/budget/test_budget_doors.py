"""Where budgets live: the Action, GitLab, pre-commit and the page, run in scratch repositories.

Their scripts are taken out of the files and run by bash as the services run them. pre-commit
itself runs where it is installed; else the entry of its hook runs as it would.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from budget_project import SOURCE, Project
from github_api import Api

ROOT = SOURCE.parent
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
SMALL = """\
[tool.torchgauge.models.small]
spec = "net.py:Net"
input-size = [8]
batch-size = 4
max-params = {limit}
"""
WITHIN, OVER = SMALL.format(limit=200), SMALL.format(limit=177)


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    yield made
    made.close()


def clone(folder: Path, budgets: str) -> Project:
    """Return a project with a change on a branch, and a remote that has the base branch."""
    project = Project(folder / "project", SMALL.format(limit=100))
    project.write("net.py", (project.folder / "net.py").read_text().replace("=16", "=8"))
    project.commit()
    remote = folder / "remote.git"
    project.git("clone", "-q", "--bare", ".", str(remote))
    project.git("remote", "add", "origin", str(remote))
    project.git("checkout", "-q", "-b", "change")
    changed = Project(folder / "project", budgets)
    changed.commit()
    return changed


@pytest.mark.slow
@pytest.mark.parametrize(("budgets", "status"), [(WITHIN, 0), (OVER, 1)], ids=["within", "over"])
def test_the_action(tmp_path, api, budgets, status):
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    install, check = action["runs"]["steps"]
    assert action["runs"]["using"] == "composite"
    project = clone(tmp_path, budgets)
    given = {
        **api.environment(tmp_path), "PATH": PATH, "BASE": "main", "COMMENT": "true",
        "MODELS": "", "CONFIG": "", "SARIF": "found.sarif", "FROM_FORK": "",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"), "ACTION_PATH": str(ROOT),
    }  # fmt: skip
    # Every variable of the script comes from an input, or is set by the runner.
    assert set(re.findall(r"\$\{?([A-Z_]+)", check["run"])) <= {
        *check["env"],
        "GITHUB_STEP_SUMMARY",
    }
    installed = project.run("bash", "-e", "-c", install["run"], **given)
    assert (installed.returncode, installed.stdout) == (0, "")

    for _ in range(2 - status):  # posted twice, the comment exists once
        done = project.run("bash", "-eo", "pipefail", "-c", check["run"], **given)
        assert done.returncode == status, done.stderr

    line = "::error file=pyproject.toml,line=5,title=torchgauge%3A small%3A max-params::"
    assert (line in done.stdout) == bool(status)
    (comment,) = api.comments
    assert "| `small` | parameters | 90 | 178 | +88 (+97.78 %) |" in comment["body"]
    assert "**Against origin/main**" in (tmp_path / "summary.md").read_text()
    found = json.loads((project.folder / "found.sarif").read_text())
    assert len(found["runs"][0]["results"]) == status


@pytest.mark.slow
def test_the_action_does_not_comment_for_a_fork(tmp_path, api):
    check = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"][1]
    project = clone(tmp_path, WITHIN)
    given = {
        **api.environment(tmp_path), "PATH": PATH, "BASE": "main", "COMMENT": "true",
        "MODELS": "small", "CONFIG": "pyproject.toml", "SARIF": "", "FROM_FORK": "true",
    }  # fmt: skip
    done = project.run("bash", "-eo", "pipefail", "-c", check["run"], **given)
    assert done.returncode == 0, done.stderr
    assert api.seen == []


@pytest.mark.slow
@pytest.mark.parametrize(("budgets", "status"), [(WITHIN, 0), (OVER, 1)], ids=["within", "over"])
def test_the_gitlab_job(tmp_path, budgets, status):
    job = yaml.safe_load((ROOT / "templates" / "gitlab-budgets.yml").read_text())
    job = job["torchgauge-budgets"]
    project = clone(tmp_path, budgets)
    given = {**job["variables"], "PATH": PATH, "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main"}
    done = project.run("bash", "-eo", "pipefail", "-c", "\n".join(job["script"]), **given)
    assert done.returncode == status, done.stderr
    assert "Against origin/main" in done.stdout
    reports = job["artifacts"]["reports"]
    assert len(json.loads((project.folder / reports["codequality"]).read_text())) == status
    assert f'failures="{status}"' in (project.folder / reports["junit"]).read_text()


@pytest.mark.parametrize(("budgets", "status"), [(WITHIN, 0), (OVER, 1)], ids=["within", "over"])
def test_the_pre_commit_hook(tmp_path, budgets, status):
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    project = Project(tmp_path / "project", budgets)
    project.git("init", "-q", "-b", "main")
    project.git("add", "-A")
    if shutil.which("pre-commit"):
        hooks = Project(tmp_path / "hooks")
        shutil.copy(ROOT / ".pre-commit-hooks.yaml", hooks.folder)
        hooks.commit()
        repository = {"repo": str(hooks.folder), "rev": "main", "hooks": [{"id": hook["id"]}]}
        project.write(".pre-commit-config.yaml", yaml.safe_dump({"repos": [repository]}))
        project.git("add", "-A")
        home = str(tmp_path / "home")
        done = project.run("pre-commit", "run", "--all-files", PATH=PATH, PRE_COMMIT_HOME=home)
    else:
        assert (hook["language"], hook["pass_filenames"]) == ("system", False)
        done = project.run(*shlex.split(hook["entry"]), PATH=PATH)
    assert done.returncode == status, done.stdout + done.stderr
    assert ("1 over the limit of 177" in done.stdout) == bool(status)


def blocks(language: str) -> list[str]:
    page = (ROOT / "docs" / "budgets.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_ten_lines_for_a_pull_request(tmp_path, api):
    (text,) = blocks("yaml")
    assert text.count("\n") == 10
    workflow = yaml.safe_load(text)
    *_, step = workflow["jobs"]["budgets"]["steps"]
    project = clone(tmp_path, OVER)
    project.git("fetch", "-q", "origin")
    given = {**api.environment(tmp_path), "PATH": PATH, "GITHUB_BASE_REF": "main"}
    assert workflow["env"].keys() <= given.keys()
    done = project.run("bash", "-e", "-c", step["run"], **given)
    assert done.returncode == 1, done.stderr
    assert "::error file=pyproject.toml,line=5" in done.stdout
    assert len(api.comments) == 1


def test_the_budget_of_the_page_is_read(tmp_path):
    from torchgauge.budget.config import read_config
    from torchgauge.cli.budget_options import budgets_from

    budget, relative = blocks("toml")
    other = f'[tool.torchgauge.models.other]\nspec = "model.py:Net"\n{relative}'
    (tmp_path / "pyproject.toml").write_text(budget + other)
    first, second = budgets_from(read_config(tmp_path / "pyproject.toml"))
    assert [limit.key for limit in first.limits] == [
        "max-params", "peak-memory", "fits", "nothing-uncounted",
    ]  # fmt: skip
    assert all(limit.is_relative for limit in second.limits) and len(second.limits) == 3


@pytest.mark.slow
def test_the_test_of_the_page_runs(tmp_path):
    (text,) = blocks("python")
    model = "from torch import nn\nNet = lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())\n"
    project = Project(tmp_path)
    project.write("model.py", model)
    project.write("test_model.py", text)
    command = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q")
    path = f"{SOURCE}{os.pathsep}{tmp_path}"
    first = project.run(*command, "--gauge-update", PYTHONPATH=path)
    again = project.run(*command, PYTHONPATH=path)
    assert (first.returncode, again.returncode) == (0, 0), first.stdout + again.stdout
