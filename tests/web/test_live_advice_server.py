"""``POST /advice``: what to change, and questions about a model with suggestions applied."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_server import MODELS, Live, live

import torchgauge as tg
from lean_data import data_in
from torchgauge.cli.main import main
from torchgauge.facts.scenario import Scenario
from torchgauge.request import Inputs, Request

TRAINING = Scenario(mode="training", optimizer="adamw", device="T4")


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("live") / "net.py"
    path.write_text(MODELS, encoding="utf-8")
    return f"{path}:Pixels"


@pytest.fixture(scope="module")
def server(spec: str) -> Iterator[Live]:
    size = Inputs(size=(3, 8, 8), batch_size=4)
    with live([Request(spec=spec, inputs=size, scenario=TRAINING)]) as running:
        yield running


@pytest.fixture(scope="module")
def advice(server: Live) -> dict[str, Any]:
    return server.advise({})


def number_of(advice: dict[str, Any], rule: str) -> int:
    rules = [item["rule"] for item in advice["advice"]["suggestions"]]
    assert rule in rules
    return rules.index(rule)


def after(suggestion: dict[str, Any]) -> dict[str, float]:
    return {figure["name"]: figure["after"] for figure in suggestion["figures"]}


def figures(report: dict[str, Any], names: Any) -> dict[str, float]:
    return {name: report[name.partition(".")[0]][name.partition(".")[2]] for name in names}


def test_it_is_the_advice_of_the_command_line(
    advice: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(advice["command"])
    assert words[:2] == ["torchgauge", "advise"]
    assert main([*words[1:], "--format", "json", "--quiet"]) == 0
    assert advice["advice"] == json.loads(capsys.readouterr().out)
    assert len(advice["ways"]) == len(advice["advice"]["suggestions"])
    assert advice["chinese"], "sentences have their translation"


def test_an_applied_change_is_measured_as_was_promised(
    server: Live, advice: dict[str, Any]
) -> None:
    for suggestion, way in zip(advice["advice"]["suggestions"], advice["ways"], strict=True):
        if way["controls"] is not None:
            name, content = server.ask(way["controls"])
        else:
            name, content = server.ask({}, applied=[way["key"]])
            (applied,) = content["applied"]
            assert {**suggestion, "chinese": applied["chinese"]} == applied
            assert suggestion["text"] in applied["chinese"]
        assert name == "result"
        report = content["answer"]["report"]
        promised = after(suggestion)
        assert figures(report, promised) == promised, suggestion["text"]


def test_two_changes_are_measured_together(server: Live, advice: dict[str, Any], spec: str) -> None:
    both = [
        advice["ways"][number_of(advice, rule)]["key"]
        for rule in ("global-pooling", "depthwise-separable")
    ]
    _, content = server.ask({}, applied=both)
    report = content["answer"]["report"]
    # conv, depthwise, pointwise, and the classifier of 64 channels
    params = (3 * 9 + 1) * 64 + 9 * 64 + (64 + 1) * 64 + (64 + 1) * 10
    assert report["totals"]["params"] == params
    assert [item["rule"] for item in content["applied"]] == [
        "global-pooling", "depthwise-separable",
    ]  # fmt: skip
    found = server.advise({}, applied=both)["advice"]
    assert "global-pooling" not in {item["rule"] for item in found["suggestions"]}
    assert found["figures"]["totals.params"] == params
    assert all(not item["proof"] for item in found["suggestions"]), "nothing is run for real"
    _, content = server.ask({})
    assert content["answer"]["report"]["totals"]["params"] > 10 * params, "the model stays"


def test_another_device_is_that_of_the_changed_model(server: Live, advice: dict[str, Any]) -> None:
    key = advice["ways"][number_of(advice, "global-pooling")]["key"]
    server.ask({"device": "RTX 2080 Ti"})
    _, changed = server.ask({"device": "RTX 2080 Ti"}, applied=[key])
    _, again = server.ask({}, applied=[key])
    params = [item["answer"]["report"]["totals"]["params"] for item in (changed, again)]
    assert params[0] == params[1] < 50_000


def test_what_has_no_control_is_applied_to_the_scenario(
    server: Live, advice: dict[str, Any]
) -> None:
    for suggestion, way in zip(advice["advice"]["suggestions"], advice["ways"], strict=True):
        if suggestion["scenario"].get("precision"):
            assert way["controls"] == {"precision": suggestion["scenario"]["precision"]}
    fused = {"optimizer_implementation": "fused"}
    number = next(
        (
            number
            for number, item in enumerate(advice["advice"]["suggestions"])
            if item["scenario"] == fused
        ),
        None,
    )
    if number is None:  # it saves nothing in a model of this size
        return
    assert advice["ways"][number]["controls"] is None
    _, content = server.ask({}, applied=[advice["ways"][number]["key"]])
    assert "--optimizer-implementation fused" in content["command"]


def test_what_was_not_shown_is_not_applied(server: Live) -> None:
    status, error = server.refused({"client": "a", "applied": ["0123456789ab"]})
    assert status == 422
    assert "is not known to this server" in error["message"]
    assert "ask for advice again" in error["hint"]
    status, error = server.refused({"client": "a", "applied": [{"rule": "prune"}]})
    assert status == 422 and "cannot be read" in error["message"]
    status, _ = server.refused({"client": "a", "applied": ["0123456789ab"] * 33})
    assert status == 422


def test_a_change_that_no_longer_goes_is_told(server: Live, advice: dict[str, Any]) -> None:
    key = advice["ways"][number_of(advice, "depthwise-separable")]["key"]
    name, error = server.ask({}, applied=[key, key])
    assert name == "failed" and error["message"]
    assert "depthwise-separable cannot be applied" in error["message"]


def test_advice_needs_the_token(server: Live) -> None:
    answer = httpx.post(f"{server.url}/advice", json={"client": "a"})
    assert answer.status_code == 401
    answer = server.client.post("/advice", json={"client": "a"}, headers={"Origin": "http://x"})
    assert answer.status_code == 403


def test_a_new_question_ends_the_search(server: Live) -> None:
    events = server.events({"batch-size": 32}, path="/advice")
    assert next(events)[0] == "progress"
    assert server.ask({"batch-size": 8})[0] == "result"
    assert list(events)[-1][0] in ("cancelled", "result")


def test_it_needs_an_input(spec: str) -> None:
    with live([Request(spec=spec)]) as running:
        name, error = running.ask({}, path="/advice")
        assert name == "failed" and "no input was given" in error["message"]


def test_keys_are_the_same_in_another_server(spec: str, advice: dict[str, Any]) -> None:
    size = Inputs(size=(3, 8, 8), batch_size=4)
    with live([Request(spec=spec, inputs=size, scenario=TRAINING)]) as running:
        other = running.advise({})
    assert [way["key"] for way in other["ways"]] == [way["key"] for way in advice["ways"]]


def test_the_page_of_advice_is_that_of_its_report(tmp_path: Path, spec: str) -> None:
    advice = tg.advise(spec, (3, 8, 8), goal="params:-50%")
    advice.save(tmp_path / "advice.html")
    text = (tmp_path / "advice.html").read_text(encoding="utf-8")
    data = data_in(text)
    assert data["advice"]["advice"] == advice.to_dict()
    assert data["answers"][0]["report"]["totals"]["params"] == advice.figures["totals.params"]
    assert "average the 8 × 8 pixels before head" in text[text.index("<noscript>") :]
