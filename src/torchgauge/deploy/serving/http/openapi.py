"""The OpenAPI description of a package's own inputs and outputs."""

from __future__ import annotations

from typing import Any

from torchgauge.deploy.export.signature import Signature, TensorSignature

ERRORS = {
    "400": "the body is not a JSON object with inputs, or the request is not HTTP",
    "408": "the body did not come in time",
    "413": "the body is too large",
    "415": "the body is not application/json",
    "422": "an input has the wrong name, shape, dtype or values, or the model refused it",
    "429": "too much at once: the queue is full, too many requests are being read, or their bodies "
    "and the answers being sent take all the memory there is for them; see Retry-After",
    "503": "the server is going down, or lacks memory; see Retry-After",
    "504": "the model did not reach the request in time",
}


_WITH_RETRY_AFTER = ("429", "503")
_ERROR_SCHEMA = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
            "required": ["code", "message"],
        }
    },
    "required": ["error"],
}


def predict_operation(signature: Signature) -> dict[str, Any]:
    """Return what is special about ``POST /v1/predict`` of this package."""
    inputs = {tensor.name: _given(tensor, signature) for tensor in signature.inputs}
    outputs = {tensor.name: _answered(tensor) for tensor in signature.outputs}
    request = {
        "type": "object",
        "properties": {
            "inputs": _object(inputs),
            "encoding": {
                "type": "string",
                "enum": ["list", "base64"],
                "default": "list",
                "description": "how the outputs come",
            },
        },
        "required": ["inputs"],
        "additionalProperties": False,
    }
    response = {
        "type": "object",
        "properties": {"outputs": _object(outputs)},
        "required": ["outputs"],
    }
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": request}},
        },
        "responses": {
            "200": {
                "description": "the outputs of the model",
                "content": {"application/json": {"schema": response}},
            },
            **{status: _error(status, text) for status, text in ERRORS.items()},
        },
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _given(tensor: TensorSignature, signature: Signature) -> dict[str, Any]:
    number: dict[str, Any] = {"type": _json_type(tensor.dtype)}
    if tensor.minimum is not None:
        number["minimum"] = tensor.minimum
    if tensor.maximum is not None:
        number["maximum"] = tensor.maximum
    nested = number
    for size in reversed(tensor.shape):
        nested = {"type": "array", "items": nested, **_array_limits(size, signature)}
    return {"description": _text(tensor), "anyOf": [nested, _bytes(tensor)]}


def _answered(tensor: TensorSignature) -> dict[str, Any]:
    number: dict[str, Any] = {"type": _json_type(tensor.dtype)}
    if number["type"] == "number":
        number = {"anyOf": [number, {"type": "null"}]}  # null: not finite
    nested = number
    for _ in tensor.shape:
        nested = {"type": "array", "items": nested}
    return {"description": _text(tensor), "anyOf": [nested, _bytes(tensor)]}


def _array_limits(size: int | str, signature: Signature) -> dict[str, int]:
    if isinstance(size, int):
        return {"minItems": size, "maxItems": size}
    sizes = signature.dimensions.get(size)
    if sizes is None:
        return {"minItems": 1}
    limits = {"minItems": sizes.minimum}
    return limits if sizes.maximum is None else {**limits, "maxItems": sizes.maximum}


def _bytes(tensor: TensorSignature) -> dict[str, Any]:
    return _object(
        {
            "dtype": {"type": "string", "enum": [tensor.dtype]},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "data": {
                "type": "string",
                "contentEncoding": "base64",
                "description": "little-endian, the last dimension fastest",
            },
        }
    )


def _json_type(dtype: str) -> str:
    if dtype == "bool":
        return "boolean"
    return "number" if "float" in dtype or "complex" in dtype else "integer"


def _text(tensor: TensorSignature) -> str:
    return f"[{', '.join(map(str, tensor.shape))}] {tensor.dtype}"


def _error(status: str, text: str) -> dict[str, Any]:
    error: dict[str, Any] = {
        "description": text,
        "content": {"application/json": {"schema": _ERROR_SCHEMA}},
    }
    if status in _WITH_RETRY_AFTER:
        seconds = {"type": "integer", "minimum": 1}
        error["headers"] = {
            "Retry-After": {
                "description": "seconds to wait before asking again",
                "required": True,
                "schema": seconds,
            }
        }
    return error
