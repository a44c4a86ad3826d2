"""The models that a server is about: what each was first asked with, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from torchgauge.errors import UsageError
from torchgauge.language import ENGLISH, current
from torchgauge.request import Request
from torchgauge.web.data import VERSION
from torchgauge.web.live.changes import Question, Ran, changed_request
from torchgauge.web.live.command import command_of
from torchgauge.web.live.controls import choices, values_of
from torchgauge.web.live.process import WorkerProcess
from torchgauge.web.page import filled

_NEEDS_SCRIPTS = "<p>This page needs JavaScript. torchgauge summary prints the same figures.</p>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One model."""

    request: Request
    ran: Ran
    first: dict[str, Any]
    """The page's data of the first run: its answer, and the error of a model that failed."""


def first_answers(
    requests: Sequence[Request], worker: WorkerProcess, on_progress: Callable[[str], None]
) -> tuple[Bench, ...]:
    """Run each request once.

    Raises:
        TorchGaugeError: whatever is wrong with one of them.
    """
    benches = []
    for request in requests:
        first = json.loads(worker.ask(request, on_progress))
        ran = msgspec.convert(first["answer"]["report"], Ran)
        benches.append(Bench(request=request, ran=ran, first=first))
    return tuple(benches)


def page_of(benches: Sequence[Bench], language: str | None = None) -> dict[str, Any]:
    """Return the data of the page: it opens with the first model."""
    return {
        "version": VERSION,
        "answers": [bench.first["answer"] for bench in benches[:1]],
        "language": language,
        "live": True,
        "workbench": {
            "choices": choices(),
            "models": [
                # The answer of the first one stands in the page's own answers.
                {**model_data(bench), "first": {**bench.first, "answer": None}}
                if number == 0
                else model_data(bench)
                for number, bench in enumerate(benches)
            ],
        },
    }


def model_data(bench: Bench) -> dict[str, Any]:
    """Return a model as the page takes it: what it was asked, and what came of it."""
    return {
        "spec": bench.request.spec,
        "values": values_of(bench.request, bench.ran),
        "command": command_of(bench.request),
        "first": bench.first,
    }


def page_html(benches: Sequence[Bench]) -> str:
    """Return the page that opens with the first model."""
    names = " · ".join(bench.first["answer"]["report"]["model"]["name"] for bench in benches)
    return live_html(page_of(benches, wanted_language()), names)


def live_html(data: Mapping[str, Any], names: str) -> str:
    """Return a page that asks the server; ``names`` are those of the models."""
    return filled(data, title=f"{names} · torchgauge", static=_NEEDS_SCRIPTS)


def wanted_language() -> str | None:
    """Return the language that was asked for; ``None`` for the browser's."""
    return None if current() == ENGLISH else current()


def asked_request(benches: Sequence[Bench], question: Question) -> Request:
    """Return the request that a question makes.

    Raises:
        UsageError: there is no such model, or a change has no meaning for it.
    """
    if question.model >= len(benches):
        raise UsageError(
            f"there is no model {question.model}", hint=f"there are {len(benches)}, from 0"
        )
    bench = benches[question.model]
    return changed_request(bench.request, bench.ran, question.changes)
