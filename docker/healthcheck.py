#!/opt/venv/bin/python
"""The container's health: Jupyter answers and, where the SSH server was started, it listens."""

import json
import os
import sys
import urllib.request
from pathlib import Path

TIMEOUT_SECONDS = 5
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


def main() -> int:
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
