"""From requests to a page in the browser of this machine. What it serves with is an extra."""

from __future__ import annotations

import os
import secrets
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torchgauge.deploy.extras import require
from torchgauge.deploy.serving.start import EXTRA
from torchgauge.request import Request

_MODULES = ("fastapi", "uvicorn")
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class UiRequest:
    """What to show, and where."""

    models: Sequence[Request]
    port: int = 0
    """0 takes a free one."""
    opens: bool = True
    """Whether a browser is opened."""
    analysis_seconds: float = 300.0


def check_installed() -> None:
    """Refuse where what the page is served with is not installed.

    Raises:
        MissingExtraError: the hint has the command that installs it.
    """
    for module in _MODULES:
        require(module, EXTRA, "serve the page")


def serve_page(
    request: UiRequest,
    on_message: Callable[[str], None],
    progress: AbstractContextManager[Callable[[str], None]],
) -> None:
    """Analyse each model once, then serve the page until a signal says to stop.

    ``progress`` gives a function that is told what is being done before there is a page.

    Raises:
        MissingExtraError: what it is served with is not installed.
        TorchGaugeError: whatever is wrong with a model or the port.
    """
    check_installed()
    from torchgauge.deploy.serving.http.server import bind, serve
    from torchgauge.web.live.analyst import Analyst, Limits
    from torchgauge.web.live.application import SETTINGS, create_application
    from torchgauge.web.live.guard import TOKEN
    from torchgauge.web.live.html import page_html
    from torchgauge.web.live.process import WorkerProcess
    from torchgauge.web.live.workbench import first_answers

    listener = bind(HOST, request.port)
    try:
        worker = WorkerProcess()
        try:
            with progress as tell:
                benches = first_answers(request.models, worker, tell)
        except BaseException:
            worker.kill()
            raise
        port = listener.getsockname()[1]
        token = secrets.token_urlsafe(24)
        analyst = Analyst(Limits(analysis_seconds=request.analysis_seconds), worker)
        page = page_html(benches)
        application = create_application(page, benches, analyst, token=token, port=port)
        url = f"http://{HOST}:{port}/?{TOKEN}={token}"

        def started() -> None:
            on_message(f"the page is at {url}")
            on_message("Ctrl-C ends it")
            if request.opens:
                threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

        serve(application, listener, SETTINGS, on_started=started)
    finally:
        listener.close()


def can_open_browser() -> bool:
    """Return whether a person sits here: a terminal, and a screen that is not the terminal."""
    has_screen = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return sys.stderr.isatty() and (has_screen or not sys.platform.startswith("linux"))
