"""A diagnosis as a page: what is wrong and how to repair it, what is there, what was computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from torchgauge.environment.facts import Check, Facts
from torchgauge.environment.findings import Diagnosis, Finding, Severity
from torchgauge.environment.versions import dotted
from torchgauge.render import page as blocks
from torchgauge.render.page import Data, Fact, Page, Problem, Tone, fact
from torchgauge.units import format_bytes, format_number_of

_SHOWN: Final = ("numpy", "transformers", "triton")
_SHOWN_FAMILIES: Final = ("nvidia-cuda-runtime", "nvidia-cudnn", "nvidia-nccl")
"""What decides most often whether torch works; JSON has all."""
_TONES: Final = {
    Severity.ERROR: Tone.BAD, Severity.WARNING: Tone.WARNING, Severity.NOTICE: Tone.NOTICE,
}  # fmt: skip


def doctor_page(diagnosis: Diagnosis) -> Page:
    """Return what is shown of a diagnosis."""
    there = tuple(fact(label, *texts) for label, texts in _rows(diagnosis.facts) if texts)
    return Page(
        title=("PyTorch environment",),
        is_about_a_model=False,
        blocks=(
            blocks.Facts(facts=(_verdict(diagnosis),)),
            *map(_problem, diagnosis.findings),
            blocks.Facts(facts=there),
            _data(diagnosis),
        ),
    )


def _data(diagnosis: Diagnosis) -> Data:
    """Return one row per finding."""
    rows = [
        (item.severity.value, item.name, _joined(item.problem), item.fix, "; ".join(item.commands))
        for item in diagnosis.findings
    ]
    columns = ("severity", "name", "problem", "fix", "commands")
    return Data(columns=columns, rows=tuple(rows), is_complete=False)


def _verdict(diagnosis: Diagnosis) -> Fact:
    counts = [(len(diagnosis.of(severity)), severity) for severity in Severity]
    parts = [format_number_of(count, severity.value) for count, severity in counts if count]
    if diagnosis.is_healthy:
        is_clean = not diagnosis.of(Severity.WARNING)
        tone = Tone.GOOD if is_clean else Tone.WARNING
        return fact("Verdict", "healthy", *parts, tone=tone)
    if len(diagnosis.of(Severity.ERROR)) > 1:
        parts.append("start with the first: it may explain the others")
    return fact("Verdict", *parts, tone=Tone.BAD)


def _problem(finding: Finding) -> Problem:
    entries = [("seen", text) for text in finding.evidence]
    if finding.fix:
        end = "" if finding.fix.endswith((".", "…")) else "."
        entries.append(("fix", f"{finding.fix[0].upper()}{finding.fix[1:]}{end}"))
    return Problem(
        kind=finding.severity.value,
        heading=finding.name,
        tone=_TONES[finding.severity],
        text=_joined(finding.problem),
        entries=tuple((label, _joined(text)) for label, text in entries),
        commands=finding.commands,
        alternative=finding.alternative,
    )


def _joined(text: str) -> str:
    return text.replace("\n", " ")


# ---------------------------------------------------------------------------- what is there


def _rows(facts: Facts) -> Iterator[tuple[str, list[str]]]:
    yield "Machine", _machine(facts)
    yield "Python", [facts.python.version or "not known", facts.python.executable]
    yield "torch", _torch(facts)
    yield "Packages", _companions(facts)
    yield "Driver", _driver(facts)
    for gpu in facts.smi.gpus or facts.libcuda.gpus:
        yield f"GPU {gpu.index}", _gpu(facts, gpu.index)
    yield "Memory", _memory(facts)
    for name, value in facts.variables.items():
        yield "Variable", [f"{name}={value}"]
    yield from _checks(facts)


def _machine(facts: Facts) -> list[str]:
    host = facts.host
    segments = [f"{host.system} {host.machine}".strip() or "not known"]
    if host.is_wsl:
        segments.append("Windows Subsystem for Linux")
    segments.append(f"{host.container} container" if host.container else "no container")
    if host.cpus is not None:
        segments.append(format_number_of(host.cpus, "CPU"))
    if host.cpu_limit is not None:
        segments.append(f"limited to the time of {host.cpu_limit:g}")
    if host.cuda_toolkit:
        segments.append(f"CUDA toolkit (nvcc) {dotted(host.cuda_toolkit)}")
    return segments


def _torch(facts: Facts) -> list[str]:
    torch, package = facts.torch, facts.python.package("torch")
    if torch.imported is None:
        return ["not installed"]
    if not torch.imported.ok:
        return [f"{package.version if package else 'unknown'}, cannot be imported"]
    if torch.cuda:
        build = f"built for CUDA {torch.cuda}"
    else:
        build = f"built for ROCm {torch.hip}" if torch.hip else "CPU build"
    segments = [torch.version, build]
    if torch.cudnn:
        segments.append(f"cuDNN {_cudnn(torch.cudnn)}")
    if torch.nccl:
        segments.append(f"NCCL {torch.nccl}")
    if torch.architectures:
        segments.append(f"kernels for {' '.join(torch.architectures)}")
    if torch.imported.seconds is not None:
        segments.append(f"imported in {torch.imported.seconds:.1f} s")
    return segments


def _cudnn(number: str) -> str:
    """Write cuDNN's number as its version: 90100 is 9.1.0, 8902 was 8.9.2.

    >>> _cudnn("91002"), _cudnn("8902")
    ('9.10.2', '8.9.2')
    """
    if not number.isdigit():
        return number
    value = int(number)
    scale = 10_000 if value >= 90_000 else 1_000
    return dotted((value // scale, value % scale // 100, value % 100))


def _companions(facts: Facts) -> list[str]:
    segments = []
    for imported in facts.torch.companions:
        package = facts.python.package(imported.module)
        version = imported.version or (package.version if package else "")
        segments.append(f"{imported.module} {version}" + ("" if imported.ok else ", broken"))
    segments += [
        f"{package.name} {package.version}"
        for package in facts.python.packages
        if package.name in _SHOWN or package.name.startswith(_SHOWN_FAMILIES)
    ]
    return segments


def _driver(facts: Facts) -> list[str]:
    version = facts.smi.driver or facts.host.kernel_driver
    if version is None and not facts.libcuda.loaded:
        return ["none"]
    segments = [f"NVIDIA {version or 'of unknown version'}"]
    if facts.libcuda.cuda:
        segments.append(f"CUDA up to {dotted(facts.libcuda.cuda)}")
    if facts.libcuda.path:
        segments.append(facts.libcuda.path)
    return segments


def _gpu(facts: Facts, index: int) -> list[str]:
    """Return one GPU of the machine; nvidia-smi and the driver number them alike."""
    smi = next((gpu for gpu in facts.smi.gpus if gpu.index == index), None)
    driver = next((gpu for gpu in facts.libcuda.gpus if gpu.index == index), None)
    seen = [gpu for gpu in (smi, driver) if gpu is not None]
    segments = [seen[0].name]
    capability = next((gpu.capability for gpu in seen if gpu.capability), None)
    if capability:
        segments.append(f"compute capability {dotted(capability)}")
    total = next((gpu.total_bytes for gpu in seen if gpu.total_bytes), None)
    if total and smi is not None and smi.free_bytes is not None:
        segments.append(f"{format_bytes(smi.free_bytes)} of {format_bytes(total)} free")
    elif total:
        segments.append(format_bytes(total))
    for holder in facts.smi.holders:
        if smi is not None and holder.gpu_uuid == smi.uuid:
            used = "" if holder.used_bytes is None else f" holds {format_bytes(holder.used_bytes)}"
            segments.append(f"process {holder.pid} ({holder.name or 'outside'}){used}")
    return segments


def _memory(facts: Facts) -> list[str]:
    host, segments = facts.host, []
    if host.memory_bytes is not None:
        available = host.available_memory_bytes
        segments.append(
            format_bytes(host.memory_bytes)
            + (f", {format_bytes(available)} available" if available is not None else "")
        )
    if host.memory_limit_bytes is not None:
        segments.append(f"limited to {format_bytes(host.memory_limit_bytes)}")
    space = host.shared_memory
    if space is not None and space.total_bytes is not None:
        segments.append(f"/dev/shm {format_bytes(space.total_bytes)}")
    free = [cache.free_bytes for cache in host.caches if cache.free_bytes is not None]
    if free:
        segments.append(f"disk for caches {format_bytes(min(free))} free")
    if host.open_files_limit is not None:
        segments.append(f"{host.open_files_limit:,} open files")
    return segments


def _checks(facts: Facts) -> Iterator[tuple[str, list[str]]]:
    """Yield a row per device as torch numbers them, which may be another order."""
    names = {f"cuda:{gpu.index}": gpu.name for gpu in facts.torch.gpus}
    checks = facts.checks or ()
    for device in dict.fromkeys([*names, *(check.device for check in checks)]):
        name = [names[device]] if device in names else []
        label = "Checks on the CPU" if device == "cpu" else device
        yield label, name + [_check(check) for check in checks if check.device == device]
    if facts.checks is None:
        yield "Checks", ["not run"]
    elif not checks:
        yield "Checks", ["none: torch cannot be imported"]


def _check(check: Check) -> str:
    detail = f" ({check.detail})" if check.name == "all-reduce" and check.detail else ""
    return f"✓ {check.name}{detail}" if check.ok else f"✗ {check.name}{detail} failed"
