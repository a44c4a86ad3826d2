"""A server as a process of its own, and how to ask it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager

MLP = {"inputs": {"x": [[1.0, 2.0, 3.0, 4.0]]}}


@contextmanager
def running(folder, *options):
    """Start a server on a free port; yields its process and port, kills it in the end."""
    command = [sys.executable, "-m", "torchgauge", "serve", str(folder), "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ.copy())
    assert process.stderr is not None
    lines = []
    try:
        for line in process.stderr:
            lines.append(line)
            if match := re.search(r"listening on http://[\d.]+:(\d+)", line):
                break
        else:
            raise AssertionError("".join(lines))
        process.port = int(match[1])  # type: ignore[attr-defined]
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stderr.close()


def post(port, data, timeout=10):
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/predict", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
