"""The list of a package's files with their SHA-256, and the check against it. No torch.

A hash says that a file is the one that was packaged, not who packaged it: what is read from a
package is read so that nothing in it can run code (see ``archive``).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torchgauge.errors import PackageError

MANIFEST = "manifest.json"
PROGRAM = "program.pt2"
WEIGHTS = "model.safetensors"
ONNX = "model.onnx"
ONNX_DATA = "model.onnx.data"
SIGNATURE = "signature.json"
MEMORY = "memory.json"
REPORT = "report.json"
CARD = "README.md"
LOCK = "requirements.lock"
DOCKERFILE = "Dockerfile"
WHEELS = "wheels"
"""A folder: wheels of what no index has."""

FORMAT = "torchgauge-package"
FORMAT_VERSION = 1

_REQUIRED = frozenset((PROGRAM, WEIGHTS, SIGNATURE, MEMORY, REPORT, CARD, LOCK, DOCKERFILE))
_OPTIONAL = frozenset((ONNX, ONNX_DATA))
_WHEEL = re.compile(rf"{WHEELS}/[A-Za-z0-9_.+-]+\.whl")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LARGEST_JSON_BYTES = 64 * 2**20
_CHUNK_BYTES = 2**20
_AGAIN = "copy the package again, or make it again: torchgauge package"


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write ``manifest.json``: ``facts``, and size and SHA-256 of every file in ``folder``."""
    files = {
        name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for name, path in sorted(_files(folder))
        if name != MANIFEST
    }
    data = {"format": FORMAT, "format_version": FORMAT_VERSION, **facts, "files": files}
    (folder / MANIFEST).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def check_package(folder: Path) -> dict[str, Any]:
    """Return the manifest of a package whose files are exactly those that were packaged.

    Raises:
        PackageError: no package, a file missing, changed, unknown, or no regular file.
    """
    if not folder.is_dir():
        text = f"{folder} is not a folder" if folder.exists() else f"there is no folder {folder}"
        raise PackageError(text, hint="make it: torchgauge package MODEL --output DIR")
    if not (folder / MANIFEST).is_file():
        raise PackageError(
            f"{folder} is not a package: it has no {MANIFEST}",
            hint="make it: torchgauge package MODEL --output DIR",
        )
    manifest = read_json(folder, MANIFEST)
    listed = _listed(manifest)
    found = dict(_files(folder))
    for name in found:
        if name != MANIFEST and name not in listed:
            raise PackageError(
                f"{folder} holds {name}, which its {MANIFEST} does not list",
                hint="remove it if you put it there, or copy the package again",
            )
    for name, (size, digest) in listed.items():
        if name not in found:
            raise PackageError(f"{folder} lacks {name}", hint=_AGAIN)
        if found[name].stat().st_size != size or sha256_of(found[name]) != digest:
            raise PackageError(f"{name} in {folder} is not the file that was packaged", hint=_AGAIN)
    return manifest


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Read a file of a package that holds one JSON object.

    Raises:
        PackageError: it cannot be read, is too large, or holds something else.
    """
    path = folder / name
    try:
        if path.stat().st_size > _LARGEST_JSON_BYTES:
            raise PackageError(f"{name} in {folder} is too large", hint=_AGAIN)
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise PackageError(
            f"{path} cannot be read: {error.strerror or error}", hint="check the file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise PackageError(f"{name} in {folder} is damaged: {error}", hint=_AGAIN) from error
    if not isinstance(data, dict):
        raise PackageError(f"{name} in {folder} is damaged: it is not a JSON object", hint=_AGAIN)
    return data


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content.

    Raises:
        PackageError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise PackageError(
            f"{path} cannot be read: {error.strerror or error}", hint="check the file"
        ) from error
    return digest.hexdigest()


def _listed(manifest: Mapping[str, Any]) -> dict[str, tuple[int, str]]:
    if manifest.get("format") != FORMAT:
        raise PackageError("this is not a torchgauge package", hint=_AGAIN)
    if manifest.get("format_version") != FORMAT_VERSION:
        raise PackageError(
            f"the package has format {manifest.get('format_version')!r}, this torchgauge reads "
            f"{FORMAT_VERSION}",
            hint="use the torchgauge that made it, or a newer one",
        )
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise PackageError(f"{MANIFEST} is damaged: it lists no files", hint=_AGAIN)
    listed = {}
    for name, entry in files.items():
        if not (name in _REQUIRED or name in _OPTIONAL or _WHEEL.fullmatch(name)):
            raise PackageError(
                f"{MANIFEST} lists {name!r}, which does not belong in a package", hint=_AGAIN
            )
        listed[name] = _entry(name, entry)
    if missing := sorted(_REQUIRED - listed.keys()):
        raise PackageError(f"{MANIFEST} does not list {missing[0]}", hint=_AGAIN)
    return listed


def _entry(name: str, entry: Any) -> tuple[int, str]:
    size = entry.get("bytes") if isinstance(entry, dict) else None
    digest = entry.get("sha256") if isinstance(entry, dict) else None
    if type(size) is not int or not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise PackageError(f"{MANIFEST} is damaged at {name}", hint=_AGAIN)
    return size, digest


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield every file below ``folder`` with its name relative to it.

    Raises:
        PackageError: a link or something else that is neither file nor folder.
    """
    for root, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(root) / name
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise PackageError(
                    f"{path} is not a regular file", hint="replace it by a copy of the file"
                )
        for name in names:
            path = Path(root) / name
            yield path.relative_to(folder).as_posix(), path
