"""The end of a container: on request quickly and with status 0, by accident with another."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from containers import TOKEN, Container, podman

HERE = Path(__file__).parent
MOST_SECONDS = 5.0


@pytest.fixture
def start(image: str, key: Path) -> Iterator[Callable[..., Container]]:
    """Start containers with Jupyter and SSH, and remove them afterwards."""
    started: list[Container] = []

    def start_one(*options: str) -> Container:
        container = Container.start(
            image,
            "--env=SSH_PORT=2222",
            f"--env=SSH_AUTHORIZED_KEYS={key.with_suffix('.pub').read_text()}",
            "--env=TORCHGAUGE_DOCTOR=off",
            f"--env=JUPYTER_TOKEN={TOKEN}",
            *options,
        )
        started.append(container)
        container.wait_until_ready()
        return container

    yield start_one
    for container in started:
        container.remove()


def test_stop_is_quick_and_clean(start: Callable[..., Container]) -> None:
    container = start()
    seconds = container.stop()
    assert container.exit_status() == 0, container.logs()
    assert seconds < MOST_SECONDS
    assert "torchgauge: stopped" in container.logs()


def test_a_busy_kernel_does_not_hold_it_up(start: Callable[..., Container]) -> None:
    container = start(f"--volume={HERE}/kernel_client.py:/tmp/kernel_client.py:ro")
    # Neither an interrupt nor SIGTERM ends this one.
    code = (
        "import signal\n"
        "for ending in (signal.SIGINT, signal.SIGTERM): signal.signal(ending, signal.SIG_IGN)\n"
        "print('busy', flush=True)\n"
        "while True: pass"
    )
    assert "busy" in container.exec("python", "/tmp/kernel_client.py", TOKEN, code, "8")
    seconds = container.stop()
    assert container.exit_status() == 0, container.logs()
    assert seconds < MOST_SECONDS


def test_ctrl_c_stops_it_too(start: Callable[..., Container]) -> None:
    container = start()
    podman("kill", f"--signal={signal.SIGINT.name}", container.name)
    assert container.wait_until_ended(MOST_SECONDS) == 0
    assert "torchgauge: stopped" in container.logs()


@pytest.mark.parametrize(("process", "name"), [("sshd", "SSH"), ("jupyter-lab", "Jupyter")])
def test_a_service_that_dies_takes_the_container_with_it(
    start: Callable[..., Container], process: str, name: str
) -> None:
    container = start()
    find = f"grep -ls '^{process}' /proc/[0-9]*/comm | cut -d/ -f3"
    script = f"kill -9 $({find} | head -n 1)"
    container.exec("sh", "-c", script)
    assert container.wait_until_ended() == 128 + signal.SIGKILL
    assert f"torchgauge: {name} ended with status 137" in container.logs()


def test_each_start_makes_its_own_token_and_host_key(image: str, key: Path) -> None:
    logs = []
    for _ in range(2):
        container = Container.start(
            image,
            "--env=SSH_PORT=2222",
            f"--env=SSH_AUTHORIZED_KEYS={key.with_suffix('.pub').read_text()}",
            "--env=TORCHGAUGE_DOCTOR=off",
        )
        try:
            logs.append(container.wait_for_log("lets in"))
        finally:
            container.remove()
    tokens = {log.split("/lab?token=")[-1].split()[0] for log in map(ours, logs)}
    host_keys = {log.split("host key 256 ")[1].split()[0] for log in map(ours, logs)}
    assert len(tokens) == 2
    assert all(len(token) == 48 for token in tokens)
    assert len(host_keys) == 2


def ours(log: str) -> str:
    return "\n".join(line for line in log.splitlines() if line.startswith("torchgauge:"))
