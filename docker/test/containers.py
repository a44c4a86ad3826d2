"""Containers under test: podman with runc, in the store where the image was built."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

WORK = os.environ.get("IMAGE_TEST_WORK", "")
PODMAN = (
    *("podman", "--root", f"{WORK}/storage", "--runroot", f"{WORK}/run", "--tmpdir", f"{WORK}/tmp"),
    *("--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--runtime", "runc"),
)
# Without limits of its own podman asks for higher ones than a sandbox may give.
LIMITS = ("--ulimit=nofile=4096:4096", "--ulimit=nproc=8192:8192")
READY = "torchgauge: Jupyter  http"
USER_ID = 1000
TOKEN = "image-test-token"
# Printed below the tests' results.
FIGURES = [figure] if (figure := os.environ.get("IMAGE_TEST_FIGURES")) else []
START_SECONDS = 180  # a busy machine; an idle one takes under ten


class Ports(NamedTuple):
    """Ports of this machine that are published to a container."""

    jupyter: int
    ssh: int


def free_ports() -> Ports:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return Ports(first.getsockname()[1], second.getsockname()[1])


def make_workspace(path: Path) -> Path:
    """Give a folder to the image's user: a person's project folder is theirs, too."""
    os.chown(path, USER_ID, USER_ID)
    return path


def podman(
    *arguments: str, check: bool = True, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*PODMAN, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )
    if check and done.returncode:
        raise AssertionError(
            f"podman {arguments[0]}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done


def run(
    image: str, *command: str, options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a container to its end; its exit status is the result's."""
    limits = ("--timeout=300", *LIMITS)  # one that should end and doesn't is killed
    return podman("run", "--rm", "--pull=never", *limits, *options, image, *command, check=False)


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container that was started and goes on."""

    name: str

    @classmethod
    def start(cls, image: str, *options: str) -> Container:
        done = podman("run", "--detach", "--pull=never", *LIMITS, *options, image)
        return cls(name=done.stdout.split()[-1])

    def wait_until_ready(self) -> str:
        """Wait for the printed addresses; returns the log until then."""
        started = time.monotonic()
        deadline = started + START_SECONDS
        while time.monotonic() < deadline:
            log = self.logs()
            if READY in log:
                FIGURES.append(f"ready after {time.monotonic() - started:.1f} s")
                return log
            if not self.is_running():
                raise AssertionError(f"the container ended:\n{self.logs()}")
            time.sleep(0.2)
        raise AssertionError(f"not ready after {START_SECONDS} s:\n{self.logs()}")

    def wait_for_log(self, text: str, seconds: float = START_SECONDS) -> str:
        deadline = time.monotonic() + seconds
        while text not in (log := self.logs()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{text!r} is not in the log after {seconds} s:\n{log}")
            time.sleep(0.2)
        return log

    def wait_until_ended(self, seconds: float = 30) -> int:
        """The exit status."""
        deadline = time.monotonic() + seconds
        while self.is_running():
            if time.monotonic() > deadline:
                raise AssertionError(f"still running after {seconds} s:\n{self.logs()}")
            time.sleep(0.1)
        return self.exit_status()

    def is_running(self) -> bool:
        return podman("inspect", "--format={{.State.Running}}", self.name).stdout.strip() == "true"

    def exit_status(self) -> int:
        return int(podman("inspect", "--format={{.State.ExitCode}}", self.name).stdout)

    def logs(self) -> str:
        done = podman("logs", self.name)
        return done.stdout + done.stderr

    def exec(self, *command: str, options: tuple[str, ...] = ()) -> str:
        """Run a command inside; returns its standard output."""
        return podman("exec", *options, self.name, *command).stdout

    def stop(self) -> float:
        """Stop it as ``docker stop`` does; returns the seconds that took."""
        started = time.monotonic()
        podman("stop", "--time=10", self.name)
        seconds = time.monotonic() - started
        FIGURES.append(f"podman stop: {seconds:.2f} s")
        return seconds

    def remove(self) -> None:
        podman("rm", "--force", self.name)
