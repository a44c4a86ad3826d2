"""``.safetensors`` files by their header alone: no weight is read, no package is needed.

The format: eight bytes with the header's length (little-endian), then the header as JSON with
dtype, shape and offsets of each tensor, then the data. https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchgauge.errors import ModelSpecError
from torchgauge.models.build import ModelBuild
from torchgauge.models.sources.shards import read_shards
from torchgauge.models.sources.skeleton import StoredTensor, build_skeleton

if TYPE_CHECKING:
    from torchgauge.models.spec import ModelSpec

_LARGEST_HEADER_BYTES = 100_000_000  # the format's own limit

_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8",
    "BOOL": "bool", "C64": "complex64",
}  # fmt: skip


def build(spec: ModelSpec) -> ModelBuild:
    """Make a skeleton from one file's header, or from those of an index's shards.

    Raises:
        ModelSpecError: the file is no safetensors file, or a shard is missing.
    """
    path = Path(spec.target)
    tensors: list[StoredTensor] = []
    warnings: list[str] = []
    for file in read_shards(path) if path.name.endswith(".index.json") else [path]:
        header, data_bytes = _read_header(file)
        tensors += [_stored(file, name, entry) for name, entry in header.items()]
        ends = [entry["data_offsets"][1] for entry in header.values()]
        if max(ends, default=0) > data_bytes:
            warnings.append(f"{file.name} is shorter than its header says: the download is cut")
    name = path.name.removesuffix(".index.json").removesuffix(".safetensors")
    return build_skeleton(spec.text, name, tensors, warnings=warnings)


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header's tensors and the number of bytes that follow it."""
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            size = path.stat().st_size
            if not 2 <= length <= min(size - 8, _LARGEST_HEADER_BYTES):
                raise ValueError("its first bytes are not the length of a header")
            header = json.loads(stream.read(length))
        if not isinstance(header, dict):
            raise ValueError("its header is not a JSON object")
        header.pop("__metadata__", None)
        for name, entry in header.items():
            _check_entry(name, entry)
    except OSError as error:
        raise ModelSpecError(
            f"{path} cannot be read: {error.strerror or error}", hint="check the file"
        ) from error
    except ValueError as error:  # JSON and text decoding errors are ValueErrors
        raise ModelSpecError(
            f"{path} is not a safetensors file: {error}",
            hint="check that the download is complete, and that it is not a Git LFS pointer",
        ) from error
    return header, size - 8 - length


def _check_entry(name: str, entry: Any) -> None:
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        raise ValueError(f"its header has no dtype for {name}")
    for key in ("shape", "data_offsets"):
        values = entry.get(key)
        if not isinstance(values, list) or not all(
            isinstance(value, int) and value >= 0 for value in values
        ):
            raise ValueError(f"its header has no {key} for {name}")
    if len(entry["data_offsets"]) != 2:
        raise ValueError(f"its header has no data_offsets for {name}")


def _stored(path: Path, name: str, entry: dict[str, Any]) -> StoredTensor:
    import torch

    shape = tuple(entry["shape"])
    start, end = entry["data_offsets"]
    dtype = getattr(torch, _DTYPES.get(entry["dtype"], ""), None)
    if isinstance(dtype, torch.dtype):
        if math.prod(shape) * dtype.itemsize != end - start:
            raise ModelSpecError(
                f"{path} is damaged: {name} is {list(shape)} {entry['dtype']} and has "
                f"{end - start} bytes",
                hint="download it again",
            )
        return StoredTensor(name=name, shape=shape, dtype=dtype)
    # Sub-byte formats (F4, F6_E2M3, …) and those newer than this torch: as the bytes they take.
    return StoredTensor(name=name, shape=(end - start,), dtype=torch.uint8)
