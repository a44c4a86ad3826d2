"""The process that analyses: it keeps torch and the models, and answers one question at a time.

It reads ``Job``, and tells on the way what it does, then ``result`` or ``failed``. A job is given
up at the next thing that it tells, so that nothing is left half restored; what does not come to
that is killed from outside.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from torchgauge.errors import ModelError, ScenarioError, TorchGaugeError, raised_past
from torchgauge.language import ENGLISH, translated, use
from torchgauge.request import Request

if TYPE_CHECKING:
    from torchgauge.facts.report import Report
    from torchgauge.facts.trace import Trace
    from torchgauge.models.build import ModelBuild

Kind: TypeAlias = Literal["progress", "result", "failed", "cancelled"]
Message: TypeAlias = tuple[int, Kind, Any]
"""Of which job, what, and its content: text, JSON, an error as plain data, or nothing."""
_MOST_MODELS = 8


@dataclass(frozen=True, slots=True)
class Job:
    """One analysis to do."""

    number: int
    request: Request
    language: str = ENGLISH
    """Of what is said of an error."""
    applied: tuple[dict[str, Any], ...] = ()
    """Suggestions that change the model, as JSON has them, in the order in which they are made."""
    asks: Literal["report", "advice"] = "report"


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ends a job, if it is the one that runs."""

    number: int


class _Cancelled(KeyboardInterrupt):
    """The answer is not wanted any more; what catches Exceptions lets it through."""


def work(connection: Connection) -> None:
    """Answer what comes until the other side is gone."""
    # Ctrl-C in the terminal reaches this process as well; the server ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.stdout is not None:
        with contextlib.suppress(OSError, ValueError):  # a console that is not there
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import torchgauge.analyze  # noqa: F401 — while nothing is asked: torch takes seconds

    models = _Models()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            job = connection.recv()
            if isinstance(job, Job):
                connection.send((job.number, *_answer(job, models, connection)))


def _answer(job: Job, models: _Models, connection: Connection) -> tuple[Kind, Any]:
    def tell(text: str) -> None:
        while connection.poll():
            message = connection.recv()
            if isinstance(message, Cancel) and message.number == job.number:
                raise _Cancelled
        connection.send((job.number, "progress", text))

    folder = os.getcwd()
    use(job.language)
    try:
        told = replace(job, request=replace(job.request, on_progress=tell))
        return "result", advice_json(told, models) if job.asks == "advice" else answer_json(
            told, models
        )
    except _Cancelled:
        return "cancelled", None
    except (EOFError, BrokenPipeError):
        raise
    except Exception as error:
        return "failed", failure_data(error)
    except BaseException as stop:  # SystemExit and the like, raised by the model's code
        return "failed", failure_data(raised_past(stop))
    finally:
        os.chdir(folder)


class _Models:
    """Models that were built, by what names them, and the last trace of each."""

    def __init__(self) -> None:
        self._built: OrderedDict[str, ModelBuild] = OrderedDict()
        self._traces: dict[str, tuple[Job, Trace]] = {}

    def request(self, job: Job) -> Request:
        """Return the request of a job with its model, changed by what is applied to it.

        Raises:
            TorchGaugeError: the model cannot be built, or a change cannot be made.
        """
        from torchgauge.models.requests import with_build

        request = with_build(job.request, self._of(job.request))
        if not job.applied:
            return request
        from torchgauge.advise.apply import changed_copy
        from torchgauge.facts.codec.wire import from_dict
        from torchgauge.facts.loop.advice import Suggestion

        suggestions = [from_dict(Suggestion, data) for data in job.applied]
        return replace(request, model=changed_copy(suggestions, request.model))

    def _of(self, request: Request) -> ModelBuild:
        from torchgauge.models.requests import build_for

        key = _key(request)
        if key not in self._built:
            self._built[key] = build_for(request)
        self._built.move_to_end(key)
        while len(self._built) > _MOST_MODELS:
            old, _ = self._built.popitem(last=False)
            self._traces.pop(old, None)
        return self._built[key]

    def on_other_device(self, job: Job) -> Report | None:
        """Return the report from the last trace, where only the device is another one.

        ``None`` where that device runs other kernels.
        """
        from torchgauge.reports import estimate_trace

        before, trace = self._traces.get(_key(job.request), (None, None))
        if trace is None or before != _on_any_device(job):
            return None
        try:
            return estimate_trace(trace, job.request.scenario.device)
        except ScenarioError:
            return None

    def keep(self, job: Job, trace: Trace) -> None:
        """Keep the trace of a model; the one before it is dropped."""
        self._traces[_key(job.request)] = _on_any_device(job), trace


def _key(request: Request) -> str:
    return repr((request.spec, request.settings))


def _on_any_device(job: Job) -> Job:
    scenario = replace(job.request.scenario, device="cpu")
    asked = replace(job.request, on_progress=None, scenario=scenario)
    return Job(0, asked, applied=job.applied)


def advice_json(job: Job, models: _Models) -> bytes:
    """Return what to change in a model as JSON.

    A changed copy has no weights of its own, so that nothing is run for real with it.

    Raises:
        TorchGaugeError: whatever is wrong with the request.
    """
    from torchgauge.advise.engine import AdviceOptions, advise_model
    from torchgauge.web.data import advice_data

    advice = advise_model(models.request(job), AdviceOptions(prove=not job.applied))
    return json.dumps(advice_data(advice), separators=(",", ":"), allow_nan=False).encode()


def answer_json(job: Job, models: _Models) -> bytes:
    """Return the page's data of a job as JSON; of a model that fails, what ran and the error.

    Raises:
        TorchGaugeError: whatever is wrong with the request.
    """
    from torchgauge.web.data import answer_data

    report, error = _report(job, models)
    job.request.tell("drawing")
    data = {"answer": answer_data(report), "error": error}
    return json.dumps(data, separators=(",", ":"), allow_nan=False).encode()


def _report(job: Job, models: _Models) -> tuple[Report, Mapping[str, Any] | None]:
    from torchgauge.analyze import analyze_model

    if (report := models.on_other_device(job)) is not None:
        return report, None
    try:
        report = analyze_model(models.request(job), batch_names=True)
    except ModelError as error:
        if error.report is None:
            raise
        return error.report, failure_data(error)
    if report.trace is not None:
        models.keep(job, report.trace)
    return report, None


def failure_data(error: Exception) -> dict[str, Any]:
    """Return an error as the page takes it, in the language that is spoken.

    ``status`` is that of the command line.
    """
    if isinstance(error, TorchGaugeError):
        message, hint, status = error.message, error.hint, error.exit_status
    else:
        message = f"internal error: {type(error).__name__}: {error}"
        hint = "this is a bug in torchgauge; report it with the command"
        status = 70
    return {"message": translated(message), "hint": translated(hint), "status": status}
