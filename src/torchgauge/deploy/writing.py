"""Write a package: into a folder beside the wanted one, which takes its name when all is done."""

from __future__ import annotations

import errno
import io
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import torch

from torchgauge.deploy import manifest
from torchgauge.deploy.contents.card import model_card
from torchgauge.deploy.contents.dockerfile import dockerfile
from torchgauge.deploy.contents.lock import environment_lock
from torchgauge.deploy.extras import require
from torchgauge.deploy.memory_table import write_memory
from torchgauge.deploy.parts import Package
from torchgauge.errors import PackageError, TorchGaugeError
from torchgauge.units import format_bytes
from torchgauge.version import __version__

_TEMPORARY = ".torchgauge-package-"
"""Begins the name of a folder that is not ready: not with the name wanted, which may be as long as
names can be."""


def write_package(
    package: Package,
    *,
    overwrite: bool = False,
    on_progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Write the folder of a package; after an error it is as it was before.

    Raises:
        PackageError: it exists, cannot be written, or the disk is full.
        MissingExtraError: safetensors, or what ONNX needs, is not installed.
    """
    check_output(package.folder, overwrite=overwrite)
    _check_space(package)
    with _whole_or_nothing(package.folder, overwrite=overwrite) as folder:
        on_progress("writing")
        save_program(package.exported.program, folder / manifest.PROGRAM)
        save_model = require("safetensors.torch", "serve", "write the weights").save_model
        save_model(package.model, str(folder / manifest.WEIGHTS), metadata={"format": "pt"})
        onnx: Mapping[str, Any] | None = None
        if package.request.onnx:
            from torchgauge.deploy.export.onnx import write_onnx

            on_progress("ONNX")
            onnx = write_onnx(folder, package.exported, package.example)
        _write_texts(folder, package, onnx)
        manifest.write_manifest(folder, _facts(package))


def check_output(output: Path, *, overwrite: bool) -> None:
    """Check that a package can be written there, before any work is done.

    Raises:
        PackageError: it cannot.
    """
    try:
        _check_place(output, overwrite=overwrite)
        os.rmdir(tempfile.mkdtemp(prefix=_TEMPORARY, dir=output.parent))
    except OSError as error:
        raise PackageError(
            f"cannot write {output}: no file can be created in {output.parent}: "
            f"{error.strerror or error}",
            hint="choose another --output",
        ) from error


def _check_place(output: Path, *, overwrite: bool) -> None:
    if output.name in ("", ".."):
        raise PackageError(
            f"{str(output)!r} does not name a new folder", hint="name one: --output NAME"
        )
    if not output.parent.is_dir():
        raise PackageError(f"there is no folder {output.parent}", hint="create it first")
    if output.is_mount():
        raise PackageError(
            f"{output} is a mount point, so it cannot be replaced",
            hint=f"name a folder in it: --output {output / 'model'}",
        )
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise PackageError(f"{output} exists and is not a folder", hint="choose another --output")
    if output.is_dir() and any(output.iterdir()):
        if not overwrite:
            raise PackageError(
                f"{output} exists and is not empty",
                hint="choose another --output, or add --overwrite",
            )
        if not (output / manifest.MANIFEST).is_file():
            raise PackageError(
                f"{output} is not a package, so it is not overwritten",
                hint="choose another --output",
            )


def _check_space(package: Package) -> None:
    weights = sum(
        tensor.numel() * tensor.element_size() for tensor in package.model.state_dict().values()
    )
    needed = weights * (3 if package.request.onnx else 2)
    parent = package.folder.parent
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise PackageError(
            f"the package takes {format_bytes(needed)}, {parent} has {format_bytes(free)} free; "
            "nothing was written",
            hint="free some space, or choose another --output",
        )


@contextmanager
def _whole_or_nothing(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary folder beside ``output`` that becomes it, or is removed after an error."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=output.parent))
    except OSError as error:
        raise _cannot_write(output, error) from error
    try:
        yield folder
        for path in (*sorted(folder.rglob("*")), folder):
            path.chmod(0o755 if path.is_dir() else 0o644)
            _flush(path)
        if output.is_dir() and overwrite and any(output.iterdir()):
            old = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=output.parent))
            os.replace(output, old)
            os.replace(folder, output)
            shutil.rmtree(old)
        else:
            os.replace(folder, output)  # an empty folder gives way
        _flush(output.parent)
    except OSError as error:
        raise _cannot_write(output, error) from error
    except Exception as error:
        # PytorchStreamWriter raises a RuntimeError, safetensors one of its own.
        if not isinstance(error, TorchGaugeError) and _is_full(output.parent, error):
            raise _cannot_write(output, OSError(errno.ENOSPC, "the disk is full")) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_full(parent: Path, error: Exception) -> bool:
    text = str(error).lower()
    return "no space left" in text or (
        ("write" in text or "stream" in text) and shutil.disk_usage(parent).free < 2**20
    )


def _cannot_write(output: Path, error: OSError) -> PackageError:
    return PackageError(
        f"cannot write {output}: {error.strerror or error}; nothing was written",
        hint="free some space, or choose another --output",
    )


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Sink(io.RawIOBase):
    """A file whose writes never fail while torch is writing; ``error`` is what went wrong.

    After a failed write, the destructor of torch's PyTorchStreamWriter throws and so ends the
    process (seen in 2.13 on a full disk); it must not learn of the failure.
    """

    def __init__(self, stream: io.FileIO) -> None:
        super().__init__()
        self._stream = stream
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        while len(rest) and self.error is None:
            try:
                rest = rest[self._stream.write(rest) :]
            except OSError as error:
                self.error = error
        return len(data)


def save_program(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a program.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("wb", buffering=0) as stream:
        sink = _Sink(stream)
        torch.export.save(program, cast(IO[bytes], sink))
    if sink.error is not None:
        raise sink.error


def _write_texts(folder: Path, package: Package, onnx: Mapping[str, Any] | None) -> None:
    import json

    signature = json.dumps(package.signature.to_dict(), indent=2) + "\n"
    (folder / manifest.SIGNATURE).write_text(signature, encoding="utf-8")
    (folder / manifest.REPORT).write_text(package.report.to_json() + "\n", encoding="utf-8")
    write_memory(folder, package.memory)
    (folder / manifest.LOCK).write_text(
        environment_lock(package.exported.operator_libraries), encoding="utf-8"
    )
    wheels = package.request.wheels
    if wheels:
        (folder / manifest.WHEELS).mkdir()
        for wheel in wheels:
            shutil.copyfile(wheel, folder / manifest.WHEELS / wheel.name)
    (folder / manifest.DOCKERFILE).write_text(
        dockerfile(
            title=package.report.model_name,
            image="".join(c for c in package.report.model_name.lower() if c.isalnum()) or "model",
            python=".".join(platform.python_version_tuple()[:2]),
            version=__version__,
            has_wheels=bool(wheels),
        ),
        encoding="utf-8",
    )
    (folder / manifest.CARD).write_text(model_card(package, onnx), encoding="utf-8")


def _facts(package: Package) -> dict[str, Any]:
    return {
        "model": package.report.model_name,
        "spec": package.report.model_spec,
        "torchgauge_version": __version__,
        "torch_version": torch.__version__,
        "python_version": platform.python_version(),
        "operator_libraries": list(package.exported.operator_libraries),
        "max_difference": max(c.max_difference for c in package.comparisons),
    }
