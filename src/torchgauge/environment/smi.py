"""What ``nvidia-smi`` says of the driver, the GPUs and the processes on them."""

from __future__ import annotations

from typing import Final

from torchgauge.environment.facts import Holder, Smi, SmiGpu, Version
from torchgauge.environment.surroundings import Ended, Surroundings

_SECONDS: Final = 20.0
"""A driver in trouble lets it hang; on many GPUs without persistence it takes seconds."""
_FORMAT: Final = "--format=csv,noheader,nounits"
_GPU_FIELDS: Final = ("index", "uuid", "driver_version", "memory.total", "memory.free", "name")
_OLD_DRIVER: Final = "not a valid field"


def ask_nvidia_smi(surroundings: Surroundings) -> Smi:
    """Return what it says; a failure is a fact too."""
    program = surroundings.which("nvidia-smi")
    if program is None:
        return Smi()
    fields: tuple[str, ...] = ("compute_cap", *_GPU_FIELDS)
    ended = _query(surroundings, program, "gpu", fields)
    if _OLD_DRIVER in ended.stdout:  # compute_cap came with driver 510
        fields = _GPU_FIELDS
        ended = _query(surroundings, program, "gpu", fields)
    if not ended.ok:
        return Smi(path=program, message=_message(ended))
    rows = [_cells(line, fields) for line in ended.stdout.splitlines()]
    complete = [row for row in rows if row is not None]
    return Smi(
        path=program,
        message="" if complete else _message(ended),
        driver=complete[0]["driver_version"] if complete else None,
        gpus=tuple(_gpu(row) for row in complete),
        holders=_holders(surroundings, program),
    )


def _query(surroundings: Surroundings, program: str, what: str, fields: tuple[str, ...]) -> Ended:
    return surroundings.run(
        [program, f"--query-{what}={','.join(fields)}", _FORMAT], time_limit_s=_SECONDS
    )


def _message(ended: Ended) -> str:
    """Return its own words where it has any: the first line says what failed."""
    words = f"{ended.stdout}\n{ended.stderr}".strip()
    return words.splitlines()[0].strip() if words and ended.started else f"nvidia-smi {ended.how}"


def _cells(line: str, fields: tuple[str, ...]) -> dict[str, str] | None:
    """Return the values by field; the last one may have commas in it."""
    values = [value.strip() for value in line.split(",", len(fields) - 1)]
    return dict(zip(fields, values, strict=True)) if len(values) == len(fields) else None


def _gpu(row: dict[str, str]) -> SmiGpu:
    return SmiGpu(
        index=int(row["index"]) if row["index"].isdigit() else -1,
        uuid=row["uuid"],
        name=row["name"],
        capability=_version(row.get("compute_cap", "")),
        total_bytes=_mebibytes(row["memory.total"]),
        free_bytes=_mebibytes(row["memory.free"]),
    )


def _holders(surroundings: Surroundings, program: str) -> tuple[Holder, ...]:
    fields = ("gpu_uuid", "pid", "used_gpu_memory", "process_name")
    ended = _query(surroundings, program, "compute-apps", fields)
    rows = [_cells(line, fields) for line in ended.stdout.splitlines()] if ended.ok else []
    return tuple(
        Holder(
            gpu_uuid=row["gpu_uuid"],
            pid=int(row["pid"]),
            name=_process_name(surroundings, row),
            used_bytes=_mebibytes(row["used_gpu_memory"]),
        )
        for row in rows
        if row is not None and row["pid"].isdigit()
    )


def _process_name(surroundings: Surroundings, row: dict[str, str]) -> str:
    """Return the command line where it can be read: ``python`` alone says little."""
    command = surroundings.read(f"/proc/{row['pid']}/cmdline")
    if command:
        return " ".join(command.split("\0")).strip()
    name = row["process_name"]
    return "" if name.startswith("[") else name  # [Not Found]: it runs outside the container


def _version(text: str) -> Version | None:
    major, _, minor = text.partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None


def _mebibytes(text: str) -> int | None:
    return int(text) << 20 if text.isdigit() else None  # [N/A]: memory shared with the processor
