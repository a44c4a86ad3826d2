"""Wrong settings: each ends the start with status 2 and a message that says what to do."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from containers import Container, make_workspace, run

KEYS = "/run/keys/authorized_keys"


def refused(image: str, *options: str) -> str:
    """The message of a start that must fail."""
    done = run(image, options=("--env=SSH_PORT=2222", *options))
    errors = [line for line in done.stderr.splitlines() if "torchgauge: error:" in line]
    assert done.returncode == 2, done.stdout + done.stderr
    (error,) = errors
    return error


def test_missing_key_file(image: str) -> None:
    message = refused(image, "--env=SSH_AUTHORIZED_KEYS_FILE=/run/keys/none")
    assert "SSH_AUTHORIZED_KEYS_FILE=/run/keys/none: there is no such file" in message


def test_unreadable_key_file(image: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("ssh-ed25519 AAAA")
    keys.chmod(0o600)
    os.chown(keys, 0, 0)
    message = refused(image, f"--volume={keys}:{KEYS}:ro", f"--env=SSH_AUTHORIZED_KEYS_FILE={KEYS}")
    assert "user gauge may not read it (it is -rw-------, of user 0)" in message
    assert "give it mode 644" in message


def test_a_folder_instead_of_a_key_file(image: str, tmp_path: Path) -> None:
    message = refused(
        image, f"--volume={tmp_path}:{KEYS}:ro", f"--env=SSH_AUTHORIZED_KEYS_FILE={KEYS}"
    )
    assert "this is no file (a missing file mounted with -v becomes a folder)" in message


def test_a_private_key_instead_of_a_public_one(image: str, key: Path) -> None:
    message = refused(image, f"--env=SSH_AUTHORIZED_KEYS={key.read_text()}")
    assert "this is a private key; give the public one" in message


def test_no_key_in_the_keys(image: str) -> None:
    message = refused(image, "--env=SSH_AUTHORIZED_KEYS=hello")
    assert "there is no public key in it" in message


def test_ssh_for_a_user_without_a_name(image: str, key: Path) -> None:
    message = refused(
        image,
        # Docker adds no line to /etc/passwd for it; podman would.
        *("--user=1234:1234", "--env=HOME=/tmp", "--passwd=false"),
        f"--env=SSH_AUTHORIZED_KEYS={key.with_suffix('.pub').read_text()}",
    )
    assert "user 1234 has none in this image" in message


def test_an_unreadable_token_file(image: str) -> None:
    message = refused(image, "--env=JUPYTER_TOKEN_FILE=/run/none")
    assert "JUPYTER_TOKEN_FILE=/run/none: there is no such file that user 1000 may read" in message


def test_an_empty_token_file(image: str) -> None:
    message = refused(image, "--env=JUPYTER_TOKEN_FILE=/dev/null")
    assert "JUPYTER_TOKEN_FILE=/dev/null" in message


def test_a_token_that_is_no_part_of_an_address(image: str) -> None:
    message = refused(image, "--env=JUPYTER_TOKEN=a b&c")
    assert "the token in JUPYTER_TOKEN may have letters, digits and . _ ~ - alone" in message


@pytest.mark.parametrize("port", ["0", "70000", "http", ""])
def test_no_port(image: str, port: str) -> None:
    message = refused(image, f"--env=JUPYTER_PORT={port}")
    assert f"JUPYTER_PORT={port} is no port" in message


def test_a_port_that_is_taken(image: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        message = refused(image, "--network=host", f"--env=JUPYTER_PORT={port}")
    assert f"port {port} is taken by another process: set JUPYTER_PORT to a free one" in message


def test_a_port_that_needs_a_privilege(image: str, key: Path) -> None:
    message = refused(
        image,
        *("--env=SSH_PORT=22", "--sysctl=net.ipv4.ip_unprivileged_port_start=1024"),
        f"--env=SSH_AUTHORIZED_KEYS={key.with_suffix('.pub').read_text()}",
    )
    assert "user 1000 may not use port 22 here" in message
    assert "SSH_PORT=2222 and publish 2222:2222" in message


def test_an_unknown_doctor_mode(image: str) -> None:
    message = refused(image, "--env=TORCHGAUGE_DOCTOR=maybe")
    assert "choose report, require, require-gpu or off" in message


def test_a_home_that_cannot_be_written(image: str) -> None:
    message = refused(image, "--env=HOME=/proc/none")
    assert "set TORCHGAUGE_STATE (and HOME) to a folder that can" in message


def test_a_workspace_of_someone_else_is_a_warning(image: str, tmp_path: Path) -> None:
    os.chown(tmp_path, 4321, 4321)
    tmp_path.chmod(0o755)
    container = Container.start(
        image, f"--volume={tmp_path}:/workspace", "--env=TORCHGAUGE_DOCTOR=off"
    )
    try:
        log = container.wait_until_ready()
    finally:
        container.remove()
    assert "warning: /workspace belongs to user 4321:4321 and user 1000 may not write" in log
    assert "--user 4321:4321" in log


def test_a_read_only_container_runs_with_a_home_that_can_be_written(image: str) -> None:
    container = Container.start(
        image, "--read-only", "--env=HOME=/tmp", "--env=TORCHGAUGE_DOCTOR=off"
    )
    try:
        log = container.wait_until_ready()
    finally:
        container.remove()
    assert "warning: /workspace is on a read-only file system: mount a folder there" in log


def test_a_workspace_of_the_user_is_no_warning(image: str, tmp_path: Path) -> None:
    container = Container.start(
        image, f"--volume={make_workspace(tmp_path)}:/workspace", "--env=TORCHGAUGE_DOCTOR=off"
    )
    try:
        assert "warning" not in container.wait_until_ready()
    finally:
        container.remove()
