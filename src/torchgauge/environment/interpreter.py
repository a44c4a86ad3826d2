"""Run the probes in the interpreter that is examined and read what they wrote."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from torchgauge.environment.facts import (
    Check,
    DriverGpu,
    Import,
    Libcuda,
    Package,
    Python,
    Torch,
    TorchGpu,
    Version,
)
from torchgauge.environment.surroundings import Ended, Surroundings, scratch_folder

_PROBES: Final = Path(__file__).parent / "probes"
_COMPANIONS: Final = ("torchvision", "torchaudio")
_MASKS: Final = ("CUDA_VISIBLE_DEVICES",)
_LINES_OF_ERROR: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The lines that a probe wrote, and how it ended."""

    lines: tuple[dict[str, Any], ...]
    ended: Ended

    def last(self, key: str) -> Any:
        """Return the last value under a key, ``None`` when no line has it."""
        values = [line[key] for line in self.lines if key in line]
        return values[-1] if values else None

    def every(self, key: str) -> list[Any]:
        """Return all values under a key."""
        return [line[key] for line in self.lines if key in line]

    @property
    def death(self) -> str:
        """How it died and in the middle of what; empty when it ended as it should."""
        if self.ended.ok:
            return ""
        words = [line.strip() for line in self.ended.stderr.splitlines() if line.strip()]
        said = " | ".join(words[-_LINES_OF_ERROR:])
        during = f" during {self.last('begin')}" if self.last("begin") else ""
        return f"the process {self.ended.how}{during}" + (f": {said}" if said else "")


def ask(
    surroundings: Surroundings,
    probe: str,
    *arguments: str,
    python: str | None = None,
    without: Sequence[str] = (),
    extra: Mapping[str, str] | None = None,
) -> Answer:
    """Run one probe; what it wrote before it died, should it die, is kept."""
    with tempfile.TemporaryDirectory(dir=scratch_folder()) as folder:
        output = Path(folder) / "answer"
        ended = surroundings.run(
            [python or surroundings.python, str(_PROBES / f"{probe}.py"), str(output), *arguments],
            without=without,
            extra={"PYTHONDONTWRITEBYTECODE": "1", **(extra or {})},
        )
        text = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
    return Answer(lines=tuple(_objects(text)), ended=ended)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:  # the line in the middle of which it was killed
            continue
        if isinstance(value, dict):
            yield value


# ---------------------------------------------------------------------------- facts


def ask_packages(surroundings: Surroundings) -> Python:
    """Return the interpreter and the packages that matter."""
    answer = ask(surroundings, "packages")
    return Python(
        executable=answer.last("executable") or surroundings.python,
        version=answer.last("version") or "",
        tag=answer.last("tag") or "",
        prefix=answer.last("prefix") or "",
        message=answer.death or ("" if answer.lines else "it ended without output"),
        packages=tuple(_package(row) for row in answer.last("packages") or ()),
        torch_origin=answer.last("torch_origin"),
        has_pip=answer.last("has_pip"),
        is_managed=bool(answer.last("is_managed")),
        shadowing=tuple(answer.last("shadowing") or ()),
    )


def _package(row: dict[str, Any]) -> Package:
    return Package(
        name=row["name"],
        version=row["version"],
        location=row["location"],
        requires=tuple(row["requires"]),
        tags=tuple(row["tags"]),
    )


def ask_libcuda(surroundings: Surroundings) -> Libcuda:
    """Return what the driver's library says of the whole machine, whatever is visible to torch."""
    # The driver is the machine's: it is asked even where the examined interpreter is broken.
    answer = ask(
        surroundings,
        "libcuda",
        python=sys.executable,
        without=_MASKS,
        extra={"CUDA_DEVICE_ORDER": "PCI_BUS_ID"},  # as nvidia-smi numbers them
    )
    return Libcuda(
        loaded=bool(answer.last("loaded")),
        path=answer.last("path"),
        message=answer.last("message") or answer.death,
        crashed=bool(answer.death),
        cuda=_version(answer.last("cuda")),
        init_status=answer.last("init_status"),
        gpus=tuple(
            DriverGpu(
                index=row["index"],
                name=row["name"],
                capability=(row["capability"][0], row["capability"][1]),
                total_bytes=row["total_bytes"],
            )
            for row in answer.last("gpus") or ()
        ),
    )


def ask_torch(surroundings: Surroundings, python: Python) -> Torch:
    """Return what torch says, and how the import of it and its companions went."""
    if python.torch_origin is None and python.package("torch") is None:
        return Torch()
    left = [name for name in _COMPANIONS if python.package(name)]
    lines: list[dict[str, Any]] = []
    while True:
        answer = ask(surroundings, "torch_build", *left)
        lines += answer.lines
        begun = {line["begin"].removeprefix("import ") for line in answer.lines if "begin" in line}
        tried = [name for name in left if name in begun]
        done = {row["module"] for row in answer.every("imported")}
        lines += [
            {"imported": {"module": name, "ok": False, "error": answer.death}}
            for name in ("torch", *tried)
            if name not in done
        ]
        if not answer.death or not tried or tried[-1] in done:
            break
        # A companion killed the process: what comes after it is still to be asked.
        left = [name for name in left if name not in tried]
    torch = _torch(Answer(lines=tuple(lines), ended=answer.ended))
    return _as_a_script_imports_it(surroundings, torch) if python.shadowing else torch


def _as_a_script_imports_it(surroundings: Surroundings, torch: Torch) -> Torch:
    """Import it once more beside files that are named like Python's own modules.

    The probe has some of those modules already when it comes to torch; a script has none.
    """
    if torch.imported is None or not torch.imported.ok:
        return torch
    ended = surroundings.run([surroundings.python, "-c", "import torch"])
    if ended.ok:
        return torch
    error = Answer(lines=(), ended=ended).death
    return replace(torch, imported=replace(torch.imported, ok=False, error=error))


def _torch(answer: Answer) -> Torch:
    imports = {row["module"]: _import(row) for row in answer.every("imported")}
    failed_in_cuda = answer.death if answer.last("cuda_available") is None else ""
    is_imported = "torch" in imports and imports["torch"].ok
    return Torch(
        imported=imports.get("torch"),
        version=answer.last("version") or "",
        cuda=answer.last("cuda"),
        hip=answer.last("hip"),
        cudnn=answer.last("cudnn"),
        nccl=answer.last("nccl"),
        architectures=tuple(answer.last("architectures") or ()),
        has_mps=bool(answer.last("has_mps")),
        threads=answer.last("threads"),
        cuda_available=False if failed_in_cuda and is_imported else answer.last("cuda_available"),
        cuda_error=answer.last("cuda_error") or (failed_in_cuda if is_imported else ""),
        gpus=tuple(
            TorchGpu(
                index=row["index"],
                name=row["name"],
                capability=_version(row.get("capability")),
                total_bytes=row.get("total_bytes"),
                free_bytes=row.get("free_bytes"),
            )
            for row in answer.last("gpus") or ()
        ),
        problems=tuple(answer.every("problem")),
        companions=tuple(imports[name] for name in _COMPANIONS if name in imports),
    )


def _import(row: dict[str, Any]) -> Import:
    return Import(
        module=row["module"],
        ok=row["ok"],
        version=row.get("version") or "",
        cuda=row.get("cuda"),
        error=row.get("error") or "",
        seconds=row.get("seconds"),
    )


def _version(pair: Any) -> Version | None:
    return (int(pair[0]), int(pair[1])) if pair else None


# ---------------------------------------------------------------------------- checks


def run_checks(surroundings: Surroundings, torch: Torch) -> tuple[Check, ...]:
    """Compute on each GPU, or on the CPU where there is none, then sum over all of them."""
    if not torch.is_usable:
        return ()
    devices = [f"cuda:{gpu.index}" for gpu in torch.gpus]
    if not devices:
        devices = ["mps"] if torch.has_mps else ["cpu"]
    checks = [check for device in devices for check in _checks_of(surroundings, device)]
    if torch.gpus:
        checks += _all_reduce(surroundings, "nccl", len(torch.gpus))
    elif devices == ["cpu"]:
        checks += _all_reduce(surroundings, "gloo", 2)
    return tuple(checks)


def _checks_of(surroundings: Surroundings, device: str) -> Iterator[Check]:
    answer = ask(surroundings, "compute", device)
    yield from (_check(row) for row in answer.every("check"))
    if answer.death:
        yield Check(
            device=device, name=answer.last("begin") or "start", ok=False, error=answer.death
        )


def _all_reduce(surroundings: Surroundings, backend: str, processes: int) -> list[Check]:
    answer = ask(surroundings, "all_reduce", backend, str(processes))
    device = "cpu" if backend == "gloo" else "cuda"
    rows = [_check(row) for row in answer.every("check")]
    if answer.death and not rows:
        return [Check(device=device, name="all-reduce", ok=False, error=answer.death)]
    return rows


def _check(row: dict[str, Any]) -> Check:
    return Check(
        device=row["device"],
        name=row["name"],
        ok=row["ok"],
        detail=row["detail"],
        error=row["error"],
        seconds=row["seconds"],
    )
