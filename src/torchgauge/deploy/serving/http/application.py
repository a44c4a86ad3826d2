"""The HTTP application: the same object whatever engine answers.

===========================  =====================================================
``POST /v1/predict``         inputs to outputs (see ``payload``)
``GET /v1/signature``        what it takes and returns, and how many samples at once
``GET /healthz``             200 as long as the process answers
``GET /readyz``              200 when predictions are answered, 503 otherwise
``GET /metrics``             counters for Prometheus
``GET /docs``, ``/openapi.json``  the description, with the package's own shapes
===========================  =====================================================
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, StreamingResponse
from starlette.routing import Route

from torchgauge.deploy.export.signature import Signature
from torchgauge.deploy.serving.budget import BatchLimit, resident_bytes
from torchgauge.deploy.serving.engine import Engine, check_samples
from torchgauge.deploy.serving.failures import Busy, RequestFailure, Stopping
from torchgauge.deploy.serving.http.body import PendingBytes, reading
from torchgauge.deploy.serving.http.docs_page import docs_page
from torchgauge.deploy.serving.http.metrics import CONTENT_TYPE, CountRequests, Metrics
from torchgauge.deploy.serving.http.openapi import predict_operation
from torchgauge.deploy.serving.http.payload import decode_request, encode_response
from torchgauge.deploy.serving.http.responses import (
    JSON,
    add_error_handlers,
    failure_response,
    json_response,
)
from torchgauge.deploy.serving.settings import Settings
from torchgauge.version import __version__

Result = TypeVar("Result")

_SMALL_BYTES = 32 * 1024
"""JSON of this size is read in about half a millisecond; a change of threads costs as much."""
_SMALL_NUMBERS = 2048
"""Written as JSON in about as much time."""
_DESCRIPTION = "A model packaged and served by torchgauge."
_CLIENT_GONE = 499
"""nginx's status for a client that did not wait; nobody reads it, the counter does."""


class Service:
    """What the application's routes share."""

    def __init__(
        self, signature: Signature, engine: Engine, settings: Settings, limit: BatchLimit
    ) -> None:
        self.signature = signature
        self.engine = engine
        self.settings = settings
        self.limit = limit
        self.metrics = Metrics()
        self.pending = PendingBytes(settings.max_pending_bytes)
        # JSON is read and written one request at a time: the memory that takes is counted once.
        self._codec = ThreadPoolExecutor(max_workers=1, thread_name_prefix="torchgauge-json")
        self._accepted = 0
        self.taken = self.answered = 0
        """Requests for predictions whose header was read, and those that got any answer."""
        engine.watch(self.metrics.batch_done)
        self.metrics.watch(lambda: engine.waiting, resident_bytes)

    async def predict(self, request: Request) -> Response:
        """Answer one request.

        Raises:
            RequestFailure: it gets an error.
            ClientDisconnect: the client went away first.
        """
        if not self.engine.is_ready:
            raise Stopping("the model does not answer")
        # Twice the queue: those in the model's hands, and those whose body is still coming.
        if self._accepted >= 2 * self.settings.max_queue:
            raise Busy(f"too many requests at once ({self._accepted}); try again later")
        self._accepted += 1
        try:
            async with reading(
                request.headers, request.stream(), self.settings, self.pending
            ) as body:
                return await self._answer(body)
        finally:
            self._accepted -= 1

    async def _answer(self, body: bytes) -> Response:
        prediction = await self._in_codec(
            len(body),
            lambda: decode_request(body, self.signature, allow_nan=self.settings.allow_nan),
        )
        check_samples(self.limit, prediction.sizes)
        outputs = await self.engine.predict(prediction.tensors, prediction.sizes)
        pieces = encode_response(self.signature, outputs, prediction.encoding)
        if sum(output.numel() for output in outputs) <= _SMALL_NUMBERS:
            return Response(b"".join(pieces), media_type=JSON)
        size = sum(output.nbytes for output in outputs)
        return StreamingResponse(self._sent(pieces, size), media_type=JSON)

    async def _sent(self, pieces: Iterator[bytes], size: int) -> AsyncIterator[bytes]:
        """Write a large answer piece by piece, as fast as its client takes it."""
        loop = asyncio.get_running_loop()
        self.pending.hold(size)
        try:
            while piece := await loop.run_in_executor(self._codec, next, pieces, b""):
                yield piece
        finally:
            self.pending.give_back(size)

    async def _in_codec(self, size: int, work: Callable[[], Result]) -> Result:
        """Do what is small at once, and what is not without holding up the other connections."""
        if size <= _SMALL_BYTES:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._codec, work)

    async def stop(self) -> None:
        """End the engine and the threads."""
        await self.engine.stop()
        self._codec.shutdown()


def create_application(name: str, service: Service) -> FastAPI:
    """Return the application of a package."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await service.stop()

    application = FastAPI(
        title=name,
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # many clients send no body a second time
    )

    @application.post(
        "/v1/predict",
        response_class=Response,
        openapi_extra=predict_operation(service.signature),
        summary="Run the model",
    )
    async def predict(request: Request) -> Response:
        return await _counted(service, request)

    _add_facts(application, service)
    add_error_handlers(application)
    paths = [route.path for route in application.routes if isinstance(route, Route)]
    application.add_middleware(CountRequests, metrics=service.metrics, paths=paths)
    return application


def _add_facts(application: FastAPI, service: Service) -> None:
    page = docs_page(application.title, _DESCRIPTION, service.signature, service.limit({}))

    @application.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> str:
        return page

    @application.get("/v1/signature", summary="Inputs, outputs and limits")
    async def signature() -> dict[str, Any]:
        return {
            **service.signature.to_dict(),
            "max_batch": service.limit({}),
            "max_body_bytes": service.settings.max_body_bytes,
        }

    @application.get("/healthz", summary="Whether the process answers")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @application.get(
        "/readyz",
        summary="Whether predictions are answered",
        responses={503: {"description": "not now"}},
    )
    async def readyz() -> Response:
        ready = service.engine.is_ready
        return json_response({"status": "ready" if ready else "not ready"}, 200 if ready else 503)

    @application.get("/metrics", response_class=Response, summary="Counters for Prometheus")
    async def metrics() -> Response:
        service.metrics.pending_bytes.set(service.pending.held)
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)


async def _counted(service: Service, request: Request) -> Response:
    start = time.monotonic()
    service.taken += 1
    try:
        response = await service.predict(request)
    except ClientDisconnect:
        response = Response(status_code=_CLIENT_GONE)
    except RequestFailure as failure:
        response = failure_response(failure)
    except Exception:
        service.answered += 1  # by the handler of what nobody expected
        raise
    service.answered += 1
    service.metrics.seconds.observe(time.monotonic() - start)
    return response
