"""CUDA libraries that are not torch's own, and torch installed twice."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from torchgauge.environment.facts import Facts, Package
from torchgauge.environment.findings import Finding, Severity, warning
from torchgauge.environment.rules.common import Rule, pip_install, pip_uninstall, torch_release
from torchgauge.environment.versions import (
    applies,
    minor_of,
    parse_requirement,
    release_of,
    satisfies,
)

# ---------------------------------------------------------------------------- what torch asks for


def _pins(facts: Facts) -> Iterator[tuple[str, str, str]]:
    """Yield name, bounds and requirement of torch's CUDA libraries and of Triton."""
    package = facts.python.package("torch")
    for text in package.requires if package else ():
        name, wanted = parse_requirement(text)
        if not name.startswith(("nvidia-", "triton", "pytorch-triton", "cuda-")):
            continue
        if not applies(text, system=facts.host.system, machine=facts.host.machine):
            continue
        if wanted:
            # As it was written, its extras included, for pip.
            yield name, wanted, re.sub(r"[\s()]", "", text.partition(";")[0])


def missing_pins(facts: Facts) -> tuple[str, ...]:
    """Return the requirements of torch's CUDA libraries that are not installed."""
    return tuple(text for name, _, text in _pins(facts) if not facts.python.package(name))


def other_pins(facts: Facts) -> Iterator[Finding]:
    """CUDA libraries or Triton in another version than torch was built with."""
    other = [
        (text, package)
        for name, wanted, text in _pins(facts)
        if (package := facts.python.package(name))
        and not satisfies(package.version, wanted)
        and not _on_purpose(facts, package)
    ]
    if not other:
        return
    yield warning(
        name="cuda-wheels-changed",
        problem="Libraries of torch are not in the versions that it was built and tested with.",
        evidence=tuple(
            f"{package.name} {package.version} is installed, torch asks for {text}"
            for text, package in other
        ),
        fix="put them back, unless the change was on purpose",
        commands=(pip_install(facts, shlex.join(text for text, _ in other)),),
        source="torch's own package metadata (Requires-Dist)",
    )


def _on_purpose(facts: Facts, package: Package) -> bool:
    """Return whether torch's own developers tell to install that other version.

    cuDNN 9.15 and newer with torch 2.9: pytorch/pytorch issue 166643.
    """
    return (
        torch_release(facts) == (2, 9)
        and package.name.startswith("nvidia-cudnn-")
        and release_of(package.version) >= (9, 15)
    )


# ---------------------------------------------------------------------------- mixed wheels

_UNSUFFIXED: Final = frozenset(
    f"nvidia-{part}"
    for part in (
        "cublas", "cuda-runtime", "cuda-nvrtc", "cuda-cupti", "cufft", "curand", "cusolver",
        "cusparse", "nvjitlink", "nvtx", "cufile",
    )
)  # fmt: skip
"""Wheels of CUDA 13 and newer, whose names have no version; torch 2.12.0 asks for ``nvidia-cublas``
and, through ``cuda-toolkit``, for the others."""


def _component(name: str, unsuffixed: int = 13) -> tuple[str, int] | None:
    """Return which CUDA component of which major version a wheel holds.

    ``unsuffixed`` is the major version of the wheels whose name has none.

    >>> _component("nvidia-cudnn-cu12")
    ('nvidia-cudnn', 12)
    """
    found = re.fullmatch(r"(nvidia-[a-z-]+?)-cu(\d\d)", name)
    if found:
        return found[1], int(found[2])
    return (name, unsuffixed) if name in _UNSUFFIXED else None


def mixed_wheels(facts: Facts) -> Iterator[Finding]:
    """CUDA libraries of two major versions, which overwrite each other's files."""
    by_component: dict[str, dict[int, Package]] = defaultdict(dict)
    runtime = facts.python.package("nvidia-cuda-runtime")  # whose own version is CUDA's
    unsuffixed = max(13, *(release_of(runtime.version)[:1] if runtime else ()), 13)
    for package in facts.python.packages:
        if found := _component(package.name, unsuffixed):
            by_component[found[0]][found[1]] = package
    majors = sorted({major for found in by_component.values() for major in found})
    own = _own_major(facts)
    if len(majors) < 2 or own is None:
        return
    twice = sorted(name for name, found in by_component.items() if len(found) > 1)
    foreign = sorted(
        package.name
        for found in by_component.values()
        for major, package in found.items()
        if major != own
    )
    if not foreign:
        return
    restored = shlex.join(text for name, _, text in _pins(facts) if name.startswith("nvidia-"))
    commands = [pip_uninstall(facts, *foreign)]
    if restored and twice:
        commands.append(pip_install(facts, f"--force-reinstall --no-deps {restored}"))
    yield Finding(
        name="mixed-cuda-wheels",
        severity=Severity.ERROR if twice else Severity.WARNING,
        problem=f"CUDA libraries of versions {' and '.join(map(str, majors))} are installed "
        "together"
        + ("; they unpack into the same folders and overwrite each other." if twice else "."),
        evidence=(
            f"torch uses CUDA {own}",
            f"not torch's: {', '.join(foreign)}",
            *((f"installed twice: {', '.join(twice)}",) if twice else ()),
        ),
        fix="remove those that are not torch's"
        + (" and install torch's own again, whose files they overwrote" if twice else ""),
        commands=tuple(commands),
        source="contents of the wheels: nvidia/COMPONENT/lib for cu11 and cu12 alike; "
        "pytorch/pytorch issue 186591",
        explains_gpu=bool(twice),
    )


def _own_major(facts: Facts) -> int | None:
    """Return the CUDA major version of the installed torch, by itself or by what it asks for."""
    if facts.torch.cuda and (cuda := minor_of(facts.torch.cuda)):
        return cuda[0]
    asked = {found[1] for name, _, _ in _pins(facts) if (found := _component(name))}
    return asked.pop() if len(asked) == 1 else None


def installed_twice(facts: Facts) -> Iterator[Finding]:
    """Torch in two places, of which Python takes the first."""
    found = {package.location: package for package in facts.python.named("torch")}
    if len(found) < 2:
        return
    first, *others = found.values()
    yield warning(
        name="torch-installed-twice",
        problem=f"torch is installed {len(found)} times; Python takes {first.version}.",
        evidence=tuple(f"torch {item.version} in {item.location}" for item in (first, *others)),
        fix="remove the unwanted ones; pip removes the first it finds, so look at "
        "PYTHONPATH and the user's site-packages (python -m site) too",
        commands=(pip_uninstall(facts, "torch"),),
    )


RULES: Final[tuple[Rule, ...]] = (mixed_wheels, other_pins, installed_twice)
