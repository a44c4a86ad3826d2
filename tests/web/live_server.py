"""A server of ``torchgauge ui`` in this process, its worker in another, and how to ask it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from torchgauge.deploy.serving.http.server import bind, server_for
from torchgauge.request import Request
from torchgauge.web.live.analyst import Analyst, Limits
from torchgauge.web.live.application import SETTINGS, create_application
from torchgauge.web.live.html import page_html
from torchgauge.web.live.process import WorkerProcess
from torchgauge.web.live.workbench import first_answers

if TYPE_CHECKING:
    from playwright.sync_api import Page

TOKEN = "the-token"
_READY = "document.documentElement.hasAttribute('data-ready')"
_IDLE = f"() => {_READY} && !document.querySelector('.what-if[data-busy]')"

MODELS = '''
import time

import torch


class Net(torch.nn.Module):
    """Fails on a batch of 3, leaves on 5, kills on 6, takes its time on 7."""

    def __init__(self, width=8, depth=4):
        super().__init__()
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(width, width) for _ in range(depth))
        self.head = torch.nn.Linear(width, 2)

    def forward(self, x):
        for block in self.blocks:
            x = torch.relu(block(x))
        if len(x) == 3:
            raise ValueError("three is too many")
        if len(x) == 5:
            raise SystemExit("enough")
        if len(x) == 6:
            import os
            import signal
            os.kill(os.getpid(), signal.SIGKILL)
        if len(x) == 7:
            time.sleep(60)
        return self.head(x)


class Tokens(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(50, 8)
        self.layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, ids, mask=None):
        return self.layer(self.embed(ids))


class Pixels(torch.nn.Module):
    """Has something to change: a wide classifier, a dense convolution."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 64, 3, padding=1)
        self.deep = torch.nn.Conv2d(64, 64, 3, padding=1)
        self.head = torch.nn.Linear(64 * 64, 10)

    def forward(self, x):
        x = torch.relu(self.deep(torch.relu(self.conv(x))))
        return self.head(x.flatten(1))


class Broken(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(8, 8)
        self.second = torch.nn.Linear(9, 2)

    def forward(self, x):
        return self.second(self.first(x))
'''


class Live:
    """A running server."""

    def __init__(self, port: int, analyst: Analyst) -> None:
        self.analyst = analyst
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.page = f"{self.url}/?token={TOKEN}"
        self.client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=60,
            limits=httpx.Limits(max_connections=None),
        )

    def events(
        self,
        changes: dict[str, Any],
        *,
        model: int = 0,
        client: str = "tab",
        applied: Sequence[str] = (),
        path: str = "/analyses",
    ) -> Iterator[tuple[str, Any]]:
        """Ask, and give each event while it comes."""
        body = {"client": client, "model": model, "changes": changes, "applied": [*applied]}
        with self.client.stream("POST", path, json=body) as response:
            assert response.status_code == 200, response.read()
            name = ""
            for line in response.iter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield name, json.loads(line.removeprefix("data: "))

    def ask(self, changes: dict[str, Any], **options: Any) -> tuple[str, Any]:
        """Ask and return the last event."""
        return list(self.events(changes, **options))[-1]

    def advise(self, changes: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Ask what to change and return it."""
        name, content = self.ask(changes, path="/advice", **options)
        assert name == "result", content
        found: dict[str, Any] = content
        return found

    def refused(self, body: Any, path: str = "/analyses") -> tuple[int, dict[str, Any]]:
        """Ask what is refused and return the status and the error."""
        response = self.client.post(path, json=body)
        return response.status_code, response.json()["error"]


@contextmanager
def live(requests: Sequence[Request], limits: Limits | None = None) -> Iterator[Live]:
    """Serve the page of models until the block ends."""
    worker = WorkerProcess()
    listener = bind("127.0.0.1", 0)
    try:
        benches = first_answers(requests, worker, lambda _: None)
        analyst = Analyst(limits or Limits(), worker)
        port = listener.getsockname()[1]
        page = page_html(benches)
        application = create_application(page, benches, analyst, token=TOKEN, port=port)
        server = server_for(application, SETTINGS)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        running = Live(port, analyst)
        try:
            yield running
        finally:
            running.client.close()
            server.should_exit = True
            thread.join()
    finally:
        worker.kill()  # its listener sees that it is gone
        listener.close()


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something that another thread brings about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def resident_bytes(pid: int) -> int:
    """Return the memory that a process holds (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no such line")


def settled(page: Page) -> None:
    """Wait until what was changed is answered and drawn."""
    page.wait_for_function(_IDLE, timeout=60_000)
