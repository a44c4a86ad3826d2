"""Tensors in JSON: nested lists, or base64 of the bytes with dtype and shape; and back.

::

    {"inputs": {"x": [[1.0, 2.0]]}}
    {"inputs": {"x": {"dtype": "float32", "shape": [1, 2], "data": "AACAPwAAAEA="}},
     "encoding": "base64"}

Bytes are little-endian, the last dimension moves fastest. ``encoding`` says how the outputs come:
``list`` (default) or ``base64``. What is not finite is ``null`` in a list, since JSON has no NaN.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from torchgauge.deploy.export.signature import (
    ShapeMismatch,
    Signature,
    TensorSignature,
    bind_shape,
    check_expressions,
    check_rank,
)
from torchgauge.deploy.serving.failures import BadBody, BadInput
from torchgauge.deploy.serving.http.nested import shape_of, what_is_irregular
from torchgauge.units import format_number_of

ENCODINGS = ("list", "base64")
_MOST_DIMENSIONS = 16
_PIECE_NUMBERS = 16 * 1024
_PIECE_BYTES = 3 * 64 * 1024  # a multiple of three: no padding within


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A request that fits the signature."""

    tensors: tuple[torch.Tensor, ...]
    sizes: Mapping[str, int]
    """Of the dynamic dimensions."""
    encoding: str


def decode_request(body: bytes, signature: Signature, *, allow_nan: bool) -> Prediction:
    """Return the tensors of a request, in the order of the signature.

    Raises:
        BadBody: it is no JSON object of the form above.
        BadInput: a tensor does not fit the signature.
    """
    data = _json_object(body, allow_nan)
    encoding = data.get("encoding", "list")
    if encoding not in ENCODINGS:
        raise BadBody(f"encoding is {_shown(encoding)}, it may be {' or '.join(ENCODINGS)}")
    inputs = data.get("inputs")
    names = [tensor.name for tensor in signature.inputs]
    if not isinstance(inputs, dict):
        raise BadBody(f'"inputs" is an object with {", ".join(names)}')
    if unknown := sorted(data.keys() - {"inputs", "encoding"}):
        raise BadBody(f"{unknown[0][:80]!r} is not understood")
    if unknown := sorted(inputs.keys() - set(names)):
        raise BadInput(f"there is no input {unknown[0][:80]!r}, only {', '.join(names)}")
    if missing := [name for name in names if name not in inputs]:
        raise BadInput(f"the input {missing[0]} is missing")
    may_have_booleans = b"true" in body or b"false" in body
    sizes: dict[str, int] = {}
    tensors = []
    for tensor in signature.inputs:
        given = inputs[tensor.name]
        value = _tensor(tensor, given)
        if may_have_booleans and value.dtype is not torch.bool and _has_boolean(given):
            raise BadInput(f"{tensor.name} is {tensor.dtype}, and has booleans among its numbers")
        _in_signature(bind_shape, tensor, tuple(value.shape), signature.dimensions, sizes)
        _check_values(tensor, value, allow_nan)
        tensors.append(value)
    for tensor, value in zip(signature.inputs, tensors, strict=True):
        _in_signature(check_expressions, tensor, tuple(value.shape), sizes)
    return Prediction(tensors=tuple(tensors), sizes=sizes, encoding=encoding)


def encode_response(
    signature: Signature, outputs: Sequence[torch.Tensor], encoding: str
) -> Iterator[bytes]:
    """Yield the JSON of the outputs in pieces: as Python objects it would be ten times as large."""
    start = b'{"outputs":{'
    for tensor, output in zip(signature.outputs, outputs, strict=True):
        yield start + json.dumps(tensor.name).encode() + b":"
        start = b","
        as_bytes = encoding == "base64" or output.is_complex()
        yield from (_as_base64 if as_bytes else _as_lists)(output)
    yield b"}}"


# ---------------------------------------------------------------------------- in


def _json_object(body: bytes, allow_nan: bool) -> dict[str, Any]:
    def constant(text: str) -> float:
        if not allow_nan:
            raise BadInput(f"{text} is not accepted here")
        return float(text)

    try:
        data = json.loads(body, parse_constant=constant, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadBody(f"the body is not JSON: {reason[:200]}") from error
    if not isinstance(data, dict):
        raise BadBody('the body is an object with "inputs"')
    return data


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; JSON lets a name stand twice in one, and does not say which holds."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise BadBody(f"{name[:80]!r} occurs twice in one object")
        found[name] = value
    return found


def _tensor(tensor: TensorSignature, value: Any) -> torch.Tensor:
    if isinstance(value, dict):
        return _from_base64(tensor, value)
    if not isinstance(value, (list, int, float)):
        raise BadInput(
            f"{tensor.name} is {_shown(value)}; it may be a nested list, {_text(tensor)}, or an "
            "object with dtype, shape and data"
        )
    return _from_list(tensor, value)


def _as_tensor(value: Any, dtype: torch.dtype) -> torch.Tensor:
    """Return the numbers in the dtype that they have by themselves, without a loss on the way."""
    try:
        given = torch.tensor(value)
    except (ValueError, RuntimeError):
        if not dtype.is_floating_point:
            raise
        return torch.tensor(value, dtype=dtype)  # whole numbers beyond int64
    if dtype is torch.float64 or (dtype.is_floating_point and given.dtype is torch.int64):
        return torch.tensor(value, dtype=dtype)
    return given


def _in_signature(check: Callable[..., None], *arguments: Any) -> None:
    try:
        check(*arguments)
    except ShapeMismatch as error:
        raise BadInput(str(error)) from error


def _from_list(tensor: TensorSignature, value: Any) -> torch.Tensor:
    dtype: torch.dtype = getattr(torch, tensor.dtype)
    if dtype.is_complex:
        raise BadInput(f"{tensor.name} is complex: send its bytes, with dtype, shape and data")
    _in_signature(check_rank, tensor, shape_of(value))  # before torch sees a hundred dimensions
    try:
        given = _as_tensor(value, dtype)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        if reason := what_is_irregular(value, tensor.name):
            raise BadInput(
                f"{tensor.name} is not a rectangular list of numbers: {reason}; the model takes "
                f"{_text(tensor)}"
            ) from error
        raise BadInput(f"{tensor.name} holds a number that {tensor.dtype} cannot") from error
    is_other = (given.dtype is torch.bool) != (dtype is torch.bool)
    if given.numel() and (is_other or _kind(given.dtype) > _kind(dtype)):
        words = _words(given.dtype)
        raise BadInput(f"{tensor.name} is {tensor.dtype}, the numbers sent are {words}")
    if not dtype.is_floating_point and given.numel() and dtype is not torch.bool:
        info = torch.iinfo(dtype)
        if int(given.min()) < info.min or int(given.max()) > info.max:
            raise BadInput(f"{tensor.name} holds a number that {tensor.dtype} cannot")
    return given.to(dtype)


def _text(tensor: TensorSignature) -> str:
    return f"{tensor.shape_text} of {tensor.dtype}"


def _shown(value: Any) -> str:
    """Return JSON as it was sent, cut to a length that fits a message."""
    try:
        text = json.dumps(value)
    except RecursionError:
        text = "nested too deeply"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _has_boolean(value: Any) -> bool:
    """Return whether a boolean stands in nested lists; among numbers torch takes it for one."""
    if isinstance(value, list):
        return any(_has_boolean(item) for item in value)
    return isinstance(value, bool)


def _kind(dtype: torch.dtype) -> int:
    return 2 if dtype.is_floating_point else (0 if dtype is torch.bool else 1)


def _words(dtype: torch.dtype) -> str:
    return ("booleans", "whole numbers", "no whole numbers")[_kind(dtype)]


def _from_base64(tensor: TensorSignature, value: Mapping[str, Any]) -> torch.Tensor:
    if value.keys() != {"dtype", "shape", "data"}:
        raise BadInput(
            f"{tensor.name} is an object with dtype, shape and data and nothing else, or a nested "
            f"list; this one has {', '.join(map(_shown, value)) or 'nothing'}"
        )
    if value["dtype"] != tensor.dtype:
        raise BadInput(f"{tensor.name} is {tensor.dtype}, not {str(value['dtype'])[:40]}")
    shape, text = value["shape"], value["data"]
    if (
        not isinstance(shape, list)
        or len(shape) > _MOST_DIMENSIONS
        or not all(type(size) is int and 0 <= size < 2**31 for size in shape)
    ):
        raise BadInput(
            f"the shape of {tensor.name} is {_shown(shape)}, not a list of sizes like "
            f"{_text(tensor)}"
        )
    if not isinstance(text, str):
        raise BadInput(f"the data of {tensor.name} is {_shown(text)}, not a text in base64")
    try:
        data = bytearray(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise BadInput(f"the data of {tensor.name} is not base64: {error}") from error
    dtype: torch.dtype = getattr(torch, tensor.dtype)
    wanted = math.prod(shape) * dtype.itemsize
    if len(data) != wanted:
        raise BadInput(
            f"{tensor.name}: {format_number_of(len(data), 'byte')} sent, {shape} of {tensor.dtype} "
            f"takes {wanted}; the model takes {_text(tensor)}"
        )
    if not data:
        return torch.empty(shape, dtype=dtype)
    if dtype is torch.bool and any(byte > 1 for byte in data):
        raise BadInput(f"the data of {tensor.name} are not booleans")
    if sys.byteorder == "big":
        raise BadInput("this server takes nested lists only")
    return torch.frombuffer(data, dtype=dtype).reshape(shape)


def _check_values(tensor: TensorSignature, value: torch.Tensor, allow_nan: bool) -> None:
    if not value.numel():
        raise BadInput(f"{tensor.name} is empty: {list(value.shape)}")
    if value.is_floating_point() or value.is_complex():
        if not allow_nan and not bool(value.isfinite().all()):
            raise BadInput(f"{tensor.name} holds a number that is not finite in {tensor.dtype}")
        return
    if tensor.minimum is None and tensor.maximum is None:
        return
    low, high = int(value.min()), int(value.max())
    if (tensor.minimum is not None and low < tensor.minimum) or (
        tensor.maximum is not None and high > tensor.maximum
    ):
        raise BadInput(
            f"{tensor.name} holds numbers from {low} to {high}, the model takes "
            f"{tensor.minimum} to {tensor.maximum}"
        )


# ---------------------------------------------------------------------------- out


def _as_lists(output: torch.Tensor) -> Iterator[bytes]:
    if output.numel() <= _PIECE_NUMBERS or output.dim() == 0:
        values = output.tolist()
        if output.is_floating_point() and not bool(output.isfinite().all()):
            values = _without_nan(values)
        yield json.dumps(values, separators=(",", ":"), allow_nan=False).encode()
        return
    rows = max(_PIECE_NUMBERS // max(output[0].numel(), 1), 1)
    yield b"["
    for first in range(0, len(output), rows):
        part = output[first : first + rows]
        if first:
            yield b","
        if rows == 1:
            yield from _as_lists(part[0])
        else:
            yield b"".join(_as_lists(part))[1:-1]  # the rows without the list around them
    yield b"]"


def _without_nan(values: Any) -> Any:
    if isinstance(values, list):
        return [_without_nan(value) for value in values]
    return values if math.isfinite(values) else None


def _as_base64(output: torch.Tensor) -> Iterator[bytes]:
    flat = output.detach().contiguous().reshape(-1)
    array: Any = flat.view(torch.uint8).numpy() if flat.numel() else b""
    data = memoryview(array)
    dtype = str(output.dtype).removeprefix("torch.")
    head = json.dumps({"dtype": dtype, "shape": list(output.shape)}, separators=(",", ":"))
    yield head[:-1].encode() + b',"data":"'
    for first in range(0, len(data), _PIECE_BYTES):
        yield base64.b64encode(data[first : first + _PIECE_BYTES])
    yield b'"}'
