"""The hosted workflow runs what ``.ci/run`` runs, and that is every check of the Makefile."""

from __future__ import annotations

import os
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ".ci/run"
LEFT_OUT = {
    "test-cpu-time": "times of a whole machine: another program on the host decides them",
    "check": "is made of other targets",
    "test-torch26": "takes as long as all others; test-torch26-smoke is a part of it",
}
"""Checks of the Makefile that ``.ci/run`` leaves out, and why."""


def script_steps() -> list[str]:
    """The make targets of ``.ci/run``, in their order."""
    lines = re.findall(r"^(?:step|together) ([\w -]+)$", (ROOT / SCRIPT).read_text(), re.MULTILINE)
    return [target for line in lines for target in line.split()]


def workflow_steps() -> list[str]:
    """The make targets that the hosted workflow comes to, ``.ci/run`` written out."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    commands = [
        line.strip()
        for job in workflow["jobs"].values()
        for step in job["steps"]
        for line in step.get("run", "").splitlines()
    ]
    targets: list[str] = []
    for command in commands:
        if command == SCRIPT:
            targets += script_steps()
        elif command.startswith("make "):
            targets += command.split()[1:]
        else:
            raise AssertionError(f"neither {SCRIPT} nor make: {command}")
    return targets


def makefile_targets(section: str) -> set[str]:
    """The targets with a line of help in a section of the Makefile."""
    text = (ROOT / "Makefile").read_text()
    body = re.split(rf"^# -+ {section}$", text, flags=re.MULTILINE)[1]
    body = re.split(r"^# -+ ", body, flags=re.MULTILINE)[0]
    return set(re.findall(r"^([\w-]+):.*## ", body, re.MULTILINE))


def test_the_workflow_runs_what_the_script_runs():
    assert workflow_steps() == script_steps()
    assert len(script_steps()) == len(set(script_steps())) > 8
    assert os.access(ROOT / SCRIPT, os.X_OK)


def test_every_check_is_run_or_has_a_reason_not_to_be():
    checks = makefile_targets("check")
    assert checks - set(script_steps()) == set(LEFT_OUT)


def test_every_step_is_a_target():
    text = (ROOT / "Makefile").read_text()
    known = set(re.findall(r"^([\w-]+):", text, re.MULTILINE))
    assert set(script_steps()) <= known


def test_the_workflow_waits_longer_than_the_script_may_take():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    limit = re.search(r"CI_LIMIT_SECONDS:-(\d+)", (ROOT / SCRIPT).read_text())
    assert limit is not None
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] * 60 > int(limit[1])
