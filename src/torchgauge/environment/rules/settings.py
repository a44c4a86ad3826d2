"""Variables that torch reads, and refuses or misreads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from torchgauge.environment.facts import Facts
from torchgauge.environment.findings import Finding, Severity
from torchgauge.environment.rules.common import Rule, torch_release
from torchgauge.environment.versions import dotted, minor_of
from torchgauge.errors import AllocatorSettingsError
from torchgauge.estimate.allocator import AllocatorSettings
from torchgauge.estimate.allocator.keys import OLDEST

_ALLOCATOR: Final = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
_CUDA_POOL: Final = r"\s*backend\s*:\s*cudaMallocAsync\s*,?"
"""CUDA's own pool: torch takes it, and the model of the allocator does not know it."""


def allocator(facts: Facts) -> Iterator[Finding]:
    """Allocator settings that this torch refuses when CUDA starts."""
    release = torch_release(facts)
    if release is None or release < OLDEST:
        return
    used = bool(facts.torch.cuda or facts.torch.hip)
    for name in _ALLOCATOR:
        text = facts.variables.get(name)
        if text is None:
            continue
        try:
            AllocatorSettings.parse(re.sub(_CUDA_POOL, "", text), torch_release=dotted(release))
        except AllocatorSettingsError as error:
            yield Finding(
                name="allocator-settings-invalid",
                severity=Severity.ERROR if used else Severity.WARNING,
                problem=f'torch {dotted(release)} refuses {name}="{text}"'
                + ("." if used else ", which a CPU build does not read."),
                evidence=(error.message,),
                fix=f"correct it ({error.hint}), or unset it" if error.hint else "unset it",
                commands=(f"unset {name}",),
                source="c10/core/AllocatorConfig.cpp, c10/cuda/CUDAAllocatorConfig.cpp",
                explains_gpu=used,
            )


def blocking(facts: Facts) -> Iterator[Finding]:
    """Switches for debugging that slow every program down, left on."""
    for name in ("CUDA_LAUNCH_BLOCKING", "PYTORCH_NO_CUDA_MEMORY_CACHING"):
        value = facts.variables.get(name)
        if value and value != "0" and facts.torch.gpus:
            yield Finding(
                name="debug-switch-on",
                severity=Severity.WARNING,
                problem=f"{name}={value} is for debugging, and makes everything slower.",
                fix="unset it",
                commands=(f"unset {name}",),
                source="https://docs.pytorch.org/docs/stable/cuda_environment_variables.html",
            )


def library_path(facts: Facts) -> Iterator[Finding]:
    """CUDA libraries on LD_LIBRARY_PATH, which are loaded before those of torch."""
    found = facts.host.library_path_cuda
    if not found or not facts.torch.cuda:
        return
    yield Finding(
        name="library-path-has-cuda",
        severity=Severity.WARNING,
        problem="LD_LIBRARY_PATH holds CUDA libraries, which are loaded in the place of those that "
        "torch brings along.",
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
    yield Finding(
        name="toolkit-differs",
        severity=Severity.NOTICE,
        problem=f"nvcc is of CUDA {dotted(own)}, torch of {dotted(cuda)}: CUDA extensions will not "
        "compile here. Torch itself does not use nvcc.",
        fix=f"install a CUDA {cuda[0]} toolkit and set CUDA_HOME, should you compile extensions",
        source="torch.utils.cpp_extension checks the major version",
    )


RULES: Final[tuple[Rule, ...]] = (allocator, blocking, library_path, toolkit)
