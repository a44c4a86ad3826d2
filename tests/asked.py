"""Requests as tests write them: with the arguments of ``analyze``."""

from __future__ import annotations

from typing import Any

from torchgauge.analyze import Run
from torchgauge.analyze import run_model as run_request
from torchgauge.request import Request, ask


def asked(model: Any, input_size: Any = None, **options: Any) -> Request:
    """Return the request of a call of ``analyze``; ``as_given`` is of its inputs."""
    return ask(model, input_size, options, lambda model: (frozenset(), True))


def run_model(model: Any, input_size: Any = None, **options: Any) -> Run:
    """Trace one execution; a failure of the model is part of what is returned."""
    return run_request(asked(model, input_size, **options))
