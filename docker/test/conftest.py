"""What the image tests share: the image, a workspace, SSH keys, one running container."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import FIGURES, TOKEN, Container, Ports, free_ports, make_workspace


@pytest.fixture(scope="session")
def image() -> str:
    return os.environ["IMAGE_TEST_IMAGE"]


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SSH key pair: this path and the same with .pub."""
    return make_key(tmp_path_factory.mktemp("keys") / "id_ed25519")


@pytest.fixture(scope="session")
def other_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_key(tmp_path_factory.mktemp("keys") / "id_ed25519")


def make_key(path: Path) -> Path:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "image-test", "-f", str(path)]
    subprocess.run(command, check=True)
    path.with_suffix(".pub").chmod(0o644)
    return path


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="session")
def ports() -> Ports:
    return free_ports()


@pytest.fixture(scope="session")
def running(image: str, key: Path, workspace: Path, ports: Ports) -> Iterator[Container]:
    """The image as people start it: ports published, a workspace, a token, a key file."""
    container = Container.start(
        image,
        f"--publish=127.0.0.1:{ports.jupyter}:8888",
        f"--publish=127.0.0.1:{ports.ssh}:22",
        "--sysctl=net.ipv4.ip_unprivileged_port_start=0",
        f"--volume={workspace}:/workspace",
        f"--volume={key.with_suffix('.pub')}:/run/keys/me.pub:ro",
        f"--env=JUPYTER_TOKEN={TOKEN}",
        "--env=SSH_AUTHORIZED_KEYS_FILE=/run/keys/me.pub",
    )
    try:
        container.wait_until_ready()
        yield container
    finally:
        container.remove()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("figures")
    for figure in FIGURES:
        terminalreporter.line(figure)
