"""What the image is made of: its user, its settings, what it must not contain."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from containers import LIMITS, podman, run


@pytest.fixture(scope="module")
def config(image: str) -> dict[str, Any]:
    (inspected,) = json.loads(podman("image", "inspect", image).stdout)
    return inspected


def test_it_runs_as_a_user_that_is_not_root(image: str, config: dict[str, Any]) -> None:
    # A number, for Kubernetes' runAsNonRoot.
    assert config["Config"]["User"] == "1000:1000"
    assert run(image, "id", "-un").stdout == "gauge\n"


def test_it_has_no_compiler(image: str) -> None:
    done = run(image, "sh", "-c", "for c in cc gcc g++ c++ clang nvcc make; do command -v $c; done")
    assert done.stdout == ""


def test_it_holds_no_host_key_and_no_pip_settings(image: str) -> None:
    find = "find / -xdev -name 'ssh_host_*' 2>/dev/null"
    script = f"{find}; cat /etc/pip.conf; pip config list | grep -v ^:env:"
    assert run(image, "sh", "-c", script).stdout.strip() == ""


def test_its_history_names_no_secret(image: str, config: dict[str, Any]) -> None:
    history = podman("history", "--no-trunc", "--format={{.CreatedBy}}", image).stdout.lower()
    assert "install-torch" in history
    for word in ("jupyter_token=", "private key", "password="):
        assert word not in history
    for setting in config["Config"]["Env"]:
        assert "TOKEN" not in setting


def test_health_check_ports_and_entry_point(config: dict[str, Any]) -> None:
    assert config["Healthcheck"]["Test"] == ["CMD", "torchgauge-healthcheck"]
    assert set(config["Config"]["ExposedPorts"]) == {"8888/tcp", "22/tcp"}
    assert config["Config"]["Entrypoint"][0] == "/usr/bin/tini"


def test_labels(image: str, config: dict[str, Any]) -> None:
    labels = config["Config"]["Labels"]
    prefix = "org.opencontainers.image."
    assert labels[prefix + "title"] == "torchgauge (CPU)"
    assert labels[prefix + "licenses"] == "Apache-2.0"
    stated = run(image, "torchgauge", "--version").stdout
    assert stated.startswith(f"torchgauge {labels[prefix + 'version']}")
    assert labels[prefix + "revision"] == os.environ["IMAGE_TEST_REVISION"]
    assert labels[prefix + "created"] == os.environ["IMAGE_TEST_CREATED"]
    assert labels["io.torchgauge.cuda"] == "cpu"


def test_a_container_with_a_command_is_healthy_without_services(image: str) -> None:
    """Schedulers end what is not healthy, and a training has no Jupyter."""
    name = podman("run", "--detach", "--pull=never", *LIMITS, image, "sleep", "60").stdout.strip()
    try:
        assert podman("exec", name, "torchgauge-healthcheck").stdout == "no services: sleep runs\n"
    finally:
        podman("rm", "--force", "--time=0", name)


def test_a_command_replaces_the_services(image: str) -> None:
    done = run(image, "torchgauge", "--version")
    assert done.returncode == 0
    assert done.stdout.startswith("torchgauge ")
    assert run(image, "sh", "-c", "exit 7").returncode == 7


def test_pip_can_install_into_it(image: str) -> None:
    # The environment is the user's own. No index is asked: what is there is installed once more.
    done = run(
        image,
        "sh",
        "-c",
        "pip install --no-index --no-deps --force-reinstall /opt/torchgauge/wheels/*.whl",
    )
    assert done.returncode == 0, done.stderr


def test_another_user_can_run_commands(image: str) -> None:
    # As `docker run --user $(id -u):$(id -g)` does for people whose id is not 1000.
    done = run(image, "torchgauge", "--version", options=("--user=1234:1234", "--env=HOME=/tmp"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "CUDA_VERSION=11.8",
            "for cpu, and 11.8 was asked for. Give the address of PyTorch's index",
        ),
        ("TORCH_VERSION=2.6.1", "is installed and 2.6.1 was asked for"),
    ],
)
def test_a_build_with_another_torch_than_asked_for_stops(
    image: str, config: dict[str, Any], setting: str, message: str
) -> None:
    version = config["Config"]["Labels"]["io.torchgauge.torch"]
    right = ("--env=CUDA_VERSION=cpu", f"--env=TORCH_VERSION={version}")
    check = ("python", "/usr/local/lib/torchgauge/check_torch.py")
    assert run(image, *check, options=right).returncode == 0
    done = run(image, *check, options=(*right, f"--env={setting}"))
    assert done.returncode == 1
    assert message in done.stderr


def test_what_needs_a_gpu_is_not_shown_without_one(image: str) -> None:
    check = ("python", "/opt/torchgauge/check_cuda.py")
    done = run(image, *check)
    assert done.returncode == 2
    assert "NOTHING SHOWN: torch sees no GPU" in done.stdout


def test_the_gpu_check_itself_runs(image: str) -> None:
    # The same code on the CPU with gloo: two processes, so that the all-reduce has a sum to find.
    done = run(
        image, "python", "/opt/torchgauge/check_cuda.py", "--rehearse", options=("--shm-size=512m",)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok      all-reduce: 2 processes, gloo" in done.stdout
    assert "nothing was shown about GPUs" in done.stdout
