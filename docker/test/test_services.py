"""Jupyter, SSH, torchgauge and the doctor in the running image."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from containers import TOKEN, USER_ID, Container, Ports, run

HERE = Path(__file__).parent
NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": "one",
            "metadata": {},
            "outputs": [],
            "source": "import torch, torchgauge\n"
            "report = torchgauge.analyze(torch.nn.Linear(3, 4), (3,))\n"
            "print('parameters', report.totals.params)",
        }
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


def ask(ports: Ports, path: str, token: str = "", body: object = None) -> tuple[int, bytes]:
    """Status and body of a request to Jupyter; a body makes it a PUT."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{ports.jupyter}{path}",
        data=None if body is None else json.dumps(body).encode(),
        method="GET" if body is None else "PUT",
        headers={"Authorization": f"token {token}"} if token else {},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def ssh(ports: Ports, *options: str, command: str = "true") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *("ssh", "-F", "none", "-p", str(ports.ssh), "-o", "BatchMode=yes"),
            *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
            *("-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=30"),
            *options,
            *("gauge@127.0.0.1", command),
        ],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


# ---------------------------------------------------------------- Jupyter


@pytest.mark.parametrize("token", ["", "wrong"])
@pytest.mark.parametrize("path", ["/api/contents", "/api/kernels", "/api/terminals"])
def test_jupyter_demands_its_token(running: Container, ports: Ports, path: str, token: str) -> None:
    assert ask(ports, path, token)[0] == 403


def test_jupyter_answers_with_its_token(running: Container, ports: Ports) -> None:
    assert ask(ports, "/api/contents", TOKEN)[0] == 200
    status, page = ask(ports, "/lab", TOKEN)
    assert status == 200
    assert b"JupyterLab" in page


def test_a_notebook_is_executed_and_its_owner_is_the_user(
    running: Container, ports: Ports, workspace: Path
) -> None:
    written = {"type": "notebook", "content": NOTEBOOK}
    assert ask(ports, "/api/contents/trial.ipynb", TOKEN, written)[0] == 201
    running.exec("jupyter", "execute", "--inplace", "trial.ipynb")
    status, body = ask(ports, "/api/contents/trial.ipynb", TOKEN)
    assert status == 200
    (cell,) = json.loads(body)["content"]["cells"]
    assert cell["outputs"][0]["text"] == "parameters 16\n"
    owner = (workspace / "trial.ipynb").stat()
    assert (owner.st_uid, owner.st_gid) == (USER_ID, USER_ID)


def test_a_kernel_runs_code_as_the_user_and_does_not_see_the_token(
    running: Container, workspace: Path
) -> None:
    (workspace / "kernel_client.py").write_text((HERE / "kernel_client.py").read_text())
    code = "import os; print(os.getuid(), os.getcwd(), os.environ.get('JUPYTER_TOKEN'))"
    output = running.exec("python", "kernel_client.py", TOKEN, code)
    assert output == f"{USER_ID} /workspace None\n"


def test_the_token_is_in_no_command_line(running: Container) -> None:
    everything = running.exec("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "jupyter" in everything
    assert TOKEN not in everything


def test_the_token_may_be_in_a_file(image: str, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("from-a-file\n")
    secret.chmod(0o644)
    container = Container.start(
        image,
        *(f"--volume={secret}:/run/secrets/token:ro", "--env=TORCHGAUGE_DOCTOR=off"),
        "--env=JUPYTER_TOKEN_FILE=/run/secrets/token",
    )
    try:
        assert "/lab?token=from-a-file  (the one in /run" in container.wait_until_ready()
        address = "http://127.0.0.1:8888/api/contents?token=from-a-file"
        code = f"import urllib.request as u; print(u.urlopen('{address}').status)"
        assert container.exec("python", "-c", code) == "200\n"
    finally:
        container.remove()


# ---------------------------------------------------------------- SSH


def test_ssh_lets_the_key_in(running: Container, ports: Ports, key: Path) -> None:
    done = ssh(ports, "-i", str(key), command="id -u && torchgauge --version && touch /workspace/s")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{USER_ID}\ntorchgauge ")


def test_a_login_shell_has_the_environment(running: Container, ports: Ports, key: Path) -> None:
    done = ssh(ports, "-i", str(key), command="bash -lc 'command -v python'")
    assert done.stdout == "/opt/venv/bin/python\n"


def test_ssh_refuses_a_password(running: Container, ports: Ports) -> None:
    done = ssh(
        ports,
        *("-o", "PubkeyAuthentication=no", "-o", "BatchMode=no"),
        *("-o", "PreferredAuthentications=password,keyboard-interactive"),
    )
    assert done.returncode == 255
    # What is in parentheses is all that the server offers.
    assert "Permission denied (publickey)" in done.stderr


def test_ssh_refuses_another_key(running: Container, ports: Ports, other_key: Path) -> None:
    done = ssh(ports, "-i", str(other_key))
    assert done.returncode == 255
    assert "Permission denied (publickey)" in done.stderr


def test_ssh_refuses_root(running: Container, ports: Ports, key: Path) -> None:
    done = ssh(ports, "-i", str(key), "-l", "root")
    assert done.returncode == 255
    assert "Permission denied (publickey)" in done.stderr


# ---------------------------------------------------------------- torchgauge


def test_summary(running: Container) -> None:
    output = running.exec(
        *("torchgauge", "summary", "/opt/torchgauge/examples/simple_cnn.py:SimpleCNN"),
        *("--input-size", "3,224,224", "--format", "json"),
    )
    assert json.loads(output)["totals"]["params"] == 401_484_648


def test_the_start_prints_the_doctors_result(running: Container) -> None:
    log = running.wait_for_log("torchgauge: doctor: ")
    assert "torchgauge: doctor: exit status 0" in log
    # A CPU build on a machine without a GPU: said, and no fault.
    assert "no-gpu" in log
    assert json.loads(running.exec("torchgauge", "doctor", "--no-checks", "--format", "json"))


def test_a_gpu_that_must_be_there_and_is_not_ends_the_start(image: str) -> None:
    done = run(image, options=("--env=TORCHGAUGE_DOCTOR=require-gpu",))
    assert done.returncode == 2
    assert "the doctor found a fault (above) and TORCHGAUGE_DOCTOR=require-gpu" in done.stderr
    assert "Jupyter" not in done.stdout


# ---------------------------------------------------------------- the container


def test_the_container_is_healthy(running: Container) -> None:
    assert "Jupyter and SSH up" in running.exec("torchgauge-healthcheck")


def test_orphans_are_reaped(running: Container) -> None:
    running.exec("sh", "-c", "(sh -c 'sleep 0.3; exit 0' &) ; sleep 1")
    states = running.exec("sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null | cut -d' ' -f3")
    assert "Z" not in states.split()
    assert running.exec("cat", "/proc/1/comm") == "tini\n"


def test_what_was_written_belongs_to_the_user(
    running: Container, workspace: Path, ports: Ports, key: Path
) -> None:
    running.exec("touch", "/workspace/exec")
    for path in workspace.iterdir():
        if path.name != "kernel_client.py":  # written from outside
            assert os.stat(path).st_uid == USER_ID, path
