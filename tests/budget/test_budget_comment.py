"""The comment of a pull request, posted to a stand-in of the API on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import check_builder as build
from github_api import Api
from torchgauge.budget.comment import PullRequest, comment_text
from torchgauge.errors import UsageError
from torchgauge.facts.loop.check import CheckReport


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    yield made
    made.close()


def post(api: Api, tmp_path: Path, report: CheckReport) -> None:
    PullRequest.from_environment(api.environment(tmp_path)).post(report)


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
    given = api.environment(tmp_path) | {
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
        PullRequest.from_environment({**api.environment(tmp_path), **change})
    assert caught.value.message == message
    assert "GitHub Actions" in caught.value.hint
    assert "secret-token" not in repr(PullRequest.from_environment(api.environment(tmp_path)))


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
