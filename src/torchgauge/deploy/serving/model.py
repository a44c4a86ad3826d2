"""A package in memory: checked, loaded, moved to its device, ready to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from torchgauge.deploy import manifest
from torchgauge.deploy.export.signature import Signature, signature_from_dict
from torchgauge.deploy.extras import require
from torchgauge.deploy.memory_table import MemoryTable, read_memory
from torchgauge.errors import PackageError, UsageError
from torchgauge.models.build import first_line
from torchgauge.models.exported_archive import load_program
from torchgauge.units import format_bytes, format_number_of


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFacts:
    """What is known of a package without loading its program."""

    name: str
    folder: Path
    device: str
    signature: Signature
    memory: MemoryTable
    manifest: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel(PackageFacts):
    """What answers requests; ``run`` takes and returns tensors on the CPU."""

    run: Callable[[tuple[torch.Tensor, ...]], tuple[torch.Tensor, ...]]


def check_device(device: str) -> None:
    """Check that the device is there, before anything is loaded.

    Raises:
        UsageError: it is not.
    """
    if device == "cpu":
        return
    kind, _, index = device.partition(":")
    if kind != "cuda" or (index and not index.isdecimal()):
        raise UsageError(f"cannot serve on {device!r}", hint="cpu, cuda or cuda:1")
    if not torch.cuda.is_available():
        reason = (
            "this PyTorch is built without CUDA"
            if torch.version.cuda is None
            else "PyTorch sees no GPU here"
        )
        raise UsageError(
            f"there is no GPU to serve on: {reason}",
            hint="--device cpu, or find out with torchgauge doctor",
        )
    if index and int(index) >= torch.cuda.device_count():
        raise UsageError(
            f"there is no {device}, only {format_number_of(torch.cuda.device_count(), 'GPU')}",
            hint="count from 0",
        )


def read_package(folder: Path, device: str = "cpu") -> PackageFacts:
    """Check a package, and read what says what it is; its program is not touched.

    Raises:
        PackageError: it is damaged or unknown.
    """
    facts = manifest.check_package(folder)
    signature = signature_from_dict(manifest.read_json(folder, manifest.SIGNATURE))
    for tensor in (*signature.inputs, *signature.outputs):
        if not isinstance(getattr(torch, tensor.dtype, None), torch.dtype):
            raise PackageError(
                f"{tensor.name} has the unknown dtype {tensor.dtype}",
                hint="package the model again: torchgauge package",
            )
    return PackageFacts(
        name=str(facts.get("model", folder.name)),
        folder=folder,
        device=device,
        signature=signature,
        memory=_table_for(read_memory(folder), device),
        manifest=facts,
    )


def open_package(folder: Path, device: str = "cpu") -> ServedModel:
    """Check and load a package. Nothing of it is loaded before its hashes are right.

    Raises:
        PackageError: it is damaged, unknown or not safe to load.
        UsageError: the device is not there.
    """
    facts = read_package(folder, device)
    check_device(device)
    if "torchvision" in facts.manifest.get("operator_libraries", ()):
        require("torchvision", "vision", "run the operators of this package")
    program, module = load_program(folder / manifest.PROGRAM, device)
    _check_arguments(program, facts.signature)

    def run(tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        with torch.inference_mode():
            outputs = module(*[tensor.to(device) for tensor in tensors])
            return tuple(output.cpu() for output in outputs)

    known = {field.name: getattr(facts, field.name) for field in fields(facts)}
    return ServedModel(**known, run=run)


def warm_up(model: ServedModel) -> None:
    """Run the smallest request once: the first run of a program makes its kernels ready.

    Raises:
        PackageError: the program does not run.
    """
    sizes = {name: sizes.minimum for name, sizes in model.signature.dimensions.items()}
    tensors = []
    for tensor in model.signature.inputs:
        shape = [size if isinstance(size, int) else sizes.get(size, 1) for size in tensor.shape]
        tensors.append(torch.zeros(shape, dtype=getattr(torch, tensor.dtype)))
    try:
        model.run(tuple(tensors))
    except Exception as error:
        if "dimension" in str(error) or isinstance(error, AssertionError):
            return  # sizes that its code does not allow: a request would be told the same
        raise PackageError(
            f"the program in {model.folder} does not run on {model.device}: {first_line(error)}",
            hint="package the model again with this version of torch",
        ) from error


def _table_for(tables: tuple[MemoryTable, ...], device: str) -> MemoryTable:
    """Return the prediction for a GPU when one was made and a GPU serves, else the CPU's."""
    if not tables:
        raise PackageError(
            "the package has no memory table", hint="package the model again: torchgauge package"
        )
    if device != "cpu":
        for table in tables:
            if table.device != "cpu":
                return table
    return tables[0]


def _check_arguments(program: torch.export.ExportedProgram, signature: Signature) -> None:
    takes = len(program.graph_signature.user_inputs)
    returns = len(program.graph_signature.user_outputs)
    if takes != len(signature.inputs) or returns != len(signature.outputs):
        raise PackageError(
            f"the program takes {format_number_of(takes, 'tensor')} and returns {returns}, its "
            f"signature says {len(signature.inputs)} and {len(signature.outputs)}",
            hint="package the model again: torchgauge package",
        )


def describe(model: PackageFacts) -> str:
    """Return one line on what is served."""
    inputs = ", ".join(
        f"{tensor.name} {tensor.shape_text} {tensor.dtype}" for tensor in model.signature.inputs
    )
    weights = format_bytes(model.memory.parameter_bytes)
    return f"{model.name} on {model.device}: {inputs}; {weights} of weights"
