"""Which versions belong together: tables with their sources, and the questions asked of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from torchgauge.environment.facts import Version

# ---------------------------------------------------------------------------- reading versions


def release_of(text: str) -> tuple[int, ...]:
    """Return the numbers of a version; empty when it has none.

    >>> release_of("2.13.0+cu130"), release_of("0.28.0a0"), release_of("main")
    ((2, 13, 0), (0, 28, 0), ())
    """
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def minor_of(text: str) -> Version | None:
    """Return major and minor of a version.

    >>> minor_of("2.13.0+cu130")
    (2, 13)
    """
    numbers = release_of(text)
    return (numbers[0], numbers[1]) if len(numbers) >= 2 else None


def build_tag(version: str) -> str:
    """Return the build that a version names, empty if it names none.

    >>> build_tag("0.28.0+cu130"), build_tag("2.13.0+cpu"), build_tag("2.13.0")
    ('cu130', 'cpu', '')
    """
    return version.partition("+")[2].split(".")[0]


def dotted(version: tuple[int, ...]) -> str:
    """Write a version with dots.

    >>> dotted((12, 6))
    '12.6'
    """
    return ".".join(str(part) for part in version)


# ---------------------------------------------------------------------------- drivers


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverNeed:
    """The oldest Linux driver that runs programs of a CUDA major version."""

    cuda_major: int
    driver: str
    driver_cuda: Version
    """What such a driver states as its own CUDA version."""
    source: str


_CUDA_NOTES: Final = (
    "NVIDIA, CUDA Compatibility, minor version compatibility, table 1, read 2026-11-24: "
    "https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html"
)
_CUDNN_MATRIX: Final = (
    "NVIDIA, cuDNN support matrix (full driver numbers), read 2026-11-24: "
    "https://docs.nvidia.com/deeplearning/cudnn/backend/latest/reference/support-matrix.html"
)

DRIVER_NEEDS: Final = (
    DriverNeed(cuda_major=11, driver="450.80.02", driver_cuda=(11, 0), source=_CUDNN_MATRIX),
    DriverNeed(cuda_major=12, driver="525.60.13", driver_cuda=(12, 0), source=_CUDNN_MATRIX),
    DriverNeed(cuda_major=13, driver="580", driver_cuda=(13, 0), source=_CUDA_NOTES),
)
"""From CUDA 11 on a program runs on every driver of its major version ("minor version
compatibility"), and on every newer one."""


def driver_need(cuda: Version) -> DriverNeed | None:
    """Return what a CUDA version asks of the driver, ``None`` for a major version not known."""
    return next((row for row in DRIVER_NEEDS if row.cuda_major == cuda[0]), None)


def is_driver_enough(
    cuda: Version, *, driver: str | None, driver_cuda: Version | None
) -> bool | None:
    """Return whether a driver runs a build for a CUDA version; ``None``: not known.

    >>> is_driver_enough((12, 4), driver="470.57.02", driver_cuda=None)
    False
    >>> is_driver_enough((12, 4), driver=None, driver_cuda=(12, 2))
    True
    """
    need = driver_need(cuda)
    if need is None:
        return None
    if driver_cuda is not None:
        return driver_cuda >= need.driver_cuda
    if driver is not None and release_of(driver):
        return release_of(driver) >= release_of(need.driver)
    return None


# ---------------------------------------------------------------------------- builds of torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Builds:
    """The CUDA versions that a release of torch is published for."""

    torch: Version
    cuda: tuple[Version, ...]
    source: str


_RELEASE_MD: Final = (
    "pytorch/pytorch RELEASE.md, release compatibility matrix, as repeated by PyTorchKorea on "
    "2026-03-24"
)
_RFC: Final = "pytorch/pytorch issues 178665 (2.12, 2026-03) and 190355 (2.14, 2026-07)"

BUILDS: Final = (
    Builds(torch=(2, 6), cuda=((11, 8), (12, 4), (12, 6)), source=_RELEASE_MD),
    Builds(torch=(2, 7), cuda=((11, 8), (12, 6), (12, 8)), source=_RELEASE_MD),
    Builds(torch=(2, 8), cuda=((12, 6), (12, 8), (12, 9)), source=_RELEASE_MD),
    Builds(torch=(2, 9), cuda=((12, 6), (12, 8), (13, 0)), source=_RELEASE_MD),
    Builds(torch=(2, 10), cuda=((12, 6), (12, 8), (13, 0)), source=_RELEASE_MD),
    Builds(torch=(2, 11), cuda=((12, 6), (12, 8), (13, 0)), source=_RELEASE_MD),
    Builds(torch=(2, 12), cuda=((12, 6), (13, 0), (13, 2)), source=_RFC),
    Builds(torch=(2, 13), cuda=((12, 6), (13, 0), (13, 2)), source=_RFC),
    Builds(torch=(2, 14), cuda=((12, 6), (13, 0), (13, 2)), source=_RFC),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """The compute capabilities that torch's builds for a CUDA version run on, on x86-64."""

    cuda: Version
    oldest: Version
    newest: Version
    source: str


_MATRIX: Final = "pytorch/pytorch RELEASE.md, CUDA support matrix of 2.11, by PyTorchKorea 2026-03"
_SEEN_26: Final = "torch 2.6.0+cu124, torch._C._cuda_getArchFlags(): sm_50 to sm_90, 2026-11-24"

REACHES: Final = (
    Reach(cuda=(11, 8), oldest=(5, 0), newest=(9, 0), source=_SEEN_26 + "; cu118 is not wider"),
    Reach(cuda=(12, 4), oldest=(5, 0), newest=(9, 0), source=_SEEN_26),
    Reach(cuda=(12, 6), oldest=(5, 0), newest=(9, 0), source=_MATRIX),
    Reach(cuda=(12, 8), oldest=(7, 5), newest=(12, 1), source=_MATRIX),
    Reach(cuda=(12, 9), oldest=(7, 5), newest=(12, 1), source=_MATRIX + " (as 12.8)"),
    Reach(cuda=(13, 0), oldest=(7, 5), newest=(12, 1), source=_MATRIX),
    Reach(cuda=(13, 2), oldest=(7, 5), newest=(12, 1), source=_RFC),
)
"""Only for what to install instead; what is installed is judged by its own list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A build of torch that can be installed."""

    torch: Version
    cuda: Version

    @property
    def tag(self) -> str:
        """The tag that names its wheels, such as ``cu126``."""
        return f"cu{self.cuda[0]}{self.cuda[1]}"


def best_build(
    release: Version | None,
    *,
    driver: str | None,
    driver_cuda: Version | None,
    capabilities: tuple[Version, ...],
) -> Build | None:
    """Return the build with the newest CUDA that the driver and all GPUs run.

    The installed ``release`` is looked at first, then newer ones from the newest down, then older
    ones; ``None``: no published build does.

    >>> best_build((2, 6), driver="470.57.02", driver_cuda=(11, 4), capabilities=((8, 0),)).tag
    'cu118'
    """
    newest_first = sorted(BUILDS, key=lambda row: row.torch, reverse=True)
    for row in sorted(newest_first, key=lambda row: row.torch != release):
        for cuda in sorted(row.cuda, reverse=True):
            if is_driver_enough(cuda, driver=driver, driver_cuda=driver_cuda) is False:
                continue
            reach = next(item for item in REACHES if item.cuda == cuda)
            if all(reach.oldest <= capability <= reach.newest for capability in capabilities):
                return Build(torch=row.torch, cuda=cuda)
    return None


# ---------------------------------------------------------------------------- companions


_PAIRS_SOURCE: Final = (
    "pytorch/vision README and https://docs.pytorch.org/audio/2.11.0/installation.html, "
    "read 2026-11-24; torchvision 0.21, 0.22, 0.24, 0.27, 0.28: its wheel's requirement of torch"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The torchvision and torchaudio that were built with a release of torch."""

    torch: Version
    torchvision: Version
    torchaudio: Version
    source: str = _PAIRS_SOURCE


_STABLE_ABI_FROM: Final = {"torchaudio": (2, 11), "torchvision": (0, 29)}
"""From these on one wheel serves its own torch and every later one: torchaudio's docs; torchvision
0.29.1's wheel asks for ``torch>=2.14.0``."""

PAIRS: Final = tuple(
    Pair(torch=torch, torchvision=(0, vision), torchaudio=(2, audio))
    for torch, vision, audio in (
        ((2, 0), 15, 0), ((2, 1), 16, 1), ((2, 2), 17, 2), ((2, 3), 18, 3), ((2, 4), 19, 4),
        ((2, 5), 20, 5), ((2, 6), 21, 6), ((2, 7), 22, 7), ((2, 8), 23, 8), ((2, 9), 24, 9),
        ((2, 10), 25, 10), ((2, 11), 26, 11), ((2, 12), 27, 11), ((2, 13), 28, 11),
        ((2, 14), 29, 11),
    )
)  # fmt: skip


def companion_for(torch: Version | None, name: str) -> Version | None:
    """Return the release of ``torchvision`` or ``torchaudio`` that goes with a torch.

    >>> companion_for((2, 6), "torchvision")
    (0, 21)
    """
    row = next((row for row in PAIRS if row.torch == torch), None)
    if row is None:
        return None
    return row.torchvision if name == "torchvision" else row.torchaudio


def go_together(torch: Version, name: str, version: Version) -> bool | None:
    """Return whether a companion's release belongs to a torch; ``None``: not known.

    >>> go_together((2, 13), "torchaudio", (2, 11)), go_together((2, 13), "torchvision", (0, 27))
    (True, False)
    """
    stable = _STABLE_ABI_FROM[name]
    own = next((row.torch for row in PAIRS if getattr(row, name) == version), None)
    if version >= stable:
        return None if own is None else torch >= own
    expected = companion_for(torch, name)
    return None if expected is None else version == expected


# ---------------------------------------------------------------------------- requirements


def parse_requirement(text: str) -> tuple[str, str]:
    """Return name and version bounds of a requirement, its marker left out.

    >>> parse_requirement('nvidia-cudnn-cu12 (==9.1.0.70) ; platform_system == "Linux"')
    ('nvidia-cudnn-cu12', '==9.1.0.70')
    """
    found = re.match(r"\s*([A-Za-z0-9._-]+)\s*(?:\[[^]]*\])?\s*\(?([^;)]*)\)?", text)
    if found is None:
        return "", ""
    return re.sub(r"[-_.]+", "-", found[1]).lower(), found[2].strip()


_SYS_PLATFORM = {"Linux": "linux", "Windows": "win32", "Darwin": "darwin"}


def applies(requirement: str, *, system: str, machine: str) -> bool:
    """Return whether a requirement's marker is for a system and a machine.

    Assumes: markers such as torch's, which name what they are for (``==``) and nothing else; one
    that speaks of Python's version counts as not applying.

    >>> text = 'triton (==3.2.0) ; platform_system == "Linux" and platform_machine == "x86_64"'
    >>> applies(text, system="Linux", machine="x86_64")
    True
    >>> applies(text, system="Linux", machine="aarch64")
    False
    """
    marker = requirement.partition(";")[2]
    named = {
        "platform_system": system,
        "platform_machine": machine,
        "sys_platform": _SYS_PLATFORM.get(system, ""),
    }
    return "python_version" not in marker and all(
        f'"{value}"' in marker or f"'{value}'" in marker
        for variable, value in named.items()
        if variable in marker
    )


def satisfies(version: str, bounds: str) -> bool:
    """Return whether a version meets bounds such as ``==2.13.0`` or ``>=2.14.0,<3``.

    Local parts (``+cu130``) are left out, as pip does; a bound of another form counts as met.

    >>> satisfies("2.13.0+cpu", "==2.13.0"), satisfies("2.12.1", ">=2.14.0")
    (True, False)
    """
    own = release_of(version)
    for bound in bounds.split(","):
        found = re.fullmatch(r"\s*(==|>=|<=|<|>|!=)\s*(\d[\d.]*)(\.\*)?\s*", bound)
        if found is None:
            continue
        theirs = release_of(found[2].rstrip("."))
        length = len(theirs) if found[3] else max(len(own), len(theirs))
        left, right = ((numbers + (0,) * length)[:length] for numbers in (own, theirs))
        met = {
            "==": left == right, "!=": left != right, ">=": left >= right, "<=": left <= right,
            "<": left < right, ">": left > right,
        }[found[1]]  # fmt: skip
        if not met:
            return False
    return True
