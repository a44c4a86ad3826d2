"""torchvision and torchaudio, and all else that was built for one torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from torchgauge.environment.facts import Facts, Import, Package
from torchgauge.environment.findings import Finding, Severity, warning
from torchgauge.environment.rules.common import (
    PICKER,
    Rule,
    install,
    pip_install,
    pip_uninstall,
    published_tag,
    torch_release,
)
from torchgauge.environment.versions import (
    companion_for,
    dotted,
    go_together,
    minor_of,
    parse_requirement,
    satisfies,
)

_IMPORTED_BY: Final = {
    "torchvision": ("transformers", "timm"),
    "torchaudio": ("transformers",),
}
"""What imports a companion whenever it is installed, and fails with it (seen: transformers 5.23,
timm 1.0.31)."""


def companions(facts: Facts) -> Iterator[Finding]:
    """Torchvision or torchaudio of another release or build than torch."""
    if not facts.torch.is_usable:
        return
    for imported in facts.torch.companions:
        package = facts.python.package(imported.module)
        if package is None:
            continue
        why = _wrong_release(facts, package)
        if why is None and imported.ok:
            continue
        yield _companion(facts, package, imported, why)


def _wrong_release(facts: Facts, package: Package) -> str | None:
    """Return what says that a companion is of another release, ``None`` for the right one."""
    torch = facts.torch.version
    for requirement in package.requires:
        name, wanted = parse_requirement(requirement)
        if name == "torch" and wanted and not satisfies(torch, wanted):
            return f"{package.name} {package.version} asks for torch {wanted}"
    release, own = torch_release(facts), minor_of(package.version)
    if release and own and go_together(release, package.name, own) is False:
        row = companion_for(release, package.name)
        if row is not None:
            return f"torch {dotted(release)} goes with {package.name} {dotted(row)}"
    return None


def _companion(facts: Facts, package: Package, imported: Import, why: str | None) -> Finding:
    torch = facts.torch.version
    theirs = published_tag(imported.version)
    own = published_tag(torch) or _tag_of_cuda(facts.torch.cuda)
    stated = imported.version or package.version
    evidence = [f"import {package.name}: {imported.error}"] if imported.error else []
    if why is None and theirs and theirs != own:
        why = f"{package.name} is built for {theirs}, torch for {own}"
    if why is not None:
        evidence.insert(0, why)
    expected = companion_for(torch_release(facts), package.name)
    exact = f'"{package.name}=={dotted(expected)}.*"' if expected else package.name
    broken = not imported.ok
    dependents = [name for name in _IMPORTED_BY[package.name] if facts.python.package(name)]
    if broken and dependents:
        evidence.append(f"{' and '.join(dependents)} import it, and fail with it")
    problem = "does not work" if broken else "was not made to work"
    finding = Finding(
        name=f"{package.name}-mismatch",
        severity=Severity.ERROR if broken else Severity.WARNING,
        problem=f"{package.name} {stated} {problem} with torch {torch}.",
        evidence=tuple(evidence),
        fix=f"install the {package.name} of this torch, or remove it if nothing needs it. {PICKER}",
        commands=(install(facts, exact, tag=own),),
        alternative=(pip_uninstall(facts, package.name),),
        source="pytorch/vision README; https://docs.pytorch.org/audio/2.11.0/installation.html",
    )
    if why:
        return finding
    return replace(finding, name=f"{package.name}-import-failed", severity=Severity.ERROR)


def _tag_of_cuda(cuda: str | None) -> str:
    return "cu" + "".join(cuda.split(".")[:2]) if cuda else "cpu"


def wanting_another(facts: Facts) -> Iterator[Finding]:
    """Packages whose own requirement of torch is not met."""
    if not facts.torch.is_usable:
        return
    for package in facts.python.packages:
        if package.name in _IMPORTED_BY or package.name == "torch":
            continue
        for requirement in package.requires:
            name, wanted = parse_requirement(requirement)
            if name != "torch" or not wanted or satisfies(facts.torch.version, wanted):
                continue
            yield warning(
                name="package-wants-other-torch",
                problem=f"{package.name} {package.version} asks for torch {wanted}; "
                f"{facts.torch.version} is installed.",
                evidence=(f"{package.name} in {package.location}",),
                fix=f"install the {package.name} of this torch, or the torch that it asks for",
                commands=(pip_install(facts, f"--upgrade {package.name}"),),
                source="the package's own metadata (Requires-Dist)",
            )


RULES: Final[tuple[Rule, ...]] = (companions, wanting_another)
