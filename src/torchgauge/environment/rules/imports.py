"""Can torch be imported at all, and if not, why."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from torchgauge.environment.facts import Facts, Package
from torchgauge.environment.findings import Finding, error
from torchgauge.environment.rules.common import (
    PICKER,
    Rule,
    build_for,
    install,
    pip_install,
    published_tag,
)
from torchgauge.environment.rules.packages import missing_pins
from torchgauge.environment.rules.settings import ALLOCATOR


def interpreter_broken(facts: Facts) -> Iterator[Finding]:
    """The interpreter that is to be examined does not run."""
    python = facts.python
    if python.version:
        return
    yield error(
        name="interpreter-broken",
        problem=f"The Python interpreter {python.executable} cannot be examined.",
        evidence=(python.message,) if python.message else (),
        fix="name one that runs, Python 3.8 or newer, with --python; make a virtual "
        "environment again after its base Python was replaced",
        commands=("python3 -m venv --clear ENVIRONMENT",),
    )


def torch_shadowed(facts: Facts) -> Iterator[Finding]:
    """A file of the user's is imported in the place of torch."""
    python, package = facts.python, facts.python.package("torch")
    origin = python.torch_origin
    if origin is None or facts.torch.version or (package and origin.startswith(package.location)):
        return
    path = PurePath(origin)
    target = path.parent if path.name == "__init__.py" else path
    if package is None and path.parent.name == "torch" and "site-packages" in path.parts:
        return  # the remains of an installation: torch_missing
    yield error(
        name="torch-shadowed",
        problem=f"`import torch` loads {target}, which is not PyTorch.",
        evidence=(
            f"PyTorch {package.version} is in {package.location}"
            if package
            else "PyTorch itself is not installed",
        ),
        fix="give that file or folder another name; Python searches the script's folder, then "
        "PYTHONPATH, and only then at what is installed",
        commands=(_renaming(target),),
    )


def _renaming(path: PurePath) -> str:
    return shlex.join(["mv", str(path), str(path.with_name(f"my_{path.name}"))])


def standard_shadowed(facts: Facts) -> Iterator[Finding]:
    """A file of the user's is imported in the place of a module of Python's own."""
    files, imported = facts.python.shadowing, facts.torch.imported
    if not files or imported is None or imported.ok:
        return
    yield error(
        name="standard-module-shadowed",
        problem="torch cannot be imported, and a file here has the name of one of Python's own "
        "modules, which Python loads instead.",
        evidence=(*files, *_said(facts)),
        fix="give these files other names, and remove their __pycache__",
        commands=tuple(_renaming(PurePath(path)) for path in files),
        source="Python tutorial, the module search path",
    )


def torch_missing(facts: Facts) -> Iterator[Finding]:
    """No torch is installed."""
    if facts.python.package("torch") or facts.torch.version:
        return
    build = build_for(facts)
    tag = build.tag if build and facts.libcuda.gpus else "cpu"
    python = facts.python
    managed = python.is_managed
    environment = (f"{shlex.quote(python.executable)} -m venv .venv",) if managed else ()
    yield error(
        name="torch-missing",
        problem=f"torch is not installed for {python.executable}.",
        evidence=(
            f"Python {python.version} in {python.prefix}",
            *(("the system's package manager owns it: pip installs nothing there",) * managed),
        ),
        fix=("install it into an environment" if managed else "install it")
        + f", or activate the environment that has it. {PICKER}",
        commands=(
            *environment,
            install(facts, "torch", tag=tag, python=".venv/bin/python" if managed else None),
        ),
        source="https://peps.python.org/pep-0668/" if managed else "",
    )


def python_mismatch(facts: Facts) -> Iterator[Finding]:
    """The installed torch was made for another version of Python."""
    package = facts.python.package("torch")
    if facts.torch.is_usable or package is None or not package.tags or not facts.python.tag:
        return
    if any(_fits(tag, facts.python.tag) for tag in package.tags):
        return
    yield error(
        name="python-abi-mismatch",
        problem=f"torch {package.version} was made for another Python than {facts.python.version}.",
        evidence=(f"wheel {', '.join(package.tags)}", *_said(facts)),
        fix="install torch with this Python's own pip; a site-packages folder cannot be shared "
        "between versions of Python, nor a PYTHONPATH point to it",
        commands=(pip_install(facts, "--force-reinstall torch"),),
        source="Python packaging, platform compatibility tags",
    )


def _fits(tag: str, python: str) -> bool:
    """Return whether a wheel's tag is for an interpreter such as ``cp311``."""
    interpreter, abi, _ = (*tag.split("-", 2), "", "")[:3]
    if interpreter.startswith("py"):
        return True
    if abi == "abi3":
        return interpreter[:2] == python[:2] and int(interpreter[3:] or 0) <= int(python[3:])
    return python in interpreter.split(".")


# ---------------------------------------------------------------------------- known messages


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    pattern: str
    name: str
    problem: str
    fix: str
    commands: Callable[[Facts], tuple[str, ...]] = lambda facts: ()
    source: str = ""


def _reinstall(facts: Facts) -> tuple[str, ...]:
    package = facts.python.package("torch")
    if package and (tag := published_tag(package.version)):
        # pip's usual index has one build per release, and this is another.
        return (install(facts, f'"{_exact(package)}"', tag=tag),)
    return (pip_install(facts, f"--force-reinstall {_exact(package)}"),)


def _exact(package: Package | None) -> str:
    return f"torch=={package.version.partition('+')[0]}" if package else "torch"


def _missing_wheels(facts: Facts) -> tuple[str, ...]:
    missing = missing_pins(facts)
    return (pip_install(facts, shlex.join(missing)),) if missing else _reinstall(facts)


_MESSAGES: Final = (
    _Message(
        pattern=r"AllocatorConfig|CachingAllocator option|allocator config",
        name="allocator-settings-invalid",
        problem="torch refuses the allocator settings among the variables, already while it is "
        "imported.",
        fix="correct or unset them",
        commands=lambda facts: tuple(f"unset {key}" for key in ALLOCATOR if key in facts.variables),
        source="pytorch/pytorch issue 186453",
    ),
    _Message(
        pattern=r"did not answer within the time limit",
        name="torch-import-failed",
        problem="The import of torch did not finish within the time limit.",
        fix="give it more time; a first import from a network disk takes minutes. One that never "
        "ends waits for a driver or a lock: `py-spy dump` shows where",
        commands=lambda facts: ("torchgauge doctor --timeout 600",),
    ),
    _Message(
        pattern=r"undefined symbol: (nccl|cudnn|cublas|cusparse|__nv)",
        name="foreign-cuda-library",
        problem="A CUDA library other than torch's own replaces it.",
        fix="take the folder of that library out of LD_LIBRARY_PATH, then reinstall torch's own",
        commands=lambda facts: ("unset LD_LIBRARY_PATH", *_missing_wheels(facts)),
        source="pytorch/pytorch issues 119932, 119072",
    ),
    _Message(
        pattern=r"lib(cublas|cublasLt|cudart|cudnn|nccl|cufft|curand|cusolver|cusparse|cusparseLt|"
        r"cupti|nvrtc|nvJitLink|nvToolsExt|nvshmem_host|cufile)\S*\.so",
        name="cuda-wheels-missing",
        problem="CUDA libraries that this build of torch needs are not installed.",
        fix="install what torch asks for; pip leaves it out with --no-deps",
        commands=_missing_wheels,
        source="torch's own package metadata (Requires-Dist)",
    ),
    _Message(
        pattern=r"GLIBC(XX)?_[\d.]+' not found|GLIBCXX|CXXABI_",
        name="system-too-old",
        problem="The system's C or C++ library is older than this torch needs.",
        fix="use a newer system or the container image; wheels of torch from 2.6 on need "
        "glibc 2.28 (manylinux_2_28). A libstdc++ of conda before the system's is repaired with "
        "`conda install -c conda-forge libstdcxx-ng`",
        source="torch wheels' platform tag",
    ),
    _Message(
        pattern=r"iJIT_NotifyEvent",
        name="mkl-too-new",
        problem="MKL is newer than this torch was linked against.",
        fix="install an older MKL next to it",
        commands=lambda facts: ("conda install 'mkl<2024.1'",),
        source="pytorch/pytorch issue 123097",
    ),
    _Message(
        pattern=r"static TLS block",
        name="static-tls",
        problem="A library is loaded too late: the loader has no space left for its thread-local "
        "data.",
        fix="import torch before everything else, or preload the library that the message names",
        source="pytorch/pytorch issue 2575",
    ),
    _Message(
        pattern=r"_ARRAY_API not found|numpy\.core\.multiarray failed",
        name="numpy-too-new",
        problem="This torch was built for numpy 1.",
        fix="install numpy 1, or torch 2.3 or newer",
        commands=lambda facts: (pip_install(facts, "'numpy<2'"),),
        source="pytorch/pytorch issue 107302",
    ),
    _Message(
        pattern=r"SIGILL",
        name="cpu-too-old",
        problem="The processor lacks an instruction that this torch uses.",
        fix="in a virtual machine, pass the host's processor through (CPU type host); otherwise "
        "use an older torch or build it from source",
    ),
    _Message(
        pattern=r"No space left|Cannot allocate memory|MemoryError|SIGKILL",
        name="out-of-memory",
        problem="The machine or the container has too little memory to import torch.",
        fix="give it at least 1 GiB; a container's limit is docker run --memory",
    ),
    _Message(
        pattern=r"libtorch\S*\.so|libc10\S*\.so|torch\._C|circular import|No module named",
        name="torch-incomplete",
        problem="Parts of torch, or a package that it needs, are missing: an installation that was "
        "interrupted, or two that were mixed.",
        fix="install it again",
        commands=_reinstall,
    ),
)  # fmt: skip


def import_failed(facts: Facts) -> Iterator[Finding]:
    """The import fails with a message that is known, or with another one."""
    if facts.torch.imported is None or facts.torch.imported.ok:
        return
    message = facts.torch.imported.error
    row = next((row for row in _MESSAGES if re.search(row.pattern, message)), None)
    if row is None:
        row = _Message(
            pattern="",
            name="torch-import-failed",
            problem="torch is installed but cannot be imported.",
            fix="install it again; if that does not help, report this with the output of "
            "`torchgauge doctor --format json`",
            commands=_reinstall,
        )
    evidence = list(_said(facts))
    if row.name in ("foreign-cuda-library", "cuda-wheels-missing"):
        evidence += [f"on LD_LIBRARY_PATH: {path}" for path in facts.host.library_path_cuda]
    if row.name == "allocator-settings-invalid":
        evidence += [f"{key}={facts.variables[key]}" for key in ALLOCATOR if key in facts.variables]
    yield error(
        name=row.name,
        problem=row.problem,
        evidence=tuple(evidence),
        fix=row.fix,
        commands=row.commands(facts),
        source=row.source,
    )


def _said(facts: Facts) -> tuple[str, ...]:
    imported = facts.torch.imported
    return (f"import torch: {imported.error}",) if imported and imported.error else ()


CHAIN: Final[tuple[Rule, ...]] = (
    interpreter_broken,
    torch_shadowed,
    standard_shadowed,
    torch_missing,
    python_mismatch,
    import_failed,
)
