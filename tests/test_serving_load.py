"""More requests than the server can answer, from a second process, and its end in the middle."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from deploy_models import packaged
from test_serving_server import running

pytestmark = pytest.mark.slow

REQUESTS = 2000
LIMIT_MIB = 900


class Wide(nn.Module):
    """16 → 8192 → 8192 → 8: reading the 256 MiB of weights takes as long for one as for many."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(16, 8192), nn.ReLU(), nn.Linear(8192, 8192), nn.ReLU(), nn.Linear(8192, 8)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Let the server compute with one thread: the client and the event loop want a core too.

    OpenMP's threads wait for each other in a loop; where there are fewer cores than threads to
    run, that costs more than they gain.
    """
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages") / "wide"
    packaged(Wide(), folder, inputs={"input_size": (16,)})
    return folder


@pytest.fixture
def body(tmp_path):
    path = tmp_path / "body.json"
    path.write_text(json.dumps({"inputs": {"x": [[0.5] * 16]}}))
    return path


def load(port, count, rate, body):
    """Start the second process."""
    client = Path(__file__).parent / "load_client.py"
    command = [sys.executable, str(client), str(port), str(count), str(rate), str(body)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result_of(process):
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return json.loads(out)


def peak_mib(server):
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


def capacity(folder, body, *options):
    """Return answered requests per second, with as many under way as it likes."""
    with running(folder, *options) as server:
        result_of(load(server.port, 64, 0, body))  # warm
        result = result_of(load(server.port, 400, 0, body))
        assert result["statuses"] == {"200": 400}
        return 400 / result["seconds"]


def test_three_times_the_capacity_and_an_end_in_the_middle(folder, body, capsys):
    alone = capacity(folder, body, "--no-batching")
    together = capacity(folder, body)
    assert together >= 2 * alone

    options = ("--memory-limit", f"{LIMIT_MIB}MiB", "--max-pending", "64MiB", "--max-queue", "64")
    with running(folder, *options) as server:
        # all of them, the server stays
        result = result_of(load(server.port, REQUESTS, 3 * together, body))
        statuses = result["statuses"]
        assert sum(statuses.values()) == REQUESTS
        assert set(statuses) <= {"200", "429"}
        assert statuses["200"] > 0
        assert statuses["429"] > 0
        p50, p99 = (
            result["milliseconds"][int(len(result["milliseconds"]) * share)]
            for share in (0.5, 0.99)
        )
        peak = peak_mib(server)
        assert peak < LIMIT_MIB

        # and again, with SIGTERM in the middle
        client = load(server.port, REQUESTS, 3 * together, body)
        time.sleep(0.5 + REQUESTS / (3 * together) / 2)
        server.send_signal(signal.SIGTERM)
        ended = result_of(client)
        assert server.wait(30) == 0
        message = server.stderr.read()
    taken, answered = map(int, re.search(r"(\d+) requests taken, (\d+) answered", message).groups())
    assert taken == answered
    answers = sum(n for status, n in ended["statuses"].items() if status.isdecimal())
    before = REQUESTS
    assert answered == before + answers  # every answer that was given has arrived
    errors = {status: n for status, n in ended["statuses"].items() if not status.isdecimal()}
    assert sum(errors.values()) == REQUESTS - answers
    assert errors  # the end did come in the middle
    with capsys.disabled():
        print(
            f"\nalone {alone:.0f}/s, together {together:.0f}/s ({together / alone:.1f}×); at three "
            f"times that: {statuses}, p50 {p50:.0f} ms, p99 {p99:.0f} ms, peak {peak:.0f} MiB; "
            f"ended in the middle: {ended['statuses']}"
        )
