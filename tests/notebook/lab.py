"""JupyterLab on the loopback interface, with a home of its own, for tests in a real browser."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_START_S = 90.0
_SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # every cell is in the page
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


def environment(home: Path) -> dict[str, str]:
    """Variables under which Jupyter reads and writes nothing outside of a folder.

    A new home trusts no notebook: the signatures of those that it ran lie in it.
    """
    folders = {
        "HOME": home, "JUPYTER_CONFIG_DIR": home / "config", "JUPYTER_DATA_DIR": home / "data",
        "JUPYTER_RUNTIME_DIR": home / "runtime", "IPYTHONDIR": home / "ipython",
        "XDG_CACHE_HOME": home / "cache",
    }  # fmt: skip
    return {**os.environ, **{name: str(folder) for name, folder in folders.items()}}


def write_settings(home: Path, *, dark: bool = False) -> None:
    theme = {"theme": "JupyterLab Dark" if dark else "JupyterLab Light"}
    folder = home / "config" / "lab" / "user-settings" / "@jupyterlab"
    for name, settings in {**_SETTINGS, "apputils-extension/themes": theme}.items():
        path = folder / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))


@contextmanager
def lab(home: Path, folder: Path, *, dark: bool = False) -> Iterator[str]:
    """Serve a folder; yields the address of a notebook in it, to be filled in for ``{}``."""
    write_settings(home, dark=dark)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", "--allow-root", f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={folder}",
    ]  # fmt: skip
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment(home), stdout=log, stderr=log)
    try:
        _wait(f"http://127.0.0.1:{port}/api?token={token}", server, home / "log")
        yield f"http://127.0.0.1:{port}/lab/tree/{{}}?token={token}"
    finally:
        server.send_signal(signal.SIGTERM)  # it ends its kernels
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not start: {log.read_text()}")


def run_all(page: Any) -> None:
    """Run every cell of the notebook that is open and wait until the last one has ended."""
    # Before the kernel is there, "run all" asks for one instead.
    page.wait_for_selector("#jp-main-statusbar >> text=| Idle", timeout=60_000)
    page.click("text=Run >> nth=0")
    page.click("li[data-command='runmenu:run-all']")
    page.wait_for_function(
        """() => {
            const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')];
            return prompts.length && prompts.every((e) => /\\[\\d+\\]/.test(e.textContent));
        }""",
        timeout=240_000,
    )
