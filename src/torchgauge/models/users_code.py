"""Files and modules of the user's own, apart from Python's, what is installed, and ours."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sysconfig import get_path

import torchgauge


def is_users(path: Path) -> bool:
    """Return whether a file is the user's: neither Python's, nor installed, nor ours."""
    place = path.resolve()
    homes = (Path(get_path("stdlib")).resolve(), Path(torchgauge.__file__).resolve().parent)
    is_installed = {"site-packages", "dist-packages"} & set(place.parts)
    return not is_installed and not any(place.is_relative_to(home) for home in homes)


@contextmanager
def imports_forgotten() -> Iterator[None]:
    """Forget which of the user's modules were imported inside, so that they are imported anew.

    Another model may have modules of the same names, or the files may have changed.
    """
    folder, path, modules = os.getcwd(), list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        os.chdir(folder)
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file and is_users(Path(file)):
                del sys.modules[name]
