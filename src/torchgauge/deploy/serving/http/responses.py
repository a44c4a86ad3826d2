"""Answers of the application: JSON, and the one form that every error has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from torchgauge.deploy.serving.failures import (
    InternalFailure,
    MethodNotAllowed,
    NotFound,
    RequestFailure,
)

JSON = "application/json"
_WAY = "POST /v1/predict predicts, GET /docs lists all paths"


def json_response(data: Any, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """Return ``data`` as JSON in ASCII."""
    text = json.dumps(data, ensure_ascii=True)
    return Response(text, status_code=status, headers=headers, media_type=JSON)


def failure_response(failure: RequestFailure, headers: Mapping[str, str] | None = None) -> Response:
    """Return ``{"error": {"code", "message"}}`` with the headers that belong to the failure."""
    headers = dict(headers or {})
    if failure.retry_after_seconds is not None:
        headers["Retry-After"] = str(failure.retry_after_seconds)
    if failure.closes:
        headers["Connection"] = "close"
    return json_response(error_data(failure), failure.status, headers)


def error_data(failure: RequestFailure) -> dict[str, dict[str, str]]:
    """Return what a client reads of a failure."""
    return {"error": {"code": failure.code, "message": failure.message}}


def add_error_handlers(application: FastAPI) -> None:
    """Give the errors of the framework the form of our own: no such path, wrong method, a bug."""

    @application.exception_handler(HTTPException)
    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return failure_response(_failure(request, error), error.headers)

    @application.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        # The server logs the traceback; a client is told no more than that there is one.
        return failure_response(InternalFailure(f"the server failed: {type(error).__name__}"))


def _failure(request: Request, error: HTTPException) -> RequestFailure:
    path = request.url.path
    if error.status_code == 404:
        return NotFound(f"there is nothing at {path[:80]!r}; {_WAY}")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return MethodNotAllowed(f"{path} takes {allowed}, not {request.method[:20]}")
    failure = RequestFailure(str(error.detail))
    failure.status = error.status_code
    return failure
