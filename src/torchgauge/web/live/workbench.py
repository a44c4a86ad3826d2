"""The models that a server is about: what each was first asked with, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, Literal

import msgspec

from torchgauge.changes.change import Change, applied
from torchgauge.changes.inputs import Ran
from torchgauge.errors import UsageError
from torchgauge.request import Request
from torchgauge.web.data import VERSION, chinese
from torchgauge.web.live.changes import Changes, Question, changed_request
from torchgauge.web.live.command import command_of
from torchgauge.web.live.controls import choices, values_of
from torchgauge.web.live.process import WorkerProcess
from torchgauge.web.live.worker import Job

_MOST_OFFERED: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One model."""

    request: Request
    ran: Ran
    first: dict[str, Any]
    """The page's data of the first run: its answer, and the error of a model that failed."""
    offered: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Suggestions that were shown, as JSON has them, by key: what a page may apply."""

    def offer(self, request: Request, advice: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Take the suggestions of advice on a request, and return how the page applies each.

        That is its key, and the controls that say the same, ``None`` where none do.
        """
        ways = []
        for suggestion in advice["suggestions"]:
            key = _key(suggestion)
            self.offered[key] = {**suggestion, "chinese": chinese([suggestion["text"]])}
            ways.append({"key": key, "controls": self._controls(request, suggestion)})
        while len(self.offered) > _MOST_OFFERED:
            del self.offered[next(iter(self.offered))]
        return ways

    def applied(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """Return the suggestions of keys, each with its text in Chinese.

        Raises:
            UsageError: one of them was not shown by this server.
        """
        for key in keys:
            if key not in self.offered:
                raise UsageError(
                    f"the change {key} is not known to this server",
                    hint="ask for advice again, and apply it from there",
                )
        return [self.offered[key] for key in keys]

    def _controls(self, request: Request, suggestion: Mapping[str, Any]) -> dict[str, Any] | None:
        if not _runs_otherwise(suggestion):
            return None
        wanted = _run_otherwise(request, self.ran, suggestion)
        before, after = values_of(request, self.ran), values_of(wanted, self.ran)
        controls = {name: value for name, value in after.items() if value != before[name]}
        plain = json.loads(json.dumps(controls))
        said = changed_request(request, self.ran, msgspec.convert(plain, Changes))
        return plain if command_of(said) == command_of(wanted) else None


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


def asked_job(
    benches: Sequence[Bench], question: Question, asks: Literal["report", "advice"]
) -> tuple[Bench, Job]:
    """Return the model that a question is about, and what is to be done for it.

    Raises:
        UsageError: there is no such model, or a change has no meaning for it.
    """
    if question.model >= len(benches):
        raise UsageError(
            f"there is no model {question.model}", hint=f"there are {len(benches)}, from 0"
        )
    bench = benches[question.model]
    request = changed_request(bench.request, bench.ran, question.changes)
    rewrites = []
    for suggestion in bench.applied(question.applied):
        if _runs_otherwise(suggestion):
            request = _run_otherwise(request, bench.ran, suggestion)
        else:
            rewrites.append(suggestion)
    return bench, Job(0, request, question.language, tuple(rewrites), asks)


def _runs_otherwise(suggestion: Mapping[str, Any]) -> bool:
    """Return whether a suggestion leaves the model as it is."""
    return bool(suggestion["scenario"]) or suggestion["batch"] is not None


def _run_otherwise(request: Request, ran: Ran, suggestion: Mapping[str, Any]) -> Request:
    names = ("rule", "text", "why", "scenario", "batch")
    change = Change(**{name: suggestion[name] for name in names})
    return applied(change, request, ran=ran)


def _key(suggestion: Mapping[str, Any]) -> str:
    """Return what names a suggestion: the same one has the same key, also in another server."""
    named = [suggestion[name] for name in ("rule", "where", "settings", "scenario", "batch")]
    return sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:12]
