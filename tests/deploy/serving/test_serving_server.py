"""The server as a process of its own: signals, ports, sockets that misbehave, damaged packages."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, nullcontext, suppress

import pytest
import uvicorn

from deploy_models import Mlp, packaged
from serving_process import MLP, post, running
from torchgauge.cli.main import main
from torchgauge.deploy.serving.http.protocol import protocol_class
from torchgauge.deploy.serving.http.server import Server, bind
from torchgauge.deploy.serving.model import read_package
from torchgauge.deploy.serving.settings import Settings
from torchgauge.deploy.serving.start import ServeRequest, _settings

pytestmark = pytest.mark.timed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages") / "mlp"
    packaged(Mlp(), folder, inputs={"input_size": (4,)})
    return folder


@pytest.fixture(scope="module")
def quick(folder):
    """A server that many tests ask."""
    with running(folder, "--max-body", "64KiB") as server:
        yield server


def connect(port):
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.settimeout(10)
    return connection


def read_all(connection, *, fails=False):
    """Return what comes until the end; with ``fails`` a reset is no end."""
    data = bytearray()
    with nullcontext() if fails else suppress(ConnectionResetError):
        while part := connection.recv(2**20):
            data += part
    return bytes(data)


def test_sockets_that_misbehave_and_then_a_graceful_end(folder):
    """One server for all of it: that it goes on is part of what is shown."""
    options = ["--body-timeout", "0.5", "--max-body", "64KiB", "--max-latency-ms", "400"]
    with running(folder, *options) as server:
        port = server.port
        assert post(port, MLP)[0] == 200

        # 2 GB are announced: refused at once, without reading them
        with connect(port) as client:
            client.sendall(
                b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 2000000000\r\n\r\n{"
            )
            assert b" 413 " in read_all(client).splitlines()[0]

        # ... or come without a length: cut off, and the client can still read why
        with connect(port) as client:
            client.sendall(
                b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                b"Content-Type: application/json\r\n\r\n"
            )
            sent = 0
            try:
                while sent < 100_000_000:
                    client.sendall(b"10000\r\n" + b"[" * 65536 + b"\r\n")
                    sent += 65536
            except (BrokenPipeError, ConnectionResetError):
                pass
            assert sent < 50_000_000
            assert b" 413 " in read_all(client)

        # a body that does not go on
        with connect(port) as client:
            client.sendall(
                b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
            start = time.monotonic()
            assert b" 408 " in read_all(client).splitlines()[0]
            assert time.monotonic() - start < 5

        # no HTTP at all, and a client that leaves in the middle
        with connect(port) as client:
            client.sendall(b"\x16\x03\x01 hello\r\n\r\n")
            head, _, body = read_all(client).partition(b"\r\n\r\n")
            assert b" 400 " in head.splitlines()[0]
            assert json.loads(body)["error"]["code"] == "bad_request"
        with connect(port) as client:
            client.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")

        assert post(port, MLP)[0] == 200

        # SIGTERM while a request waits for others to join it: it is answered, then status 0
        answers = []
        thread = threading.Thread(target=lambda: answers.append(post(port, MLP)))
        thread.start()
        time.sleep(0.2)
        server.send_signal(signal.SIGTERM)
        thread.join(10)
        assert answers[0][0] == 200
        assert server.wait(10) == 0
        with pytest.raises(OSError, match="refused"):
            connect(port)


@pytest.mark.parametrize(
    ("header", "status"),
    [("Content-Type: text/plain", 415), ("Content-Length: -1", 400), ("Expect: x", 413)],
)
def test_a_refusal_before_the_body_is_read_reaches_a_client_that_still_sends(quick, header, status):
    """Many clients send header and body apart, and lose the answer to a reset in between."""
    body = b"x" * 200_000
    with connect(quick.port) as client:
        client.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: x\r\n"
            + (b"" if status == 400 else b"Content-Length: %d\r\n" % len(body))
            + f"{header}\r\n\r\n".encode()
        )
        time.sleep(0.2)  # the answer is sent by now, and its end
        for first in range(0, len(body), 10_000):
            client.sendall(body[first : first + 10_000])
            time.sleep(0.002)
        assert f" {status} ".encode() in read_all(client, fails=True).splitlines()[0]


def test_a_refused_body_is_not_read_for_ever(quick):
    with connect(quick.port) as client:
        client.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n")
        start = time.monotonic()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while time.monotonic() < start + 10:
                client.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - start < 5


@contextmanager
def served_here(application, settings):
    """Serve an ASGI application from a thread of this process; yields the port."""
    config = uvicorn.Config(
        application, http=protocol_class(settings), ws="none", lifespan="off", log_level="critical"
    )
    server = Server(config)
    listener = bind("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


async def fifty_megabytes(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(50):
        await send({"type": "http.response.body", "body": b"x" * 2**20, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def test_a_header_that_does_not_end_is_given_up_and_an_answer_that_nobody_reads_too():
    with served_here(fifty_megabytes, Settings(header_seconds=0.3, body_seconds=0.3)) as port:
        start = time.monotonic()
        with connect(port) as silent, connect(port) as half:
            half.sendall(GET[:20])
            assert read_all(silent) == b""
            assert read_all(half) == b""
        assert time.monotonic() - start < 5
        with connect(port) as deaf:
            deaf.sendall(GET)
            time.sleep(1.0)
            assert len(read_all(deaf)) < 50 * 2**20
        with connect(port) as client:
            client.sendall(GET[:-2] + b"Connection: close\r\n\r\n")
            assert len(read_all(client)) > 50 * 2**20


def test_an_occupied_port_is_a_clear_error(folder, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", str(folder), "--port", str(port)]) == 2
    text = capsys.readouterr().err
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in text
    assert "another --port" in text


def test_an_address_of_another_machine_is_a_clear_error(folder, capsys):
    assert main(["serve", str(folder), "--host", "192.0.2.1", "--port", "0"]) == 2
    assert "cannot listen on 192.0.2.1" in capsys.readouterr().err


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_an_address_of_ipv6_is_written_as_in_a_url(folder, capsys, monkeypatch):
    monkeypatch.setattr("torchgauge.deploy.serving.http.server.serve", lambda *_, **__: None)
    assert main(["serve", str(folder), "--host", "::1", "--port", "0"]) == 0
    assert re.search(r"listening on http://\[::1\]:\d+ ", capsys.readouterr().err)


def test_no_gpu_though_asked_for(folder, capsys, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["serve", str(folder), "--device", "cuda", "--port", "0"]) == 2
    assert "there is no GPU to serve on" in capsys.readouterr().err
    assert main(["serve", str(folder), "--device", "gpu", "--port", "0"]) == 2
    assert "cannot serve on 'gpu'" in capsys.readouterr().err


def test_no_package(tmp_path, capsys):
    assert main(["serve", str(tmp_path / "none"), "--port", "0"]) == 2
    assert "there is no folder" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["serve", str(tmp_path / "file"), "--port", "0"]) == 2
    assert "file is not a folder" in capsys.readouterr().err
    assert main(["serve", str(tmp_path), "--port", "0"]) == 2
    assert "is not a package: it has no manifest.json" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_starts_ends_it_with_status_0(folder, capsys, monkeypatch, number):
    from torchgauge.deploy.serving import model

    monkeypatch.setattr(model, "open_package", lambda *_: os.kill(os.getpid(), number))
    before = signal.getsignal(signal.SIGTERM)
    assert main(["serve", str(folder), "--port", "0"]) == 0
    assert "torchgauge: stopped before it was ready" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-body", "0"], "argument --max-body: use more than 0 bytes"),
        (["--max-pending", "0"], "argument --max-pending: use more than 0 bytes"),
        (["--memory-limit", "0"], "argument --memory-limit: use more than 0 bytes"),
        (["--body-timeout", "0"], "argument --body-timeout: use more than 0 seconds"),
        (["--request-timeout", "-1"], "'-1' is not a number of seconds"),
        (["--max-latency-ms", "-1"], "'-1' is not a number of milliseconds"),
        (
            ["--max-body", "2MiB", "--max-pending", "1MiB"],
            "--max-pending 1.00 MiB has no room for one body of --max-body 2.00 MiB",
        ),
    ],
)
def test_limits_that_cannot_be(folder, capsys, options, message):
    assert main(["serve", str(folder), "--port", "0", *options]) == 2
    assert message in capsys.readouterr().err


def test_limits_that_were_given_are_kept(folder):
    facts = read_package(folder)

    def limits(body=None, pending=None, memory=2**40):
        request = ServeRequest(
            folder=folder, settings=Settings(), body_limit=body, pending_limit=pending,
            memory_limit=memory,
        )  # fmt: skip
        settings = _settings(request, facts)
        return settings.max_body_bytes, settings.max_pending_bytes

    assert limits(body=10) == (10, Settings().max_pending_bytes)
    assert limits(pending=1000) == (1000, 1000)
    assert limits(body=10, pending=20) == (10, 20)
    assert limits(body=2**30) == (2**30, 2**30)
    assert limits(memory=2**30)[1] == 2**27


def test_a_missing_extra_is_named(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert main(["serve", str(folder), "--port", "0"]) == 2
    text = capsys.readouterr().err
    assert "fastapi is needed to serve a package" in text
    assert 'pip install "torchgauge[serve]"' in text


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom torchgauge.cli.main import main\n"
        "for command in ('serve', 'package'):\n"
        "    main([command, '--help'])\n"
        "print(*sorted({'torch', 'fastapi', 'uvicorn', 'ray'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stderr.strip() == ""
