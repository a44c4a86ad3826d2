"""The published JSON Schema is what the types give, and stored reports are valid under it."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import jsonschema
import pytest

import report_builder as build
from torchgauge.facts.codec.wire import schema, to_json
from torchgauge.facts.report import Report

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs" / "report.schema.json"
STORED = sorted((ROOT / "tests" / "golden" / "version_1").glob("*.json"))


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(published)
    return jsonschema.Draft202012Validator(published)


def test_the_published_schema_is_that_of_the_types(golden):
    golden(f"../../docs/{PUBLISHED.name}", json.dumps(schema(Report), indent=2))


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_the_first_files_of_version_1_are_valid(validator, path):
    validator.validate(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", build.ALL)
def test_reports_are_valid(validator, name):
    validator.validate(json.loads(to_json(build.ALL[name]())))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("schema_version",), 2), (("totals", "params"), "many"), (("model",), None),
        (("scenario", "mode"), "cooking"), (("memory", "at_peak"), {"soup": 1}),
        (("inputs", 0, "batch_dims"), [[1]]),
    ],
)  # fmt: skip
def test_what_is_damaged_is_not_valid(validator, place, value):
    data = copy.deepcopy(build.simple_cnn().to_dict())
    target = data
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    assert not validator.is_valid(data)
