"""Installed packages that do not belong together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from torchgauge.environment.facts import Facts, Import, Package, Version
from torchgauge.environment.findings import Finding, Severity
from torchgauge.environment.rules.common import (
    PICKER,
    Rule,
    install,
    torch_release,
    torch_works,
)
from torchgauge.environment.versions import (
    build_tag,
    companion_for,
    dotted,
    go_together,
    minor_of,
    release_of,
)

# ---------------------------------------------------------------------------- companions


def companions(facts: Facts) -> Iterator[Finding]:
    """Torchvision or torchaudio of another release or build than torch."""
    if not torch_works(facts):
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
        name, wanted = _requirement(requirement)
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
    own, theirs = build_tag(torch) or _tag_of_cuda(facts.torch.cuda), build_tag(imported.version)
    stated = imported.version or package.version
    evidence = [f"import {package.name}: {imported.error}"] if imported.error else []
    if why is None and theirs and own and theirs != own:
        why = f"{package.name} is built for {theirs}, torch for {own}"
    if why is not None:
        evidence.insert(0, why)
    expected = companion_for(torch_release(facts), package.name)
    exact = f'"{package.name}=={dotted(expected)}.*"' if expected else package.name
    broken = imported.ok is False
    dependents = [
        name
        for name in ("transformers", "timm")
        if package.name == "torchvision" and facts.python.package(name)
    ]
    if broken and dependents:
        evidence.append(f"{' and '.join(dependents)} import it, and fail with it")
    return Finding(
        name=f"{package.name}-mismatch" if why else f"{package.name}-import-failed",
        severity=Severity.ERROR if broken else Severity.WARNING,
        problem=f"{package.name} {stated} "
        + ("does not work" if broken else "was not made to work")
        + f" with torch {torch}.",
        evidence=tuple(evidence),
        fix=f"install the {package.name} of this torch, or remove it if nothing needs it. {PICKER}",
        commands=(
            install(facts, exact, tag=own or "auto"),
            f"{facts.python.executable} -m pip uninstall -y {package.name}",
        ),
        source="pytorch/vision README; https://docs.pytorch.org/audio/2.11.0/installation.html",
    )


def _tag_of_cuda(cuda: str | None) -> str:
    return "cu" + "".join(cuda.split(".")[:2]) if cuda else "cpu"


# ---------------------------------------------------------------------------- requirements


def _requirement(text: str) -> tuple[str, str]:
    """Return name and version bounds of a requirement, its marker left out.

    >>> _requirement('nvidia-cudnn-cu12 (==9.1.0.70) ; platform_system == "Linux"')
    ('nvidia-cudnn-cu12', '==9.1.0.70')
    """
    found = re.match(r"\s*([A-Za-z0-9._-]+)\s*(?:\[[^]]*\])?\s*\(?([^;)]*)\)?", text)
    if found is None:
        return "", ""
    return re.sub(r"[-_.]+", "-", found[1]).lower(), found[2].strip()


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


def _pins(facts: Facts) -> Iterator[tuple[str, str, str]]:
    """Yield name, wanted version and requirement of torch's CUDA libraries and of Triton."""
    package = facts.python.package("torch")
    for text in package.requires if package else ():
        name, wanted = _requirement(text)
        if not name.startswith(("nvidia-", "triton", "pytorch-triton", "cuda-")):
            continue
        marker = text.partition(";")[2]
        if "python_version" in marker or (
            "platform_machine" in marker and facts.host.machine not in marker
        ):
            continue
        if "platform_system" in marker and facts.host.system not in marker:
            continue
        if "sys_platform" in marker and {"Linux": "linux", "Windows": "win32"}.get(
            facts.host.system, "darwin"
        ) not in marker:  # fmt: skip
            continue
        if wanted.startswith("=="):
            yield name, wanted[2:].strip(), f"{name}{wanted}"


def missing_pins(facts: Facts) -> tuple[str, ...]:
    """Return the requirements of torch's CUDA libraries that are not installed."""
    return tuple(text for name, _, text in _pins(facts) if not facts.python.package(name))


def other_pins(facts: Facts) -> Iterator[Finding]:
    """CUDA libraries or Triton in another version than torch was built with."""
    other = [
        (text, package)
        for name, wanted, text in _pins(facts)
        if (package := facts.python.package(name)) and not satisfies(package.version, f"=={wanted}")
    ]
    if not other:
        return
    yield Finding(
        name="cuda-wheels-changed",
        severity=Severity.WARNING,
        problem="Libraries of torch are installed in other versions than it was built and tested "
        "with.",
        evidence=tuple(
            f"{package.name} {package.version} is installed, torch asks for {text}"
            for text, package in other
        ),
        fix="put them back, unless the change was on purpose",
        commands=(
            f"{facts.python.executable} -m pip install {' '.join(text for text, _ in other)}",
        ),
        source="torch's own package metadata (Requires-Dist)",
    )


# ---------------------------------------------------------------------------- mixed wheels

_UNSUFFIXED_13: Final = frozenset(
    f"nvidia-{part}"
    for part in (
        "cublas", "cuda-runtime", "cuda-nvrtc", "cuda-cupti", "cufft", "curand", "cusolver",
        "cusparse", "nvjitlink", "nvtx", "cufile",
    )
)  # fmt: skip
"""CUDA 13's wheels without a suffix; seen in the requirements of torch 2.11 and newer."""


def _component(package: Package) -> tuple[str, int] | None:
    """Return which CUDA component of which major version a wheel holds.

    >>> _component(Package(name="nvidia-cudnn-cu12", version="9.1"))
    ('nvidia-cudnn', 12)
    """
    found = re.fullmatch(r"(nvidia-[a-z-]+?)-cu(\d\d)", package.name)
    if found:
        return found[1], int(found[2])
    if package.name in _UNSUFFIXED_13 and (major := release_of(package.version)):
        # cuBLAS and the runtime count as CUDA does; the others were not published before 13.
        return package.name, max(major[0], 13)
    return None


def mixed_wheels(facts: Facts) -> Iterator[Finding]:
    """CUDA libraries of two major versions, which overwrite each other's files."""
    by_component: dict[str, dict[int, Package]] = defaultdict(dict)
    for package in facts.python.packages:
        if found := _component(package):
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
    restored = " ".join(text for name, _, text in _pins(facts) if name.startswith("nvidia-"))
    pip = f"{facts.python.executable} -m pip"
    commands = [f"{pip} uninstall -y {' '.join(foreign)}"]
    if restored and twice:
        commands.append(f"{pip} install --force-reinstall --no-deps {restored}")
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
    asked = {
        found[1]
        for name, wanted, _ in _pins(facts)
        if (found := _component(Package(name=name, version=wanted)))
    }
    return asked.pop() if len(asked) == 1 else None


def installed_twice(facts: Facts) -> Iterator[Finding]:
    """Torch in two places, of which Python takes the first."""
    found = {package.location: package for package in facts.python.named("torch")}
    if len(found) < 2:
        return
    first, *others = found.values()
    yield Finding(
        name="torch-installed-twice",
        severity=Severity.WARNING,
        problem=f"torch is installed {len(found)} times; Python takes {first.version}.",
        evidence=tuple(f"torch {item.version} in {item.location}" for item in (first, *others)),
        fix="remove the ones that are not wanted; pip removes the first it finds, so look at "
        "PYTHONPATH and the user's site-packages (python -m site) too",
        commands=(f"{facts.python.executable} -m pip uninstall -y torch",),
    )


# ---------------------------------------------------------------------------- known combinations


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bad:
    """Two releases that are known not to work together."""

    torch_before: Version | None = None
    torch_from: Version | None = None
    package: str
    package_from: tuple[int, ...] = ()
    package_before: tuple[int, ...] | None = None
    problem: str
    fix: str
    command: str
    source: str


_BAD: Final = (
    _Bad(
        torch_before=(2, 3),
        package="numpy",
        package_from=(2,),
        problem="was built for numpy 1: tensors cannot be turned into arrays",
        fix="install numpy 1, or torch 2.3 or newer",
        command="pip install 'numpy<2'",
        source="pytorch/pytorch issue 107302; release notes of 2.3",
    ),
    _Bad(
        torch_from=(2, 6),
        package="transformers",
        package_before=(4, 48),
        problem="loads checkpoints with weights_only, which this transformers was not written for",
        fix="install a newer transformers",
        command="pip install --upgrade 'transformers>=4.48'",
        source="torchgauge's own requirement; release notes of torch 2.6",
    ),
)


def known_bad(facts: Facts) -> Iterator[Finding]:
    """Combinations from the table of known bad ones."""
    release = torch_release(facts)
    for row in _BAD if release else ():
        package = facts.python.package(row.package)
        if package is None or not _hits(row, release, release_of(package.version)):
            continue
        yield Finding(
            name="known-bad-combination",
            severity=Severity.WARNING,
            problem=f"torch {dotted(release or ())} with {package.name} {package.version}: torch "
            f"{row.problem}.",
            evidence=(f"{package.name} {package.version} in {package.location}",),
            fix=row.fix,
            commands=(f"{facts.python.executable} -m {row.command}",),
            source=row.source,
        )


def _hits(row: _Bad, torch: Version | None, package: tuple[int, ...]) -> bool:
    assert torch is not None  # rows are looked at for a known release only
    return (
        (row.torch_before is None or torch < row.torch_before)
        and (row.torch_from is None or torch >= row.torch_from)
        and package >= row.package_from
        and (row.package_before is None or package < row.package_before)
    )


RULES: Final[tuple[Rule, ...]] = (
    companions,
    mixed_wheels,
    other_pins,
    installed_twice,
    known_bad,
)
