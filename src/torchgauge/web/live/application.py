"""The HTTP application of ``torchgauge ui``.

==================  ==============================================================
``GET /``           the page with the first answers
``POST /analyses``  a question (see ``changes.Question``) to a stream of events
``POST /advice``    the same question, of what to change
==================  ==============================================================

A page that watches files has one more: ``web.watch``.

The events are ``progress``, then one of ``result``, ``failed`` and ``cancelled``; each has JSON.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from torchgauge.deploy.serving.failures import MethodNotAllowed, NotFound, RequestFailure
from torchgauge.deploy.serving.http.body import PendingBytes, reading
from torchgauge.deploy.serving.http.responses import json_response
from torchgauge.deploy.serving.settings import Settings
from torchgauge.errors import TorchGaugeError
from torchgauge.language import spoken
from torchgauge.web.live.analyst import Analyst, Asked
from torchgauge.web.live.changes import read_question
from torchgauge.web.live.command import command_of
from torchgauge.web.live.guard import Guard
from torchgauge.web.live.refusal import language_of, refusal
from torchgauge.web.live.workbench import Bench, asked_job
from torchgauge.web.live.worker import failure_data

SETTINGS = Settings(
    max_body_bytes=64 * 1024, max_pending_bytes=2**20, body_seconds=10.0, grace_seconds=1.0
)
"""A question is small, and one machine asks."""


def create_application(
    page: str,
    benches: Sequence[Bench],
    analyst: Analyst,
    *,
    token: str,
    port: int,
    more: Sequence[Route] = (),
) -> Starlette:
    """Return the application; ``analyst`` ends with it.

    Args:
        page: the whole page.
        benches: the models that may be asked about, at the time of a question.
        analyst: answers the questions.
        token: what every request needs.
        port: of this machine.
        more: what else is answered, behind the same guard.
    """
    pending = PendingBytes(SETTINGS.max_pending_bytes)

    async def show(_: Request) -> Response:
        return HTMLResponse(page)

    async def analyse(request: Request) -> Response:
        return await _answered(request, "report", benches, analyst, pending)

    async def advise(request: Request) -> Response:
        return await _answered(request, "advice", benches, analyst, pending)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            analyst.close()

    return Starlette(
        routes=[
            Route("/", show, methods=["GET"]),
            Route("/analyses", analyse, methods=["POST"]),
            Route("/advice", advise, methods=["POST"]),
            *more,
        ],
        middleware=[Middleware(Guard, token=token, port=port)],
        exception_handlers={404: _not_found, 405: _wrong_method},
        lifespan=lifespan,
    )


async def _answered(
    request: Request,
    asks: Literal["report", "advice"],
    benches: Sequence[Bench],
    analyst: Analyst,
    pending: PendingBytes,
) -> Response:
    """Return the stream of what is told of a question, or why it is not taken."""
    language = language_of(request.headers)
    try:
        async with reading(request.headers, request.stream(), SETTINGS, pending) as body:
            question = read_question(body)
        language = question.language
        bench, job = asked_job(benches, question, asks)
        asked = analyst.submit(question.client, job)
    except RequestFailure as failure:
        return refusal(failure, language)
    except TorchGaugeError as error:
        with spoken(language):
            return json_response({"error": failure_data(error)}, 422)
    events = _events(analyst, asked, bench, bench.applied(question.applied))
    return StreamingResponse(events, media_type="text/event-stream")


async def _events(
    analyst: Analyst, asked: Asked, bench: Bench, applied: Sequence[Any]
) -> AsyncIterator[bytes]:
    job = asked.job
    command = command_of(job.request, "advise" if job.asks == "advice" else "summary")
    async with aclosing(analyst.events(asked)) as events:
        async for name, content in events:
            if name == "result":  # JSON already, and long
                more = {"command": command, "applied": applied}
                if job.asks == "advice":
                    more["ways"] = bench.offer(job.request, json.loads(content)["advice"])
                data = b"%b,%b" % (json.dumps(more).encode()[:-1], content[1:])
            elif name == "failed":
                data = json.dumps({**content, "command": command}).encode()
            else:
                data = json.dumps({"text": content or ""}).encode()
            yield b"event: %b\ndata: %b\n\n" % (name.encode(), data)


async def _not_found(request: Request, _: Exception) -> Response:
    failure = NotFound("there is nothing here; GET / shows the page")
    return refusal(failure, language_of(request.headers))


async def _wrong_method(request: Request, _: Exception) -> Response:
    failure = MethodNotAllowed(f"{request.url.path} is asked in another way")
    return refusal(failure, language_of(request.headers))
