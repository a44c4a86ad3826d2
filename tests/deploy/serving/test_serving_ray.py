"""Replicas on Ray Serve: the engine with a handle that stands for them, and the real ones."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from deploy_models import Mlp, packaged
from serving_process import MLP, post, running
from torchgauge.cli.main import main
from torchgauge.deploy.serving.failures import Busy, Expired, RejectedByModel
from torchgauge.deploy.serving.ray_engine import RayEngine, RayRequest, _scale
from torchgauge.deploy.serving.settings import Settings


class RayActorError(Exception):
    """Stands for ``ray.exceptions.RayActorError``."""


class Handle:
    """Answers as told: an exception is raised, anything else returned."""

    def __init__(self, *answers, seconds=0.0):
        self.answers = list(answers)
        self.seconds = seconds
        self.predict = self

    async def remote(self, tensors, sizes):
        await asyncio.sleep(self.seconds)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def exceptions(request, monkeypatch):
    if "slow" not in request.keywords:
        module = types.ModuleType("ray.exceptions")
        module.RayActorError = RayActorError
        monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
        monkeypatch.setitem(sys.modules, "ray.exceptions", module)


def engine_of(handle, **settings):
    return RayEngine(handle, Settings(**settings), RayRequest())


def test_a_request_is_sent_again_when_its_replica_dies():
    handle = Handle(RayActorError(), RayActorError(), ("answer", ("y",)))
    assert asyncio.run(engine_of(handle).predict((), {})) == ("y",)


def test_what_a_replica_refuses_keeps_its_reason():
    handle = Handle(("RejectedByModel", "the model refused it"))
    with pytest.raises(RejectedByModel, match="the model refused it"):
        asyncio.run(engine_of(handle).predict((), {}))


def test_replicas_that_do_not_answer_in_time():
    handle = Handle(("answer", ()), seconds=5)
    with pytest.raises(Expired, match=r"no answer within 0\.05 s"):
        asyncio.run(engine_of(handle, request_seconds=0.05).predict((), {}))


def test_more_than_the_replicas_and_the_queue_hold_is_busy():
    async def ask():
        engine = engine_of(Handle(*[("answer", ())] * 5, seconds=0.2), max_queue=1, max_batch=2)
        asks = [engine.predict((), {}) for _ in range(7)]
        return await asyncio.gather(*asks, return_exceptions=True)

    results = asyncio.run(ask())
    assert sum(result == () for result in results) == 5  # 1 in the queue, 2 replicas of 2
    assert sum(isinstance(result, Busy) for result in results) == 2


def test_replicas_are_fixed_or_between_two_numbers():
    assert _scale(RayRequest(replicas=3)) == {"num_replicas": 3}
    assert _scale(RayRequest(replicas=3, max_replicas=3)) == {"num_replicas": 3}
    assert _scale(RayRequest(replicas=1, max_replicas=4))["autoscaling_config"] == {
        "min_replicas": 1, "max_replicas": 4, "initial_replicas": 1,
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages") / "mlp"
    packaged(Mlp(), folder, inputs={"input_size": (4,)})
    return folder


def test_options_of_ray_without_ray_are_refused(folder, capsys, monkeypatch):
    assert main(["serve", str(folder), "--port", "0", "--replicas", "3"]) == 2
    assert "add --engine ray" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["serve", str(folder), "--port", "0", "--engine", "ray"]) == 2
    text = capsys.readouterr().err
    assert "ray is needed to serve with replicas" in text
    assert 'pip install "torchgauge[ray]"' in text


def test_the_memory_of_gpus_elsewhere_has_to_be_said(folder, capsys):
    assert main(["serve", str(folder), "--port", "0", "--engine", "ray", "--device", "cuda"]) == 2
    assert "set it: --memory-limit" in capsys.readouterr().err


def replicas_of(server):
    """Return the process ids of the replicas that the server's Ray started."""
    parents, names = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                names[int(folder.name)] = (folder / "cmdline").read_text()
            except OSError:
                continue
            parents[int(folder.name)] = int(stat[1])

    def is_below(process):
        while process in parents:
            if process == server.pid:
                return True
            process = parents[process]
        return False

    return [
        process
        for process, name in names.items()
        if name.startswith("ray::ServeReplica") and is_below(process)
    ]


@pytest.mark.slow
def test_a_replica_is_killed_in_the_middle_and_every_request_is_answered(folder, tmp_path):
    pytest.importorskip("ray.serve")
    body = tmp_path / "body.json"
    body.write_text(json.dumps(MLP))
    client = Path(__file__).parents[2] / "load_client.py"
    with running(folder, "--engine", "ray", "--replicas", "2") as server:
        assert post(server.port, MLP)[0] == 200
        before = replicas_of(server)
        assert len(before) == 2
        command = [sys.executable, str(client), str(server.port), "600", "60", str(body)]
        load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        time.sleep(4)
        os.kill(before[0], signal.SIGKILL)
        out, _ = load.communicate(timeout=120)
        assert json.loads(out)["statuses"] == {"200": 600}
        end = time.monotonic() + 60
        while before[0] in replicas_of(server) or len(replicas_of(server)) < 2:
            assert time.monotonic() < end, "the replica was not replaced"
            time.sleep(1)
        server.send_signal(signal.SIGTERM)
        message = server.stderr.read()
        assert server.wait(60) == 0
    assert "601 requests taken, 601 answered" in message
