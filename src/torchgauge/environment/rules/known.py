"""Combinations that are known not to work: a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from torchgauge.environment.facts import Facts, Package, Version
from torchgauge.environment.findings import Finding, Severity
from torchgauge.environment.rules.common import Rule, pip_install, torch_release
from torchgauge.environment.versions import dotted, release_of

_ANY: Final[Version] = (0, 0)
_NEVER: Final = (9999,)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bad:
    """A range of torch that does not go with a range of another package."""

    torch_from: Version = _ANY
    torch_before: Version = (9999, 0)
    package: str
    """The name, or with ``*`` at its end the start of it."""
    package_from: tuple[int, ...] = ()
    package_before: tuple[int, ...] = _NEVER
    problem: str
    fix: str
    arguments: str
    """Of ``pip install``; ``{name}`` is the package's."""
    source: str

    def hits(self, torch: Version, package: Package) -> bool:
        """Return whether an installed pair is in the ranges."""
        start = self.package.removesuffix("*")
        named = package.name == start or (self.package != start and package.name.startswith(start))
        release = release_of(package.version)
        return (
            named
            and self.torch_from <= torch < self.torch_before
            and self.package_from <= release < self.package_before
        )


_TABLE: Final = (
    _Bad(
        torch_before=(2, 3),
        package="numpy",
        package_from=(2,),
        problem="this torch was built for numpy 1, and cannot make arrays of tensors with numpy 2",
        fix="install numpy 1, or torch 2.3 or newer",
        arguments="'numpy<2'",
        source="pytorch/pytorch issue 107302 (2024-04)",
    ),
    _Bad(
        torch_before=(2, 6),
        package="transformers",
        package_from=(4, 52),
        problem="this transformers refuses to load .bin and .pt checkpoints with a torch older "
        "than 2.6 (CVE-2025-32434)",
        fix="update torch to 2.6 or newer, or load checkpoints in safetensors",
        arguments="--upgrade 'torch>=2.6'",
        source="huggingface/transformers PR 37785 (2025-04)",
    ),
    _Bad(
        torch_from=(2, 9),
        torch_before=(2, 10),
        package="nvidia-cudnn-*",
        package_before=(9, 15),
        problem="conv3d in bf16 takes several times the memory of torch 2.8 with this cuDNN",
        fix="install cuDNN 9.15 or newer, if you use 3-D convolutions; torch 2.9.1 or newer is "
        "needed too",
        arguments="--no-deps '{name}>=9.15'",
        source="pytorch/pytorch issue 166643 (2025-11)",
    ),
)


def known_bad(facts: Facts) -> Iterator[Finding]:
    """Combinations from the table."""
    release = torch_release(facts)
    if release is None:
        return
    for row in _TABLE:
        for package in facts.python.packages:
            if not row.hits(release, package):
                continue
            arguments = row.arguments.format(name=package.name)
            yield Finding(
                name="known-bad-combination",
                severity=Severity.WARNING,
                problem=f"torch {dotted(release)} with {package.name} {package.version}: "
                f"{row.problem}.",
                evidence=(f"{package.name} {package.version} in {package.location}",),
                fix=row.fix,
                commands=(pip_install(facts, arguments),),
                source=row.source,
            )


RULES: Final[tuple[Rule, ...]] = (known_bad,)
