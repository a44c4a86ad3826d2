"""The environment as pins: the packages that serving needs, each at the version installed here.

Names and versions alone, no index and no host: where they come from is the reader's choice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata

from torchgauge.version import __version__

ROOTS = ("torchgauge", "torch", "fastapi", "uvicorn", "prometheus-client", "safetensors", "numpy")
"""What a server imports; numpy because torch warns without it."""

_LEFT_OUT = re.compile(r"(nvidia|cuda)-.*|triton|pytorch-triton|setuptools", re.IGNORECASE)
"""What comes with a build of torch, and what every environment has in a version of its own."""
_HEADER = """\
# The environment that this package was made and checked in, for Python {python}.
# torch is pinned without its build (this one: {torch}): install the build for your machine first.
"""


def environment_lock(extra: tuple[str, ...] = ()) -> str:
    """Return the text of ``requirements.lock``; ``extra`` packages are pinned as well."""
    import platform

    pins: dict[str, str] = {}
    for root in (*ROOTS, *extra):
        for name, version in _closure(root, set(pins)):
            pins[name] = version
    pins.setdefault("torchgauge", __version__)  # when it runs from its sources
    lines = [
        f"{name}=={version.partition('+')[0]}"
        for name, version in sorted(pins.items(), key=lambda pin: pin[0].lower())
        if not _LEFT_OUT.fullmatch(name)
    ]
    header = _HEADER.format(python=platform.python_version(), torch=pins.get("torch", "none"))
    return header + "\n".join(lines) + "\n"


def _closure(root: str, seen: set[str]) -> Iterator[tuple[str, str]]:
    """Yield a package and what it requires here, as far as installed; extras are left out."""
    waiting, done = [root], {_normal(name) for name in seen}
    while waiting:
        wanted = waiting.pop()
        if _normal(wanted) in done:
            continue
        done.add(_normal(wanted))
        try:
            found = metadata.distribution(wanted)
        except metadata.PackageNotFoundError:
            continue  # optional, or for another platform
        yield found.name, found.version
        for requirement in found.requires or ():
            if not re.search(r";.*\bextra\b", requirement):
                waiting.append(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
