"""``torchgauge ui``: who is let in, what is answered, and what becomes of questions nobody awaits.

The server runs in this process on a port of its own, its worker in another process.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from live_server import MODELS, TOKEN, Live, live, resident_bytes, until

from torchgauge.cli.main import main
from torchgauge.facts.scenario import Scenario
from torchgauge.language import spoken
from torchgauge.request import Inputs, Request
from torchgauge.web.live.analyst import Limits

TRAINING = Scenario(mode="training", optimizer="adamw", device="T4")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("live") / "net.py"
    path.write_text(MODELS, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Live]:
    requests = [
        Request(
            spec=f"{models}:Net", inputs=Inputs(size=(8,), batch_size=2), scenario=TRAINING,
            settings={"depth": 3},
        ),
        Request(spec=f"{models}:Tokens", inputs=Inputs(size=(2, 16), dtypes=["int64"])),
        Request(spec=f"{models}:Broken", inputs=Inputs(size=(1, 8))),
        Request(spec=f"{models}:Net"),
    ]  # fmt: skip
    with live(requests, Limits(cancel_seconds=0.5)) as running:
        yield running


# ---------------------------------------------------------------------------- who is let in


def test_the_page_needs_the_token(server: Live) -> None:
    assert httpx.get(server.page).status_code == 200
    for url in (server.url, f"{server.url}/?token=", f"{server.url}/?token={TOKEN}x"):
        response = httpx.get(url)
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "unauthorized"
    answer = httpx.post(f"{server.url}/analyses", json={"client": "a"})
    assert answer.status_code == 401
    assert server.analyst.running == 0


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil:80"])
def test_another_host_is_refused(server: Live, host: str) -> None:
    response = httpx.get(server.page, headers={"Host": host})
    assert response.status_code == 403
    assert "Host" in response.json()["error"]["message"]


def test_a_refusal_speaks_the_language_of_whoever_asks(server: Live) -> None:
    """The question names it, else the server's, else the browser's; codes stay."""

    def told(response: httpx.Response) -> tuple[str, str]:
        error = response.json()["error"]
        return error.get("code", ""), error["message"]

    chinese = {"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"}
    assert told(httpx.get(server.url)) == (
        "unauthorized", "the token is missing or wrong; open the URL as it was printed",
    )  # fmt: skip
    assert told(httpx.get(server.url, headers=chinese)) == (
        "unauthorized", "令牌缺失或错误；请按打印出的 URL 打开",
    )  # fmt: skip
    with spoken("zh"):
        assert told(httpx.get(server.url))[1] == "令牌缺失或错误；请按打印出的 URL 打开"
    allowed = {**chinese, "Authorization": f"Bearer {TOKEN}"}
    assert told(httpx.get(f"{server.url}/nothing", headers=allowed)) == (
        "not_found", "这里没有内容；GET / 显示页面",
    )  # fmt: skip
    wrong = httpx.post(f"{server.url}/analyses", headers={**allowed, "Content-Type": "text/css"})
    assert told(wrong) == ("wrong_media_type", "请发送 application/json，而不是 'text/css'")
    question = {"client": "a", "changes": {"batch-size": -1}, "language": "zh"}
    unread = httpx.post(f"{server.url}/analyses", headers=allowed, json=question)
    assert told(unread)[1].startswith("无法读取该请求：")
    with spoken("zh"):
        problem = server.refused({"client": "a", "model": 9, "language": "en"})[1]
    assert problem["message"] == "there is no model 9"
    problem = server.refused({"client": "a", "model": 9, "language": "zh"})[1]
    assert re.search("[\u4e00-\u9fff]", problem["message"])


def test_this_host_has_three_names(server: Live) -> None:
    for name in ("127.0.0.1", "localhost", "LocalHost", "[::1]"):
        headers = {"Host": f"{name}:{server.port}"}
        assert httpx.get(server.page, headers=headers).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1"])
def test_a_foreign_page_is_refused(server: Live, origin: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        response = server.client.request(method, server.page, headers={"Origin": origin})
        assert response.status_code == 403
        assert "access-control-allow-origin" not in response.headers
    own = {"Origin": f"http://127.0.0.1:{server.port}"}
    assert server.client.get(server.page, headers=own).status_code == 200


def test_the_page_may_not_be_framed_or_stored(server: Live) -> None:
    for response in (httpx.get(server.page), httpx.get(server.url)):
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
    assert "connect-src 'self'" in httpx.get(server.page).text


def test_a_body_of_a_gigabyte_is_not_read(server: Live) -> None:
    head = (
        f"POST /analyses HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f"{head}Content-Length: {2**30}\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(3):
            connection.sendall(b"8000\r\n" + b" " * 0x8000 + b"\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")


def test_there_is_nothing_else(server: Live) -> None:
    assert server.client.get("/analyses").status_code == 405
    assert server.client.get("/favicon.ico").status_code == 404


# ---------------------------------------------------------------------------- what is asked


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "cannot be read"),
        (b"[" * 60_000, "cannot be read"),
        (b'{"client": "a", "changes": {"batch-size": "8"}}', "Expected `int"),
        (b'{"client": "a", "changes": {"batch-size": 0}}', ">= 1"),
        (b'{"client": "a", "changes": {"batch_size": 8}}', "batch_size"),
        (b'{"client": "a", "changes": {"optimizer": "nope"}}', "unknown optimizer 'nope'"),
        (b'{"client": "a", "changes": {"precision": "int3"}}', "unknown precision 'int3'"),
        (b'{"client": "a", "changes": {"mode": "sleep"}}', "unknown mode 'sleep'"),
        (b'{"client": "a", "changes": {"input-size": ["3,x"]}}', "'3,x' is not a size"),
        (b'{"client": "a", "changes": {"input-size": ["3", "y=3"]}}', "some have none"),
        (b'{"client": "a", "changes": {"context": 8}}', "no sequence of tokens"),
        (b'{"client": "a", "model": 7}', "there is no model 7"),
        (b'{"client": "a", "changes": {"mode": "inference", "accumulation": 2}}', "no meaning"),
    ],
)
def test_what_cannot_be_asked_is_refused(server: Live, body: bytes, message: str) -> None:
    response = server.client.post(
        "/analyses", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 422
    error = response.json()["error"]
    assert message in error["message"]
    assert error["hint"]


def test_errors_speak_the_language_of_the_page(server: Live) -> None:
    asked = {"client": "a", "language": "zh", "changes": {"optimizer": "nope"}}
    status, error = server.refused(asked)
    assert (status, error["status"]) == (422, 2)
    assert any("一" <= character <= "鿿" for character in error["message"])
    status, error = server.refused({**asked, "language": "en"})
    assert error["message"] == "unknown optimizer 'nope'"


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (0, {}),
        (0, {"batch-size": 16, "precision": "bf16-autocast"}),
        (0, {"device": "H100-SXM", "optimizer": "sgd-momentum", "accumulation": 4}),
        (0, {"mode": "inference", "device": "cpu", "precision": "fp16"}),
        (0, {"input-size": ["4,8"], "checkpointing": "selective"}),
        (0, {"checkpointing": "offload"}),
        (1, {"batch-size": 4, "context": 32}),
        (1, {"mode": "training", "context": 8, "checkpointing": "non-reentrant"}),
    ],
    ids=str,
)
def test_figures_are_those_of_the_command_line(
    server: Live, capsys: pytest.CaptureFixture[str], model: int, changes: dict[str, object]
) -> None:
    name, result = server.ask(changes, model=model)
    assert name == "result"
    assert result["error"] is None
    assert main([*shlex.split(result["command"])[1:], "--format", "json", "--quiet"]) == 0
    assert result["answer"]["report"] == json.loads(capsys.readouterr().out)
    scenario = result["answer"]["report"]["scenario"]
    for key in ("precision", "optimizer", "accumulation", "device", "mode"):
        assert scenario[key] == changes.get(key, scenario[key])


def test_another_device_of_the_same_kernels_is_not_traced_again(
    server: Live, capsys: pytest.CaptureFixture[str]
) -> None:
    server.ask({"batch-size": 4})
    for device, is_traced in (("RTX 2080 Ti", False), ("T4", False), ("H100-SXM", True)):
        *told, (_, result) = server.events({"batch-size": 4, "device": device})
        assert (("progress", {"text": "forward"}) in told) == is_traced
        assert main([*shlex.split(result["command"])[1:], "--format", "json", "--quiet"]) == 0
        assert result["answer"]["report"] == json.loads(capsys.readouterr().out), device


def test_a_change_of_batch_and_context_is_one_of_the_shape(server: Live) -> None:
    _, result = server.ask({"batch-size": 4, "context": 32}, model=1)
    assert result["answer"]["report"]["inputs"][0]["shape"] == [4, 32]
    assert "--input-size 4,32" in result["command"]
    _, result = server.ask({"batch-size": 4})
    assert result["answer"]["report"]["inputs"][0]["shape"] == [4, 8]


def test_a_model_without_an_input_gets_one(server: Live) -> None:
    data = re.search(r'"workbench":(.*?)</script>', httpx.get(server.page).text, re.DOTALL)
    assert data is not None
    models = json.loads(data[1][: data[1].rindex("}")])["models"]
    assert models[3]["values"]["input-size"] == [""]
    assert models[3]["values"]["batch-size"] is None
    assert models[3]["first"]["answer"]["report"]["memory"] is None
    _, result = server.ask({"input-size": ["4,8"]}, model=3)
    assert result["answer"]["report"]["inputs"][0]["shape"] == [4, 8]
    assert result["command"].endswith("--input-size 4,8")


def test_progress_is_told(server: Live) -> None:
    told = [
        content["text"] for name, content in server.events({"batch-size": 9}) if name == "progress"
    ]
    assert told[-5:] == ["forward", "loss", "backward", "optimizer", "drawing"]


def test_a_model_that_fails_shows_what_ran(server: Live) -> None:
    page = httpx.get(server.page).text
    assert "mat1 and mat2" in page or "second" in page
    name, result = server.ask({"batch-size": 3})
    assert name == "result"
    assert "three is too many" in result["error"]["message"]
    assert result["error"]["status"] == 3
    assert result["answer"]["report"]["failure"]["error_type"] == "ValueError"
    assert server.ask({"batch-size": 4})[1]["error"] is None


def test_a_model_that_leaves_is_an_error(server: Live) -> None:
    name, problem = server.ask({"batch-size": 5})
    assert name == "failed" or problem["error"]
    assert server.ask({"batch-size": 4})[0] == "result"


# ---------------------------------------------------------------------------- one at a time


def test_a_worker_that_dies_is_replaced(server: Live) -> None:
    before = server.analyst.worker_pid
    name, problem = server.ask({"batch-size": 6})
    assert name == "failed"
    assert problem["message"] == "the process that analysed it ended: SIGKILL"
    assert problem["hint"]
    assert server.ask({"batch-size": 4})[0] == "result"
    assert server.analyst.worker_pid != before


def test_a_worker_that_is_killed_while_idle_is_replaced(server: Live) -> None:
    server.ask({})
    before = server.analyst.worker_pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    until(lambda: server.analyst.worker_pid != before)
    assert server.ask({"batch-size": 4})[0] == "result"


def test_a_newer_question_ends_the_one_before(server: Live) -> None:
    slow = server.events({"batch-size": 7})
    until(lambda: next(slow)[1]["text"] == "forward")
    assert server.ask({"batch-size": 4})[0] == "result"
    assert [name for name, _ in slow][-1] == "cancelled"
    assert (server.analyst.running, server.analyst.waiting) == (0, 0)


def test_a_reader_that_goes_ends_its_question(server: Live) -> None:
    slow = server.events({"batch-size": 7})
    until(lambda: next(slow)[1]["text"] == "forward")
    assert server.analyst.running == 1
    slow.close()  # type: ignore[attr-defined]
    until(lambda: server.analyst.running == 0)


def test_two_tabs_each_get_their_answer(server: Live) -> None:
    answers: dict[int, int] = {}

    def ask(batch: int) -> None:
        _, result = server.ask({"batch-size": batch}, client=f"tab {batch}")
        answers[batch] = result["answer"]["report"]["batch_size"]

    threads = [threading.Thread(target=ask, args=(batch,)) for batch in (8, 16, 24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {8: 8, 16: 16, 24: 24}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_200_fast_changes_leave_one_analysis_and_no_more_memory(models: Path) -> None:
    request = Request(spec=f"{models}:Net", inputs=Inputs(size=(8,), batch_size=2))
    with live([request], Limits(cancel_seconds=30.0)) as server:
        for batch in range(8, 24):
            server.ask({"batch-size": batch})
        pid = server.analyst.worker_pid
        assert pid is not None
        before = resident_bytes(pid)
        most = 0
        streams = []
        for batch in range(24, 224):
            streams.append(server.events({"batch-size": batch}))
            next(streams[-1])
            most = max(most, server.analyst.running + server.analyst.waiting)
        assert most <= 2  # one that is being given up, and the newest
        _, result = list(streams.pop())[-1]
        assert result["answer"]["report"]["batch_size"] == 223
        ends = {list(stream)[-1][0] for stream in streams}
        assert "cancelled" in ends and ends <= {"cancelled", "result"}
        assert (server.analyst.running, server.analyst.waiting) == (0, 0)
        assert server.analyst.worker_pid == pid, "given up by itself, not killed"
        assert resident_bytes(pid) - before < 30 * 2**20


def test_too_many_tabs_wait_for_their_turn(models: Path) -> None:
    request = Request(spec=f"{models}:Net", inputs=Inputs(size=(8,), batch_size=2))
    with live([request], Limits(waiting=1, analysis_seconds=3.0)) as running:
        slow = running.events({"batch-size": 7}, client="first")
        next(slow)
        waits = running.events({"batch-size": 4}, client="second")
        assert next(waits) == ("progress", {"text": "waiting"})
        response = running.client.post("/analyses", json={"client": "third"})
        assert response.status_code == 429
        assert response.headers["retry-after"]
        name, problem = list(slow)[-1]
        assert name == "failed"
        assert "longer than 3 s" in problem["message"]
        assert "--time-limit" in problem["hint"]
        assert list(waits)[-1][0] == "result"
