#!/opt/venv/bin/python
"""The container's health: Jupyter answers and, where the SSH server was started, it listens.

A container that was started with a command has no services, and is well as long as that runs.
"""

import json
import os
import sys
import urllib.request
from pathlib import Path

TIMEOUT_SECONDS = 5
ENTRY_POINT = "torchgauge-entrypoint"
LISTEN = "0A"  # the state's number in /proc/net/tcp


def check_jupyter(port: int) -> None:
    # /api tells the version without a token; everything else demands it.
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=TIMEOUT_SECONDS) as answer:
        json.load(answer)["version"]


def check_ssh(port: int) -> None:
    # Looked up, not connected to: a connection without a handshake is an error in sshd's log.
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == LISTEN and int(local.rpartition(":")[2], 16) == port:
                return
    raise OSError("nothing listens")


def command() -> str:
    """Return what runs in the place of the services, as the first process was told."""
    words = Path("/proc/1/cmdline").read_text().rstrip("\0").split("\0")
    if ENTRY_POINT not in words:  # another process is the first: a shared process namespace
        return ""
    return " ".join(words[words.index(ENTRY_POINT) + 1 :])


def main() -> int:
    if given := command():
        print(f"no services: {given.split()[0]} runs")
        return 0
    services = {"Jupyter": (check_jupyter, "JUPYTER_PORT")}
    state = Path(os.environ.get("TORCHGAUGE_STATE") or Path.home() / ".torchgauge")
    if (state / "ssh" / "started").exists():
        services["SSH"] = (check_ssh, "SSH_PORT")
    for name, (check, variable) in services.items():
        port = int(os.environ[variable])
        try:
            check(port)
        except (OSError, ValueError, KeyError) as error:
            print(f"{name} does not answer on port {port}: {error}")
            return 1
    print(" and ".join(services), "up")
    return 0


if __name__ == "__main__":
    sys.exit(main())
