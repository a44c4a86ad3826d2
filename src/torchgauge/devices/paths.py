"""Where a user keeps facts of devices: the file that a variable names, or one in the home."""

from __future__ import annotations

import os
from pathlib import Path

from torchgauge.errors import DeviceError


def named_file(variable: str) -> Path | None:
    """Return the file that an environment variable names, ``None`` where it names none."""
    given = os.environ.get(variable)
    if not given:
        return None
    try:
        return Path(given).expanduser()
    except RuntimeError:  # ~user of an unknown user
        return Path(given)


def home_file(name: str) -> Path | None:
    """Return a file in the home directory, ``None`` in a container without one."""
    try:
        return Path.home() / name
    except RuntimeError:
        return None


def missing(path: Path, variable: str) -> DeviceError:
    """Return the error of a named file that is not there."""
    return DeviceError(f"there is no file {path}", hint=f"correct or unset the variable {variable}")
