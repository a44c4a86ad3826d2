"""The comment of a pull request, posted to a stand-in of the API on this machine."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import check_builder as build
from torchgauge.budget.comment import PullRequest, comment_text
from torchgauge.errors import UsageError
from torchgauge.facts.loop.check import CheckReport


class Api:
    """Comments of pull request 7 of ``someone/model``, as the REST API serves them."""

    def __init__(self) -> None:
        self.comments: list[dict[str, Any]] = []
        self.seen: list[str] = []
        self.status = 0
        api = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self._answer()

            do_POST = do_PATCH = do_GET

            def _answer(self) -> None:
                api.seen.append(f"{self.command} {self.path}")
                size = int(self.headers.get("Content-Length") or 0)
                data = json.loads(self.rfile.read(size)) if size else None
                status, answer = api.answer(self.command, self.path, self.headers, data)
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", f"{api.url}/elsewhere")
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/api/v3"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, headers: Any, data: Any) -> tuple[int, Any]:
        if self.status:
            return self.status, {"message": "no"}
        if headers["Authorization"] != "Bearer secret-token":
            return 401, {"message": "bad credentials"}
        of_pull = r"/api/v3/repos/someone/model/issues/7/comments"
        if method == "GET" and (
            page := re.fullmatch(rf"{of_pull}\?per_page=(\d+)&page=(\d+)", path)
        ):
            count, number = int(page[1]), int(page[2])
            return 200, self.comments[count * (number - 1) : count * number]
        if method == "POST" and path == of_pull:
            self.comments.append({"id": 1000 + len(self.comments), **data})
            return 201, self.comments[-1]
        one = re.fullmatch(r"/api/v3/repos/someone/model/issues/comments/(\d+)", path)
        if method == "PATCH" and one:
            found = next(item for item in self.comments if item["id"] == int(one[1]))
            found.update(data)
            return 200, found
        return 404, {"message": "not found"}


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    yield made
    made.close()


def environment(api: Api, tmp_path: Path) -> dict[str, str]:
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"action": "opened", "pull_request": {"number": 7}}))
    return {
        "GITHUB_API_URL": api.url, "GITHUB_REPOSITORY": "someone/model",
        "GITHUB_TOKEN": "secret-token", "GITHUB_EVENT_PATH": str(event),
    }  # fmt: skip


def post(api: Api, tmp_path: Path, report: CheckReport) -> None:
    PullRequest.from_environment(environment(api, tmp_path)).post(report)


def test_posted_twice_it_exists_once(api, tmp_path):
    api.comments = [{"id": number, "body": f"words {number}"} for number in range(1, 251)]
    api.comments.append({"id": 900, "body": "> <!-- torchgauge check pyproject.toml -->"})
    before = len(api.comments)

    post(api, tmp_path, build.within())
    post(api, tmp_path, build.everything())

    assert len(api.comments) == before + 1
    body = api.comments[-1]["body"]
    assert body.startswith("<!-- torchgauge check pyproject.toml -->\n")
    assert "1 over budget" in body and "within budget" not in body
    assert [line.split()[0] for line in api.seen].count("POST") == 1
    assert [line.split()[0] for line in api.seen].count("PATCH") == 1


def test_the_file_of_another_project_has_a_comment_of_its_own(api, tmp_path):
    post(api, tmp_path, build.within())
    post(api, tmp_path, build.check(build.model(), config="other/pyproject.toml"))
    assert len(api.comments) == 2


def test_the_comment_holds_the_changes(api, tmp_path):
    post(api, tmp_path, build.against_base())
    body = api.comments[0]["body"]
    assert "**Against main**" in body
    assert "| `net` | parameters | 401,484,648 | 36 | −401,484,612 (−100.00 %) |" in body


def test_a_long_comment_is_cut():
    many = [build.model(f"net{number}", build.limit()) for number in range(2000)]
    text = comment_text(build.check(*many))
    assert len(text) < 65_536
    assert text.endswith("(cut here: the whole result is in the log of the run)\n")


def test_the_pull_request_is_read_from_the_ref_as_well(api, tmp_path):
    given = environment(api, tmp_path) | {
        "GITHUB_EVENT_PATH": str(tmp_path / "none"), "GITHUB_REF": "refs/pull/12/merge",
    }  # fmt: skip
    assert PullRequest.from_environment(given).number == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"GITHUB_TOKEN": ""}, "--comment needs GITHUB_TOKEN, which is not set"),
        ({"GITHUB_REPOSITORY": ""}, "--comment needs GITHUB_REPOSITORY, which is not set"),
        ({"GITHUB_API_URL": "file:///etc"}, "GITHUB_API_URL='file:///etc' is not a web address"),
        ({"GITHUB_EVENT_PATH": ""}, "this run is not about a pull request"),
    ],
)
def test_an_environment_that_is_not_right(api, tmp_path, change, message):
    with pytest.raises(UsageError) as caught:
        PullRequest.from_environment({**environment(api, tmp_path), **change})
    assert caught.value.message == message
    assert "GitHub Actions" in caught.value.hint
    assert "secret-token" not in repr(PullRequest.from_environment(environment(api, tmp_path)))


@pytest.mark.parametrize(
    ("status", "hint"), [(403, "pull-requests: write"), (500, "run the job again"), (302, "again")]
)
def test_a_server_that_refuses(api, tmp_path, status, hint):
    api.status = status
    with pytest.raises(UsageError, match=f"could not be posted.* answered {status}") as caught:
        post(api, tmp_path, build.within())
    assert hint in caught.value.hint
    assert "secret-token" not in str(caught.value)
    assert len(api.seen) == 1  # a redirect is not followed: the token would go along


def test_a_server_that_is_not_there(api, tmp_path):
    api.close()
    with pytest.raises(UsageError, match="could not be posted"):
        post(api, tmp_path, build.within())
