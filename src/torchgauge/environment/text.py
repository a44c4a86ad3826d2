"""A diagnosis as text: what is there, what was computed, what is wrong and how to repair it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from torchgauge.environment.facts import Check, Facts
from torchgauge.environment.findings import Diagnosis, Finding, Severity
from torchgauge.environment.versions import dotted
from torchgauge.render.layout import wrap
from torchgauge.units import format_bytes

_LABEL: Final = 13
_SHOWN: Final = ("numpy", "transformers", "triton")
_SHOWN_FAMILIES: Final = ("nvidia-cuda-runtime", "nvidia-cudnn", "nvidia-nccl")
"""What decides most often whether torch works; JSON has all."""
_ASCII: Final = str.maketrans({"–": "-", "…": "...", "·": "|", "×": "x", "✓": "+", "✗": "x"})
_COLORS: Final = {Severity.ERROR: "31", Severity.WARNING: "33", Severity.NOTICE: "36"}


def render_text(
    diagnosis: Diagnosis, *, width: int = 80, ascii: bool = False, color: bool = False
) -> str:
    """Return the diagnosis for people; commands stand on lines of their own, never cut."""
    lines = [*_overview(diagnosis.facts, width), ""]
    for finding in diagnosis.findings:
        lines += [*_finding(finding, width, color), ""]
    lines.append(_verdict(diagnosis))
    text = "\n".join(line.rstrip() for line in lines)
    return text.translate(_ASCII) if ascii else text


# ---------------------------------------------------------------------------- what is there


def _overview(facts: Facts, width: int) -> Iterator[str]:
    for label, segments in _rows(facts):
        if segments:
            yield from wrap(segments, width, first=label.ljust(_LABEL), indent=" " * _LABEL)


def _rows(facts: Facts) -> Iterator[tuple[str, list[str]]]:
    yield "Machine", _machine(facts)
    yield "Python", [facts.python.version or "not known", facts.python.executable]
    yield "torch", _torch(facts)
    yield "with torch", _companions(facts)
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
        segments.append("Windows' subsystem for Linux")
    segments.append(f"{host.container} container" if host.container else "no container")
    if host.cpus is not None:
        segments.append(f"{host.cpus} CPU{'s' if host.cpus > 1 else ''}")
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
        yield device, name + [_check(check) for check in checks if check.device == device]
    if facts.checks is None:
        yield "Checks", ["not run"]
    elif not checks:
        yield "Checks", ["none: torch cannot be imported"]


def _check(check: Check) -> str:
    detail = f" ({check.detail})" if check.name == "all-reduce" and check.detail else ""
    return f"✓ {check.name}{detail}" if check.ok else f"✗ {check.name}{detail} failed"


# ---------------------------------------------------------------------------- what is wrong


def _finding(finding: Finding, width: int, color: bool) -> Iterator[str]:
    severity = finding.severity.value
    if color:
        severity = f"\x1b[{_COLORS[finding.severity]};1m{severity}\x1b[0m"
    yield f"{severity} {finding.name}"
    yield from _paragraph("", finding.problem, width)
    for text in finding.evidence:
        yield from _paragraph("seen", text, width)
    if finding.fix:
        yield from _paragraph("fix", _sentence(finding.fix), width)
    for command in finding.commands:
        yield f"  $ {command}"
    for command in finding.alternative:
        yield f"  or $ {command}"


def _paragraph(label: str, text: str, width: int) -> Iterator[str]:
    first = f"  {label}".ljust(8) if label else "  "
    yield from wrap([text.replace("\n", " ")], width, first=first, indent=" " * len(first))


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "…")) else ".")


def _verdict(diagnosis: Diagnosis) -> str:
    counts = [(len(diagnosis.of(severity)), severity.value) for severity in Severity]
    parts = [f"{count} {noun}{'s' if count > 1 else ''}" for count, noun in counts if count]
    if diagnosis.is_healthy:
        return "Healthy" + (f": {', '.join(parts)}." if parts else ".")
    several = len(diagnosis.of(Severity.ERROR)) > 1
    return f"{', '.join(parts)}." + (
        " Mend the first one first; others may go with it." if several else ""
    )
