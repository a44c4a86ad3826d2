"""``.pt``, ``.pth``, ``.bin``, ``.ckpt``: state dicts, loaded without running pickled code."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchgauge.errors import ModelSpecError
from torchgauge.models.build import ModelBuild, first_line
from torchgauge.models.sources.library import quiet_library
from torchgauge.models.sources.shards import read_shards
from torchgauge.models.sources.skeleton import StoredTensor, build_skeleton

if TYPE_CHECKING:
    import torch

    from torchgauge.models.spec import ModelSpec

_STATE_DICT_KEYS = (
    "state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params",
    "state_dict_ema", "model_ema", "ema",
)  # fmt: skip
"""Under which training scripts keep the weights, the likeliest first."""


def build(spec: ModelSpec) -> ModelBuild:
    """Make a skeleton from a state dict, or from those of an index's shards.

    Raises:
        ModelSpecError: the file is damaged, holds no weights, or wants to run pickled code.
    """
    path = Path(spec.target)
    tensors: list[StoredTensor] = []
    notes: list[str] = []
    for file in read_shards(path) if path.name.endswith(".index.json") else [path]:
        state, where = _state_dict(file, _load(file))
        if where:
            notes.append(f"the weights are those under {where!r} in {file.name}")
        others = [name for name, value in state.items() if not _is_tensor(value)]
        if others:
            notes.append(f"{len(others)} entries of {file.name} are not tensors: {_few(others)}")
        tensors += [
            _stored(file, str(name), value) for name, value in state.items() if _is_tensor(value)
        ]
    name = path.name.removesuffix(".index.json")
    return build_skeleton(spec.text, Path(name).stem, tensors, notes=notes)


# ---------------------------------------------------------------------------- loading


def _load(path: Path) -> Any:
    """Load the file with its data mapped, not read; ``weights_only`` runs no code."""
    import torch

    _refuse_torchscript(path)
    is_zip = zipfile.is_zipfile(path)  # what torch wrote before 1.6 cannot be mapped
    try:
        with quiet_library():
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip or None)
    except Exception as error:  # a damaged pickle raises anything: KeyError, EOFError, …
        raise _load_error(path, error) from error


def _load_error(path: Path, error: Exception) -> ModelSpecError:
    text = str(error)
    if "weights_only" in text.lower() or "weights only" in text.lower():
        wanted = re.search(r"GLOBAL ([\w.]+)", text)
        return ModelSpecError(
            f"{path} wants to run pickled code"
            f"{f' ({wanted[1]})' if wanted else ''}, which torchgauge does not do",
            hint="save only the weights with torch.save(model.state_dict(), …), or name the "
            "model's class or a function that loads it: file.py:Name",
        )
    return ModelSpecError(
        f"{path} cannot be read as a PyTorch checkpoint: {first_line(error)}",
        hint="check that the download is complete, and that torch.save wrote it",
    )


def _refuse_torchscript(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return
    if any(name.endswith("/constants.pkl") for name in names):
        raise ModelSpecError(
            f"{path} is a TorchScript archive, not a checkpoint",
            hint="load it in a file and name that: file.py:model, with model = torch.jit.load(…)",
        )
    if any(name.endswith(("models/model.json", "archive_format")) for name in names):
        raise ModelSpecError(
            f"{path} is an exported program, not a checkpoint", hint="rename it to end in .pt2"
        )


# ---------------------------------------------------------------------------- reading


def _state_dict(path: Path, loaded: Any) -> tuple[Mapping[Any, Any], str]:
    """Return the names with their tensors, and under which key they were found."""
    if isinstance(loaded, Mapping):
        if _holds_tensors(loaded):
            return loaded, ""
        likely = [key for key in _STATE_DICT_KEYS if key in loaded]
        for key in [*likely, *loaded]:
            value = loaded[key]
            if key != "optimizer" and isinstance(value, Mapping) and _holds_tensors(value):
                return value, str(key)
    if _is_tensor(loaded):
        return {"tensor": loaded}, ""
    found = f"has {_few(list(loaded))}" if isinstance(loaded, Mapping) and loaded else "is empty"
    if not isinstance(loaded, Mapping):
        found = f"holds a {type(loaded).__name__}"
    raise ModelSpecError(
        f"there is no state dict in {path}: it {found}",
        hint="save one with torch.save(model.state_dict(), …)",
    )


def _holds_tensors(mapping: Mapping[Any, Any]) -> bool:
    tensors = sum(_is_tensor(value) for value in mapping.values())
    return tensors > 0 and 2 * tensors >= len(mapping)


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _stored(path: Path, name: str, value: torch.Tensor) -> StoredTensor:
    import torch

    if value.layout is not torch.strided:
        raise ModelSpecError(
            f"{name} in {path} is a sparse tensor", hint="save it dense: tensor.to_dense()"
        )
    if value.is_quantized:
        # The integers behind it: what is stored, and the only form that meta tensors can have.
        packed = torch.int32 if value.element_size() == 4 else torch.uint8
        nbytes = value.untyped_storage().nbytes()
        shape = tuple(value.shape) if nbytes == value.numel() * packed.itemsize else (nbytes,)
        return StoredTensor(name=name, shape=shape, dtype=packed)
    place = (str(path), value.data_ptr(), tuple(value.shape), value.stride(), value.dtype)
    return StoredTensor(
        name=name,
        shape=tuple(value.shape),
        dtype=value.dtype,
        key=place if value.numel() else None,
    )


def _few(names: list[Any]) -> str:
    shown = ", ".join(map(str, names[:5]))
    return f"{shown}, …" if len(names) > 5 else shown
