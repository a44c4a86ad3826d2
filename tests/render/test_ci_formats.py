"""What CI services read, held against what their specifications ask for.

No copy of a public schema is kept here. ``SARIF`` and the checks of JUnit are written from the
specifications that ``torchgauge.render.ci`` names, and are stricter in what they let pass.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import jsonschema
import pytest

import check_builder as build
from torchgauge.language import spoken
from torchgauge.render.ci import CI_FORMATS, ci_text

TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}
PLACE = {
    "type": "object",
    "required": ["physicalLocation"],
    "properties": {
        "physicalLocation": {
            "type": "object",
            "required": ["artifactLocation", "region"],
            "properties": {
                "artifactLocation": {
                    "required": ["uri"],
                    "properties": {"uri": {"type": "string", "pattern": r"^[\w./%-]+$"}},
                },
                "region": {
                    "required": ["startLine"],
                    "properties": {"startLine": {"type": "integer", "minimum": 1}},
                },
            },
        }
    },
}
RESULT = {
    "type": "object",
    "required": ["ruleId", "ruleIndex", "level", "message", "locations", "partialFingerprints"],
    "additionalProperties": False,
    "properties": {
        "ruleId": {"type": "string"},
        "ruleIndex": {"type": "integer", "minimum": 0},
        "level": {"enum": ["none", "note", "warning", "error"]},
        "message": TEXT,
        "locations": {"type": "array", "items": PLACE, "minItems": 1},
        "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool", "results", "invocations"],
                "additionalProperties": False,
                "properties": {
                    "tool": {
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "required": ["name", "version", "rules"],
                                "properties": {
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "required": ["id"],
                                            "properties": {"shortDescription": TEXT},
                                        },
                                    }
                                },
                            }
                        },
                    },
                    "invocations": {
                        "type": "array",
                        "items": {
                            "required": ["executionSuccessful"],
                            "properties": {"executionSuccessful": {"type": "boolean"}},
                        },
                    },
                    "results": {"type": "array", "items": RESULT},
                },
            },
        },
    },
}
CODE_QUALITY = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "properties": {
            "description": {"type": "string"},
            "check_name": {"type": "string"},
            "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "required": ["path", "lines"],
                "properties": {
                    "path": {"type": "string", "pattern": r"^[^/.]"},
                    "lines": {"required": ["begin"]},
                },
            },
        },
    },
}
WRONG = 5
"""Things that are wrong in ``build.everything()``."""


def test_sarif():
    log = json.loads(ci_text("sarif", build.everything()))
    jsonschema.validate(log, SARIF)
    run = log["runs"][0]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(run["results"]) == WRONG
    assert all(rules[result["ruleIndex"]] == result["ruleId"] for result in run["results"])
    place = run["results"][0]["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == ("pyproject.toml", 4)
    assert run["invocations"] == [{"executionSuccessful": False}]
    text = run["results"][0]["message"]["text"]
    assert text == (
        "net: max-params: 10,400,000, 200,000 over the limit of 10,200,000 "
        "(baseline 10,000,000 + 2 %) (+1.96 %)\n"
        "grew most since the baseline: head.fc Linear: +200,000"
    )


def test_gitlab():
    found = json.loads(ci_text("gitlab", build.everything()))
    jsonschema.validate(found, CODE_QUALITY)
    assert len(found) == WRONG == len({item["fingerprint"] for item in found})
    assert [item["severity"] for item in found] == [
        "major", "major", "blocker", "major", "blocker",
    ]  # fmt: skip


def test_a_finding_keeps_its_fingerprint_when_its_figure_changes():
    one = build.check(build.model("net", build.limit(outcome="over", value=11e6)))
    other = build.check(build.model("net", build.limit(outcome="over", value=12e6, line=9)))
    marks = [json.loads(ci_text("gitlab", report))[0]["fingerprint"] for report in (one, other)]
    assert marks[0] == marks[1]


def check_junit(text: str) -> ET.Element:
    root = ET.fromstring(text)
    assert root.tag == "testsuites"
    for suite in root:
        assert suite.tag == "testsuite" and {"name", "tests", "failures", "errors"} <= {
            *suite.keys()
        }
        assert int(suite.get("tests")) == len(suite)
        for kind in ("failure", "error"):
            cases = suite.findall(f"testcase/{kind}")
            assert int(suite.get(f"{kind}s")) == len(cases)
        for case in suite:
            assert case.tag == "testcase" and {*case.keys()} == {"name", "classname"}
            assert all({*part.keys()} == {"message", "type"} for part in case)
            assert {part.tag for part in case} <= {"failure", "error"}
    for count in ("tests", "failures", "errors"):
        assert int(root.get(count)) == sum(int(suite.get(count)) for suite in root)
    return root


def test_junit():
    root = check_junit(ci_text("junit", build.everything()))
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("5", "3", "2")
    case = root.find("testsuite[@name='net']/testcase[@name='fits T4']")
    assert case.find("failure").text.splitlines() == [
        "fits T4: does not fit; the largest batch is 41: 20.00 GiB needed, 15.00 GiB usable",
        "largest at the peak: layer1.0.conv Conv2d: 1.00 GiB",
        "pyproject.toml:5",
    ]
    assert root.find("testsuite[@name='broken']/testcase/error").get("message") == (
        "Net failed: it got: x [1]"
    )


def test_junit_takes_any_name():
    hostile = build.model("\x00\x1b[1m</testsuite>\ud83d", build.limit(detail="\x08"))
    check_junit(ci_text("junit", build.check(hostile)))


COMMAND = re.compile(r"::error file=[^,:]+,line=\d+,title=[^,:]+::[^\r\n]+")


def test_github():
    lines = ci_text("github", build.everything()).splitlines()
    commands = [line for line in lines if line.startswith("::")]
    assert len(commands) == WRONG
    assert all(COMMAND.fullmatch(line) for line in commands)
    assert commands[0].startswith(
        "::error file=pyproject.toml,line=4,title=torchgauge%3A net%3A max-params::"
    )
    assert commands[0].endswith("%0Agrew most since the baseline: head.fc Linear: +200,000")
    assert "a%2Cb%3A 100 %25 <x>" in commands[2]
    assert lines[-1] == "torchgauge: 1 over budget, 2 could not be checked, of 4 models"


def test_a_name_cannot_begin_a_command():
    hostile = build.model("x\n::stop-commands::y", build.limit())
    lines = ci_text("github", build.check(hostile)).splitlines()
    assert not [line for line in lines if line.startswith("::")]


@pytest.mark.parametrize("name", CI_FORMATS)
def test_within_budget_nothing_is_wrong(name):
    text = ci_text(name, build.within())
    assert "over" not in text.replace("forward", "") or name == "sarif"
    if name == "gitlab":
        assert json.loads(text) == []
    if name == "sarif":
        assert json.loads(text)["runs"][0]["results"] == []
    if name == "junit":
        assert check_junit(text).get("failures") == "0"


# ---------------------------------------------------------------------------- in Chinese


def in_chinese(name):
    with spoken("zh"):
        return ci_text(name, build.everything())


@pytest.mark.parametrize("name", CI_FORMATS)
def test_what_people_read_is_in_the_language(name):
    text = in_chinese(name)
    text = text.encode().decode("unicode_escape") if name in ("gitlab", "sarif") else text
    for words in ("over by", "does not fit", "the largest batch", "no time can be"):
        assert words not in text
    for words in ("超出", "放不下；最大批大小为 41", "无法为该设备预测时间"):
        assert words in text


def test_what_programs_go_by_is_the_same_in_every_language():
    english, chinese = (
        json.loads(ci_text("gitlab", build.everything())),
        json.loads(in_chinese("gitlab")),
    )
    for one, other in zip(english, chinese, strict=True):
        assert {**one, "description": ""} == {**other, "description": ""}
    english, chinese = (
        json.loads(text)["runs"][0]
        for text in (ci_text("sarif", build.everything()), in_chinese("sarif"))
    )
    assert [rule["id"] for rule in english["tool"]["driver"]["rules"]] == [
        rule["id"] for rule in chinese["tool"]["driver"]["rules"]
    ]
    for one, other in zip(english["results"], chinese["results"], strict=True):
        assert {**one, "message": 0} == {**other, "message": 0}
    cases = [
        [case.attrib for case in ET.fromstring(text).iter("testcase")]
        for text in (ci_text("junit", build.everything()), in_chinese("junit"))
    ]
    assert cases[0] == cases[1]
    heads = [
        re.findall(r"^::error [^:]*::", text, re.M)
        for text in (ci_text("github", build.everything()), in_chinese("github"))
    ]
    assert len(heads[0]) == 5 and heads[0] == heads[1]
