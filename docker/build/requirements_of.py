"""Print what torchgauge needs with some of its extras, one requirement a line, without torch.

The Dockerfile installs these in a layer of their own, before torchgauge. torch and torchvision
are not among them: their versions are the image's own arguments, installed before.
"""

import re
import sys
import tomllib

INSTALLED_BEFORE = {"torch", "torchvision", "torchaudio"}


def name_of(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


def expand(extra: str, extras: dict[str, list[str]]) -> list[str]:
    """The requirements of one extra; an extra that names others is replaced by theirs."""
    if extra not in extras:
        sys.exit(f"torchgauge has no extra {extra!r}; it has {', '.join(sorted(extras))}")
    found: list[str] = []
    for requirement in extras[extra]:
        nested = re.fullmatch(r"torchgauge\[(.+)\]", requirement)
        if nested:
            for inner in nested[1].split(","):
                found += expand(inner.strip(), extras)
        else:
            found.append(requirement)
    return found


def main(pyproject: str, names: str) -> None:
    with open(pyproject, "rb") as file:
        project = tomllib.load(file)["project"]
    wanted = list(project["dependencies"])
    for extra in filter(None, (name.strip() for name in names.split(","))):
        wanted += expand(extra, project["optional-dependencies"])
    # torch warns when numpy is missing, and notebooks expect it.
    wanted.append("numpy")
    for requirement in sorted(set(wanted)):
        if name_of(requirement) not in INSTALLED_BEFORE:
            print(requirement)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
