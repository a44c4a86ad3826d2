#!/opt/venv/bin/python
"""The container's health: Jupyter answers and, where the SSH server was started, so does that."""

import json
import os
import socket
import sys
import urllib.request
from pathlib import Path

TIMEOUT_SECONDS = 4


def jupyter(port: int) -> None:
    # /api tells the version without a token; everything else demands it.
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=TIMEOUT_SECONDS) as answer:
        json.load(answer)["version"]


def ssh(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS) as connection:
        if not connection.recv(4) == b"SSH-":
            raise OSError(f"what listens on port {port} is no SSH server")


def main() -> int:
    services = {"Jupyter": (jupyter, int(os.environ["JUPYTER_PORT"]))}
    state = Path(os.environ.get("TORCHGAUGE_STATE") or Path.home() / ".torchgauge")
    if (state / "ssh" / "started").exists():
        services["SSH"] = (ssh, int(os.environ["SSH_PORT"]))
    for name, (answers, port) in services.items():
        try:
            answers(port)
        except (OSError, ValueError, KeyError) as error:
            print(f"{name} does not answer on port {port}: {error}")
            return 1
    print(", ".join(services), "answer")
    return 0


if __name__ == "__main__":
    sys.exit(main())
