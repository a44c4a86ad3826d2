"""The page of a check, and its JSON."""

from __future__ import annotations

import json

import jsonschema
import pytest

import check_builder as build
from torchgauge.facts.codec.wire import schema
from torchgauge.facts.loop.check import CheckReport, Outcome
from torchgauge.render import FORMATS, get_format
from torchgauge.render.pages.loop.check import check_page


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(golden, name):
    options = {"width": 100} if name == "text" else {}
    suffix = "txt" if name == "text" else name
    golden(f"check.{suffix}", get_format(name, **options).render(check_page(build.everything())))


def test_against_a_base(golden):
    page = check_page(build.against_base())
    golden("check_base.markdown", get_format("markdown").render(page))


@pytest.mark.parametrize("made", [build.within, build.everything, build.against_base])
def test_json_is_valid_under_the_schema_of_the_type(made):
    report = made()
    data = json.loads(report.to_json())
    jsonschema.validate(data, schema(CheckReport))
    assert data["exit_status"] == report.exit_status


def test_the_exit_status_is_the_highest():
    assert build.within().exit_status == 0
    over = build.model("a", build.limit(outcome=Outcome.OVER))
    unknown = build.model("b", build.limit(outcome=Outcome.ERROR))
    failed = build.model("c", error="x", error_status=3)
    assert build.check(build.model(), over).exit_status == 1
    assert build.check(unknown, over).exit_status == 2
    assert build.check(over, failed, unknown).exit_status == 3
