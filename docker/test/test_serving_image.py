"""The image of a package: built from the package's own Dockerfile, asked over HTTP, stopped.

A Llama of two layers with a batch and a length that vary, packaged by ``torchgauge package`` with a
wheel of this checkout, which no index has. The base is what ``python:3.11-slim`` is, Debian and a
Python that root can install into, with a user of id 1000 besides, as Ubuntu's images have.
"""

from __future__ import annotations

import base64
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from containers import FIGURES, WORK, Container, podman
from torchgauge.models.torchvision_operators import define_missing_operators

ROOT = Path(__file__).parents[2]
TOOLS = Path(WORK) / "tools/bin"
STORE = ("--root", f"{WORK}/storage", "--runroot", f"{WORK}/run", "--storage-driver", "overlay")
DEBIAN = "localhost/torchgauge-test-base"
PYTHON = "localhost/torchgauge-test-python"
SERVED = "localhost/torchgauge-test-served"
PYTHON_DOCKERFILE = f"""\
FROM {DEBIAN}
RUN apt-get update -qq \\
 && apt-get install -qq -y --no-install-recommends ca-certificates python3.11 python3.11-venv \\
 && rm -rf /var/lib/apt/lists/* && python3.11 -m venv /opt/python
RUN useradd --uid 1000 --create-home somebody
USER 1000
ENV PATH=/opt/python/bin:$PATH
"""
WORDS = 1000
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": WORDS,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
MOST_DIFFERENCE = 1e-4
MOST_SECONDS_TO_STOP = 5.0
START_SECONDS = 120


def command(*arguments: str) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, timeout=600)
    assert done.returncode == 0, f"{arguments[0]}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def build(tag: str, folder: Path, *arguments: str) -> None:
    """Build the Dockerfile in a folder, with this machine's pip settings and nothing pulled."""
    volumes = command(sys.executable, "docker/test/host_pip.py", f"{WORK}/pip.conf").split("\n")
    # --format docker: OCI's format knows no HEALTHCHECK.
    options = ("--isolation", "chroot", "--pull=false", "--layers", "--format", "docker")
    command("buildah", *STORE, "bud", *options, "--tag", tag, *filter(None, volumes), *arguments,
            str(folder))  # fmt: skip


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    python = (sys.executable, "-m")
    command(*python, "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
            "--wheel-dir", str(folder), ".")  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    command(*python, "torchgauge", "package", f"hf:{folder}/config.json", "--wheel", str(wheel),
            "--output", str(folder / "llama"), "--quiet")  # fmt: skip
    return folder / "llama"


@pytest.fixture(scope="module")
def original(package: Path) -> torch.nn.Module:
    """The model as Transformers makes it, with the weights of the package."""
    define_missing_operators()
    from safetensors.torch import load_model
    from transformers import LlamaConfig, LlamaForCausalLM

    model: torch.nn.Module = LlamaForCausalLM(LlamaConfig(**CONFIG))
    load_model(model, package / "model.safetensors")
    return model.eval()


@pytest.fixture(scope="module")
def served_image(package: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("python")
    (folder / "Dockerfile").write_text(PYTHON_DOCKERFILE)
    build(PYTHON, folder)
    started = time.monotonic()
    build(SERVED, package, "--build-arg", f"BASE_IMAGE={PYTHON}")
    FIGURES.append(f"serving image built in {time.monotonic() - started:.0f} s")
    return SERVED


class Server:
    """A container of the serving image and its published port."""

    def __init__(self, image: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.container = Container.start(image, f"--publish=127.0.0.1:{self.port}:8000")

    def ask(self, path: str, data: Any = None) -> tuple[int, str]:
        body = None if data is None else json.dumps(data).encode()
        address = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def wait_until_ready(self) -> None:
        started = time.monotonic()
        while time.monotonic() < started + START_SECONDS:
            try:
                if self.ask("/readyz")[0] == 200:
                    FIGURES.append(f"serving image ready after {time.monotonic() - started:.1f} s")
                    return
            except OSError:  # nobody listens yet
                assert self.container.is_running(), self.container.logs()
                time.sleep(0.2)
        raise AssertionError(f"not ready after {START_SECONDS} s:\n{self.container.logs()}")


@pytest.fixture(scope="module")
def server(served_image: str) -> Iterator[Server]:
    server = Server(served_image)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.container.remove()


def test_hadolint(package: Path) -> None:
    # DL3006: the base's tag is in the argument.
    command(str(TOOLS / "hadolint"), "--no-color", "--ignore=DL3006", f"{package}/Dockerfile")


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (3, 17), (2, 128)])
def test_its_outputs_are_the_originals(
    server: Server, original: torch.nn.Module, batch: int, length: int
) -> None:
    ids = torch.randint(0, WORDS, (batch, length))
    status, text = server.ask(
        "/v1/predict", {"inputs": {"input_ids": ids.tolist()}, "encoding": "base64"}
    )
    assert status == 200, text
    given = json.loads(text)["outputs"]["logits"]
    data = bytearray(base64.b64decode(given["data"]))
    logits = torch.frombuffer(data, dtype=torch.float32).reshape(given["shape"])
    with torch.no_grad():
        expected = original(ids, use_cache=False).logits
    assert logits.shape == expected.shape == (batch, length, WORDS)
    difference = float((logits - expected).abs().max())
    FIGURES.append(f"serving image, {batch} × {length} tokens: off by {difference:.2g} at most")
    assert difference < MOST_DIFFERENCE


def test_what_does_not_fit_is_refused_and_counted(server: Server) -> None:
    status, text = server.ask("/v1/predict", {"inputs": {"input_ids": [[1] * 129]}})
    assert status == 422
    assert (
        "input_ids has size 129 in dimension 1 (sequence)" in json.loads(text)["error"]["message"]
    )
    metrics = server.ask("/metrics")[1]
    assert 'torchgauge_requests_total{path="/v1/predict",status="422"} 1.0' in metrics


def test_it_runs_as_a_user_that_is_not_root_and_holds_no_pip_settings(server: Server) -> None:
    assert server.container.exec("id", "-u") == "1000\n"
    find = "cat /etc/pip.conf; ls -d /tmp/install; touch /package/x 2>/dev/null && echo writable"
    assert server.container.exec("sh", "-c", f"{find}; true") == ""


def test_its_health_check_asks_for_readiness(server: Server) -> None:
    (inspected,) = json.loads(podman("inspect", server.container.name).stdout)
    kind, *check = inspected["Config"]["Healthcheck"]["Test"]
    assert kind == "CMD"
    assert "/readyz" in check[-1]
    server.container.exec(*check)
    failing = [part.replace(":8000", ":8001") for part in check]
    assert podman("exec", server.container.name, *failing, check=False).returncode == 1


def test_it_ends_quickly_and_with_status_0(served_image: str) -> None:
    server = Server(served_image)
    try:
        server.wait_until_ready()
        seconds = server.container.stop()
        assert server.container.exit_status() == 0, server.container.logs()
        assert seconds < MOST_SECONDS_TO_STOP
        assert "torchgauge: stopped" in server.container.logs()
    finally:
        server.container.remove()


def wait_until_sigterm_is_handled(container: Container) -> None:
    """The kernel drops it before: the first process of a container has no default for signals."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        handled = container.exec("sh", "-c", "grep SigCgt /proc/1/status").split()[1]
        if int(handled, 16) & 1 << signal.SIGTERM - 1:
            return
    raise AssertionError("SIGTERM is not handled")


def test_it_ends_as_quickly_while_it_starts(served_image: str) -> None:
    server = Server(served_image)
    try:
        wait_until_sigterm_is_handled(server.container)
        seconds = server.container.stop()
        assert server.container.exit_status() == 0, server.container.logs()
        assert seconds < MOST_SECONDS_TO_STOP
        assert "torchgauge: stopped before it was ready" in server.container.logs()
    finally:
        server.container.remove()
