"""Which line of the model's code is running: the innermost frame that is neither torch nor ours."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from types import FrameType

import torch

_OURS = str(Path(__file__).resolve().parents[2]) + os.sep
_TORCH = str(Path(torch.__file__).resolve().parent) + os.sep
_SESSION = str(Path(__file__).resolve().parents[1] / "run" / "session.py")
_STANDARD = str(Path(os.__file__).resolve().parent) + os.sep
_PACKAGES = ("site-packages", "dist-packages")


def code_line() -> str:
    """Return ``file.py:12`` of the model's code that is running, ``""`` where there is none.

    A backward, an optimizer and a model made of torch's own layers alone run no line of it.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name == _SESSION:
            return ""
        found = place(name)
        if found:
            return f"{found}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def is_session(name: str) -> bool:
    """Return whether a file is the one that calls the model: what called it is not part of it."""
    return name == _SESSION


def is_torch(name: str) -> bool:
    """Return whether a file belongs to PyTorch."""
    return name.startswith(_TORCH)


def is_ours(name: str) -> bool:
    """Return whether a file belongs to torchgauge."""
    return name.startswith(_OURS)


@cache
def place(name: str) -> str:
    """Return a file's name as it is on every machine, ``""`` for a file that is not looked at.

    An installed package's from the package on, others from the working directory if they are
    below it, else the file's name alone.
    """
    if name.startswith("<"):
        return ""
    path = os.path.abspath(name)
    if path.startswith((_OURS, _TORCH)):
        return ""
    for packages in _PACKAGES:
        _, found, inside = path.partition(f"{os.sep}{packages}{os.sep}")
        if found:
            return inside.replace(os.sep, "/")
    if path.startswith(_STANDARD):
        return ""
    try:
        below = os.path.relpath(path)
    except ValueError:  # on another drive than the working directory
        return os.path.basename(path)
    return os.path.basename(path) if below.startswith("..") else below.replace(os.sep, "/")
