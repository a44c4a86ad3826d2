"""The result as a comment of a pull request: one comment, updated from run to run.

Source: docs.github.com, REST API, "Issue comments"; the variables are those that GitHub Actions
sets for every step.
"""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from torchgauge.errors import UsageError
from torchgauge.facts.loop.check import CheckReport
from torchgauge.render import get_format
from torchgauge.render.pages.loop.check import check_page

_PAGE = 100
_MOST_PAGES = 50
_MOST_CHARACTERS = 65_000
"""GitHub refuses a comment of more than 65,536."""
_SECONDS = 30.0
_HINT = "run it in a GitHub Actions workflow on pull_request, with GITHUB_TOKEN in its environment"


def marker_of(report: CheckReport) -> str:
    """Return the line, which nobody sees, by which the comment is found again."""
    return f"<!-- torchgauge check {report.config.replace('--', '-')} -->"


def comment_text(report: CheckReport) -> str:
    """Return the comment in Markdown."""
    text: str = get_format("markdown").render(check_page(report))
    if len(text) > _MOST_CHARACTERS:
        kept = text[:_MOST_CHARACTERS].rpartition("\n")[0]
        text = f"{kept}\n\n(cut here: the whole result is in the log of the run)"
    return f"{marker_of(report)}\n{text}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """A pull request on GitHub, or on a server with the same API."""

    api: str
    repository: str
    """``owner/name``."""
    number: int
    token: str = field(repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> PullRequest:
        """Return the pull request that a run of GitHub Actions is about.

        Raises:
            UsageError: this is no such run, or its environment holds no token.
        """
        given = os.environ if environment is None else environment
        for name in ("GITHUB_REPOSITORY", "GITHUB_TOKEN"):
            if not given.get(name):
                raise UsageError(f"--comment needs {name}, which is not set", hint=_HINT)
        api = given.get("GITHUB_API_URL") or "https://api.github.com"
        if not re.match(r"https?://", api):
            raise UsageError(f"GITHUB_API_URL={api!r} is not a web address", hint=_HINT)
        return cls(
            api=api.rstrip("/"),
            repository=given["GITHUB_REPOSITORY"],
            number=_number(given),
            token=given["GITHUB_TOKEN"],
        )

    def post(self, report: CheckReport) -> None:
        """Post the result, or update the comment that an earlier run has posted.

        Raises:
            UsageError: the server refuses, or does not answer.
        """
        body = {"body": comment_text(report)}
        found = self._own_comment(marker_of(report))
        if found is None:
            self._send("POST", f"issues/{self.number}/comments", body)
        else:
            self._send("PATCH", f"issues/comments/{found}", body)

    def _own_comment(self, marker: str) -> int | None:
        for comment in self._comments():
            if str(comment.get("body", "")).startswith(marker):
                return int(comment["id"])
        return None

    def _comments(self) -> Iterator[dict[str, Any]]:
        for page in range(1, _MOST_PAGES + 1):
            place = f"issues/{self.number}/comments?per_page={_PAGE}&page={page}"
            found = self._send("GET", place)
            yield from found
            if len(found) < _PAGE:
                return

    def _send(self, method: str, place: str, body: object = None) -> Any:
        request = urllib.request.Request(
            f"{self.api}/repos/{self.repository}/{place}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={
                "Accept": "application/vnd.github+json",
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/json",
                "User-Agent": "torchgauge",
                "X-GitHub-Api-Version": "2022-11-28",
            },
        )
        try:
            with _OPENER.open(request, timeout=_SECONDS) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            error.close()
            hint = (
                "give the job permissions: pull-requests: write"
                if error.code in (401, 403, 404)
                else "run the job again"
            )
            raise UsageError(
                f"the comment could not be posted: {self.api} answered {error.code} to {method}",
                hint=hint,
            ) from error
        except (OSError, ValueError, HTTPException) as error:
            raise UsageError(
                f"the comment could not be posted: {self.api}: {error}", hint="run the job again"
            ) from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follow no redirect: the token would go along to another server."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def _number(given: Mapping[str, str]) -> int:
    """Return the number of the pull request, from the event or from the name of the ref.

    Raises:
        UsageError: the run is not about a pull request.
    """
    try:
        event = json.loads(Path(given.get("GITHUB_EVENT_PATH", "")).read_text(encoding="utf-8"))
        return int(event["pull_request"]["number"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    found = re.match(r"refs/pull/(\d+)/", given.get("GITHUB_REF", ""))
    if found is None:
        raise UsageError("this run is not about a pull request", hint=_HINT)
    return int(found[1])
