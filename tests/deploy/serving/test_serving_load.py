"""More requests than the server can answer, from a second process, and its end in the middle.

SIGTERM lets it answer what it accepted. SIGKILL does not: nothing of the process is left to answer.
Then its connections are dropped at once, its port is free at once, and a prediction, which changes
nothing, may be asked again: with a restart policy and a client that does, none is lost either.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from deploy_models import packaged
from serving_process import running

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


def load(port, count, rate, body, retry_seconds=0):
    """Start the second process."""
    client = Path(__file__).parents[2] / "load_client.py"
    command = [sys.executable, str(client), *map(str, (port, count, rate, body, retry_seconds))]
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


@contextmanager
def restarted(folder, port):
    """Run a server, and a new one whenever it dies, as a restart policy does; yields its starts."""
    starts, stopping = [], threading.Event()

    def run():
        while not stopping.is_set():
            with running(folder, "--port", str(port)) as server:
                starts.append((server, time.monotonic()))
                server.wait()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_for(lambda: starts)
        yield starts
    finally:
        stopping.set()
        starts[-1][0].kill()
        thread.join(60)


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def answered(port):
    """Return how many predictions were answered with 200."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        found = re.search(r'path="/v1/predict",status="200"\} (\d+)', response.read().decode())
    return int(found[1]) if found else 0


def test_sigkill_drops_connections_at_once_and_the_port_is_free_at_once(folder, body, capsys):
    with running(folder) as server:
        client = load(server.port, 600, 200, body)
        wait_for(lambda: answered(server.port) > 50)
        server.kill()
        killed = time.monotonic()
        server.wait()
        with running(folder, "--port", str(server.port)) as second:
            assert second.port == server.port
            result = result_of(client)
    statuses = result["statuses"]
    assert sum(statuses.values()) == 600
    assert {status for status in statuses if status.isdecimal()} <= {"200", "429"}
    under_way = [(sent, seen) for sent, seen in result["dropped"] if sent < killed]
    assert under_way  # the end did come in the middle
    longest = max(seen - max(sent, killed) for sent, seen in result["dropped"])
    assert longest < 1
    with capsys.disabled():
        print(
            f"\nSIGKILL: {statuses}; {len(under_way)} under way, dropped after {longest:.3f} s "
            "at most"
        )


def test_sigkill_loses_nothing_for_clients_that_ask_again(folder, body, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with restarted(folder, port) as starts:
        client = load(port, REQUESTS, 50, body, 60)
        for times in (1, 2):
            wait_for(lambda: answered(port) > 200)
            starts[-1][0].kill()
            killed = time.monotonic()
            wait_for(lambda times=times: len(starts) > times)
            away = starts[-1][1] - killed
        result = result_of(client)
    assert result["statuses"] == {"200": REQUESTS}
    assert result["dropped"]
    with capsys.disabled():
        print(
            f"\nSIGKILL twice in {REQUESTS} requests: all answered, {len(result['dropped'])} "
            f"connections dropped or refused; the server was away for {away:.1f} s, the slowest "
            f"answer took {max(result['milliseconds']) / 1000:.1f} s"
        )
