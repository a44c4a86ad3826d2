"""Carry this machine's pip settings into a build: write a pip.conf, print buildah's mounts.

A company's mirror, a folder of wheels, a certificate: what pip needs on this machine, it needs
inside the build as well, and none of it may stay in the image. One argument is printed a line.
"""

import ast
import subprocess
import sys
from pathlib import Path

CARRIED = ("index-url", "extra-index-url", "find-links", "trusted-host", "cert", "timeout")
PIP_CONF = "/etc/pip.conf"
CERTIFICATES = "/etc/ssl/certs/host-certificates.crt"


def host_settings() -> dict[str, str]:
    """pip's settings on this machine, environment variables last: they win."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    settings: dict[str, str] = {}
    from_environment: dict[str, str] = {}
    for line in listed.stdout.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        target = from_environment if section == ":env:" else settings
        target[name] = ast.literal_eval(value)
    return settings | from_environment


def local_folder(location: str) -> Path | None:
    path = Path(location.removeprefix("file://"))
    # An index of files has the files beside it: /opt/index/simple links to /opt/index/files.
    if location.startswith("file://"):
        path = path.parent
    return path if path.is_absolute() and path.is_dir() else None


def main(conf: str) -> None:
    settings = {name: value for name, value in host_settings().items() if name in CARRIED}
    mounts: dict[str, str] = {}
    for name in ("index-url", "extra-index-url", "find-links"):
        for location in settings.get(name, "").split():
            folder = local_folder(location)
            if folder:
                mounts[str(folder)] = str(folder)
    if "cert" in settings:
        mounts[settings["cert"]] = CERTIFICATES
        settings["cert"] = CERTIFICATES
    lines = [f"{name} = {' '.join(value.split())}" for name, value in settings.items()]
    Path(conf).write_text("\n".join(["[global]", *lines, ""]))
    mounts[conf] = PIP_CONF
    for source, target in mounts.items():
        print(f"--volume={source}:{target}:ro")


if __name__ == "__main__":
    main(sys.argv[1])
