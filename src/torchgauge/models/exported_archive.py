"""Load an exported program without running anything that the file says.

``torch.export.load`` was not made for files of strangers: it unpickles some entries, hands strings
to ``sympy.sympify`` (which evaluates them), makes source code of guards and of names and executes
it, and calls any function below ``torch`` that a node names (seen in torch 2.13:
``_export/serde/serialize.py``, ``export/_unlift.py``, ``fx/graph.py``). So the archive is read
here first, as a zip of JSON and raw tensors, and everything of these kinds must be on a list.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from torchgauge.errors import PackageError
from torchgauge.models.build import first_line
from torchgauge.models.exported_graph import UnsafeProgram, check_program
from torchgauge.units import format_number_of

if TYPE_CHECKING:
    import torch

_ENTRIES = tuple(
    re.compile(pattern)
    for pattern in (
        # torch 2.8 and later, below the name of the archive
        r"[^/]+/data/weights/(weight_\d+|[\w.-]+_weights_config\.json)",
        r"[^/]+/data/constants/(tensor_\d+|[\w.-]+_constants_config\.json)",
        r"[^/]+/data/sample_inputs/[\w.-]+\.pt",
        r"[^/]+/models/[\w.-]+\.json",
        r"[^/]+/(archive_format|archive_version|byteorder|version|\.data/version)",
        r"[^/]+/\.data/serialization_id",
        # torch 2.6 and 2.7
        r"([^/]+/)?version",
        r"([^/]+/)?serialized_(exported_program\.json|state_dict\.(pt|json)|constants\.(pt|json)"
        r"|example_inputs\.pt)",
    )
)
_PROGRAM = re.compile(r"([^/]+/models/[\w.-]+\.json)|(([^/]+/)?serialized_exported_program\.json)")
_LARGEST_PROGRAM_BYTES = 512 * 2**20
_NO_PICKLE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_AGAIN = "package the model again: torchgauge package"


def load_program(
    path: Path, device: str = "cpu"
) -> tuple[torch.export.ExportedProgram, torch.nn.Module]:
    """Return the program in a ``.pt2`` file and its module, on ``device``.

    Everything in it that could run is checked before anything is loaded.

    Raises:
        PackageError: it is damaged, not safe, or of another torch.
    """
    check_archive(path)
    import torch

    try:
        with without_pickled_code(), quiet_torch():
            program = torch.export.load(path)
            if device != "cpu":
                from torch.export.passes import move_to_device_pass

                program = move_to_device_pass(program, device)
            return program, program.module()
    except Exception as error:
        raise PackageError(
            f"{path} cannot be loaded: {first_line(error)}",
            hint="it may come from another version of torch: install the one in its "
            "requirements.lock",
        ) from error


def check_archive(path: Path) -> None:
    """Check the archive of a program; loads nothing.

    Raises:
        PackageError: it is no such archive, or holds what could run code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_entries(path, archive)
            names = [name for name in archive.namelist() if _PROGRAM.fullmatch(name)]
            if len(names) != 1:
                raise PackageError(
                    f"{path} holds {format_number_of(len(names), 'program')}, not one", hint=_AGAIN
                )
            if archive.getinfo(names[0]).file_size > _LARGEST_PROGRAM_BYTES:
                raise PackageError(f"the graph in {path} is too large", hint=_AGAIN)
            check_program(json.loads(archive.read(names[0])))
    except UnsafeProgram as error:
        raise PackageError(
            f"{path} is not loaded: {error}",
            hint="serve only packages that torchgauge made; " + _AGAIN,
        ) from error
    except (zipfile.BadZipFile, OSError, ValueError, RecursionError, NotImplementedError) as error:
        raise PackageError(f"{path} is not an exported program: {error}", hint=_AGAIN) from error


def _check_entries(path: Path, archive: zipfile.ZipFile) -> None:
    seen = set()
    for entry in archive.infolist():
        if not any(pattern.fullmatch(entry.filename) for pattern in _ENTRIES):
            raise PackageError(
                f"{path} is not loaded: it holds {entry.filename}, which is not part of a program "
                "without pickled or compiled code",
                hint=_AGAIN,
            )
        if entry.filename in seen:
            raise PackageError(f"{path} holds {entry.filename} twice", hint=_AGAIN)
        seen.add(entry.filename)
        if entry.compress_type != zipfile.ZIP_STORED:  # torch stores; anything else may be a bomb
            raise PackageError(f"{path} holds compressed entries, torch writes none", hint=_AGAIN)


@contextlib.contextmanager
def without_pickled_code() -> Iterator[None]:
    """Make every ``torch.load`` inside ``weights_only`` (torch 2.4 and later)."""
    before = os.environ.get(_NO_PICKLE)
    os.environ[_NO_PICKLE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_NO_PICKLE]
        else:
            os.environ[_NO_PICKLE] = before


@contextlib.contextmanager
def quiet_torch() -> Iterator[None]:
    """Keep torch.export's own warnings and logs away: what matters is told by the result."""
    logger = logging.getLogger("torch")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), _hidden_output():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def _hidden_output() -> Iterator[None]:
    """Drop what is printed: torch.export prints its whole graph when it gives up."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
