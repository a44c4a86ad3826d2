"""What the live page's server refuses, in the language of whoever asks."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy

from starlette.responses import Response

from torchgauge.deploy.serving.failures import RequestFailure
from torchgauge.deploy.serving.http.responses import failure_response
from torchgauge.language import ENGLISH, LANGUAGES, spoken, translated
from torchgauge.web.live.html import wanted_language


def refusal(failure: RequestFailure, language: str) -> Response:
    """Return the answer to a request that is refused; its code stays for programs."""
    told = copy(failure)
    with spoken(language):
        told.message = translated(failure.message)
    return failure_response(told)


def language_of(headers: Mapping[str, str]) -> str:
    """Return the language of a request that names none: the server's, else the browser's."""
    return wanted_language() or _of_browser(headers)


def _of_browser(headers: Mapping[str, str]) -> str:
    """Return the first language that a browser accepts and that there is.

    >>> _of_browser({"accept-language": "fr, zh-CN;q=0.9, en;q=0.8"}), _of_browser({})
    ('zh', 'en')
    """
    for item in headers.get("accept-language", "")[:200].split(","):
        name = item.partition(";")[0].partition("-")[0].strip().lower()
        if name in LANGUAGES:
            return name
    return ENGLISH
