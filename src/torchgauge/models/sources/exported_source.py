"""``.pt2``: programs that ``torch.export.save`` wrote, with their example inputs."""

from __future__ import annotations

import contextlib
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from torchgauge.errors import ModelSpecError, PackageError
from torchgauge.models.build import DefaultInputs, ModelBuild, first_line
from torchgauge.models.exported_archive import check_archive, without_pickled_code
from torchgauge.models.sources.library import quiet_library

if TYPE_CHECKING:
    import torch

    from torchgauge.models.spec import ModelSpec


def build(spec: ModelSpec) -> ModelBuild:
    """Load the program as a module.

    Raises:
        ModelSpecError: it is no exported program, needs operators that are not there, or wants
            to run pickled code.
    """
    import torch

    path = Path(spec.target)
    _check_archive(path)
    try:
        with without_pickled_code(), _silenced("torch.export"), quiet_library():
            program = torch.export.load(path)
            model = program.module()
    except Exception as error:
        raise _load_error(path, error) from error
    return ModelBuild(
        model=model, name=path.stem, spec=spec.text, default_inputs=example_inputs(program)
    )


def example_inputs(program: torch.export.ExportedProgram) -> DefaultInputs | None:
    """Return the inputs that a program was exported with, ``None`` where it has none."""
    if program.example_inputs is None:
        return None
    positional, keywords = program.example_inputs
    return DefaultInputs(
        data=tuple(positional),
        keywords=dict(keywords),
        why="inputs: the examples that the program was exported with (choose with --input-size)",
    )


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ModelSpecError(
            f"{path} is not an exported program: {first_line(error)}",
            hint="write it with torch.export.save(torch.export.export(model, inputs), …)",
        ) from error
    # torch unpickles these with no safe way (torch/export/pt2_archive/_package.py, 2.13).
    pickled = [name for name in names if Path(name).name.startswith("opaque_obj")]
    if pickled:
        raise ModelSpecError(
            f"{path} wants to run pickled code ({pickled[0]}), which torchgauge does not do",
            hint="name the model's class instead: file.py:Name",
        )
    if any(name.endswith((".so", ".pkl")) for name in names):
        raise ModelSpecError(
            f"{path} holds a compiled package or a pickle, not an exported program",
            hint="write it with torch.export.save(torch.export.export(model, inputs), …)",
        )
    try:
        check_archive(path)  # the graph too: torch.export.load makes code of strings in it
    except PackageError as error:
        raise ModelSpecError(error.message, hint="name the model's class: file.py:Name") from error


def _load_error(path: Path, error: Exception) -> ModelSpecError:
    if "weights_only" in str(error).lower() or "weights only" in str(error).lower():
        return ModelSpecError(
            f"{path} wants to run pickled code, which torchgauge does not do",
            hint="name the model's class instead: file.py:Name",
        )
    return ModelSpecError(
        f"{path} cannot be loaded as an exported program: {first_line(error)}",
        hint="it may come from another version of torch, or need a library that registers its "
        "operators; export it again, or name the class: file.py:Name",
    )


@contextlib.contextmanager
def _silenced(name: str) -> Iterator[None]:
    """Keep a logger's tracebacks off stderr: the error is told once, in one line."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
