"""Requirements as package metadata writes them; only what the doctor asks of them."""

from __future__ import annotations

import re

from torchgauge.environment.versions import release_of


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
