"""Variables that torch reads, and refuses or misreads."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Final

from torchgauge.environment.facts import Facts, Version
from torchgauge.environment.findings import Finding, Severity, notice, warning
from torchgauge.environment.rules.common import Rule, torch_release
from torchgauge.environment.versions import dotted, minor_of
from torchgauge.errors import AllocatorSettingsError
from torchgauge.estimate.memory.allocator import AllocatorSettings
from torchgauge.estimate.memory.allocator.keys import NEWEST, OLDEST

ALLOCATOR: Final = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
"""In the order in which torch looks for them; the first that is set is read (seen in 2.13)."""
_NEW_NAME_SINCE: Final[Version] = (2, 10)
"""The first release that acts on ``PYTORCH_ALLOC_CONF``: pytorch/pytorch issue 183387."""
_POOL: Final = r"\s*backend\s*:\s*{names}\s*(,|$)"
"""The driver's own pool: torch takes it, and the model of the allocator does not know it."""


def allocator(facts: Facts) -> Iterator[Finding]:
    """Allocator settings that this torch refuses when CUDA starts, or does not read."""
    release = torch_release(facts)
    if release is None or release < OLDEST or not facts.torch.is_usable:
        return
    given = [name for name in ALLOCATOR if name in facts.variables]
    read = [name for name in given if _is_read(name, facts, release)][:1]
    for name in read:
        yield from _refused(name, facts, release)
    if not _uses_allocator(facts):
        return
    for name in given:
        if name not in read:
            yield _not_read(name, read, facts, release)


def _uses_allocator(facts: Facts) -> bool:
    """Return whether the build has the CUDA allocator; one for the CPU reads no settings."""
    return bool(facts.torch.cuda or facts.torch.hip)


def _is_read(name: str, facts: Facts, release: Version) -> bool:
    if name == "PYTORCH_ALLOC_CONF":
        return release >= _NEW_NAME_SINCE
    return name != "PYTORCH_HIP_ALLOC_CONF" or bool(facts.torch.hip)


def _refused(name: str, facts: Facts, release: Version) -> Iterator[Finding]:
    text = facts.variables[name]
    pool = _POOL.format(names="(cuda|hip)MallocAsync" if facts.torch.hip else "cudaMallocAsync")
    try:
        AllocatorSettings.parse(re.sub(pool, "", text), torch_release=dotted(release))
    except AllocatorSettingsError as error:
        used, known = _uses_allocator(facts), release <= NEWEST
        yield Finding(
            name="allocator-settings-invalid",
            severity=Severity.ERROR if used and known else Severity.WARNING,
            problem=f'torch {dotted(release if known else NEWEST)} refuses {name}="{text}"'
            + (" when it first uses a GPU" if used else ", which a CPU build does not read")
            + ("." if known else f"; what {dotted(release)} does is not known."),
            evidence=(error.message,),
            fix=f"correct it ({error.hint}), or unset it" if error.hint else "unset it",
            commands=(f"unset {name}",),
            source="c10/core/AllocatorConfig.cpp, c10/cuda/CUDAAllocatorConfig.cpp",
            explains_gpu=used and known,
        )


def _not_read(name: str, read: list[str], facts: Facts, release: Version) -> Finding:
    text = facts.variables[name]
    wanted = ALLOCATOR[1] if facts.torch.hip else ALLOCATOR[0]
    why = f"{read[0]} is set and read instead" if read else f"it reads {wanted}"
    return warning(
        name="allocator-settings-not-read",
        problem=f"torch {dotted(release)} does not read {name}: {why}.",
        evidence=(f"{name}={text}", *(f"{other}={facts.variables[other]}" for other in read)),
        fix="unset one of the two" if read else "set the variable that this torch reads",
        commands=(f"unset {name}",)
        if read
        else (f"export {wanted}={shlex.quote(text)}", f"unset {name}"),
        source="pytorch/pytorch issue 183387; c10/cuda/CUDAAllocatorConfig.h",
    )


def blocking(facts: Facts) -> Iterator[Finding]:
    """Switches for debugging that slow every program down, left on."""
    for name in ("CUDA_LAUNCH_BLOCKING", "PYTORCH_NO_CUDA_MEMORY_CACHING"):
        value = facts.variables.get(name)
        if value and value != "0" and facts.torch.gpus:
            yield warning(
                name="debug-switch-on",
                problem=f"{name}={value} is for debugging and makes everything slower.",
                fix="unset it",
                commands=(f"unset {name}",),
                source="https://docs.pytorch.org/docs/stable/cuda_environment_variables.html",
            )


def library_path(facts: Facts) -> Iterator[Finding]:
    """CUDA libraries on LD_LIBRARY_PATH, which are loaded before those of torch."""
    found = facts.host.library_path_cuda
    if not found or not facts.torch.cuda:
        return
    yield warning(
        name="library-path-has-cuda",
        problem="LD_LIBRARY_PATH holds CUDA libraries, which are loaded instead of those that "
        "torch brings.",
        evidence=found[:6] + ((f"and {len(found) - 6} more",) if len(found) > 6 else ()),
        fix="unset it for torch; wheels of torch need none of the system's CUDA",
        commands=("unset LD_LIBRARY_PATH",),
        source="ld.so(8): LD_LIBRARY_PATH goes before DT_RUNPATH",
    )


def toolkit(facts: Facts) -> Iterator[Finding]:
    """An nvcc of another major version than torch, which matters to extensions alone."""
    own = facts.host.cuda_toolkit
    cuda = minor_of(facts.torch.cuda) if facts.torch.cuda else None
    if own is None or cuda is None or own[0] == cuda[0]:
        return
    yield notice(
        name="toolkit-differs",
        problem=f"nvcc is of CUDA {dotted(own)}, torch of {dotted(cuda)}: CUDA extensions will not "
        "compile here. Torch itself does not use nvcc.",
        fix=f"install a CUDA {cuda[0]} toolkit and set CUDA_HOME, if you compile extensions",
        source="torch.utils.cpp_extension checks the major version",
    )


RULES: Final[tuple[Rule, ...]] = (allocator, blocking, library_path, toolkit)
