"""The file with the calibration of this machine's CPU: where it lies and what is in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from torchgauge.devices.paths import home_file, missing, named_file
from torchgauge.errors import DeviceError

VARIABLE: Final = "TORCHGAUGE_CPU"
"""The environment variable with the path of a file; empty for none."""
HOME_FILE: Final = ".config/torchgauge/cpu.json"
"""The file in the home directory."""
REMEDY: Final = "run torchgauge measure --calibrate again"


def calibration_path() -> Path | None:
    """Return where a calibration is kept; ``None`` if the variable is empty, or without a home."""
    if os.environ.get(VARIABLE) == "":
        return None
    return named_file(VARIABLE) or home_file(HOME_FILE)


def calibration_file() -> tuple[str, str] | None:
    """Return the text and the path of this machine's calibration, ``None`` where there is none.

    Raises:
        DeviceError: the file cannot be read, or the variable names a file that does not exist.
    """
    path = calibration_path()
    if path is None:
        return None
    try:
        path.stat()
    except OSError:
        if named_file(VARIABLE):
            raise missing(path, VARIABLE) from None
        return None
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DeviceError(f"cannot read {path}: {error}", hint=REMEDY) from error
