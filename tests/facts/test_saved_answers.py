"""Every answer that a command writes as JSON opens again in its own type."""

from __future__ import annotations

import inspect
import json
from importlib import import_module

import pytest

import fit_builder
import report_builder as build
import torchgauge as tg
from answer_builder import answers
from torchgauge.cli.main import main
from torchgauge.compare.reports import compare_reports
from torchgauge.errors import ReportFormatError
from torchgauge.facts.io import KINDS, load_step
from torchgauge.render import get_format
from torchgauge.render.pages import page_of

WRITTEN = {name: item for name, item in answers().items() if hasattr(item, "to_json")}
MORE = {
    "failed": build.failed(),
    "guessed": fit_builder.close(),
    "generation": fit_builder.generation(),
    "many devices": fit_builder.many(),
    "nothing changed": compare_reports(build.transformer(2), build.transformer(2)),
}


@pytest.mark.parametrize("name", [*WRITTEN, *MORE])
def test_an_answer_opens_in_its_own_type(tmp_path, name):
    answer = {**WRITTEN, **MORE}[name]
    path = tmp_path / "answer.json"
    path.write_text(answer.to_json(), encoding="utf-8")
    again = tg.load(path)
    assert type(again) is type(answer) and again == answer
    assert again.to_json() == answer.to_json()
    assert str(again) == str(answer)
    text = get_format("text")
    assert text.render(page_of(again)) == text.render(page_of(answer))


def test_every_answer_that_is_written_is_known():
    """A new one has to be added to the table of kinds."""
    report = f"{type(build.failed()).__module__}:Report"
    assert {kind.place for kind in KINDS} | {report} == set(WRITTEN)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.place)
def test_its_names_tell_an_answer_from_all_others(kind):
    those = {
        name for name, item in WRITTEN.items() if kind.names <= set(json.loads(item.to_json()))
    }
    assert those == {kind.place}
    module, _, name = kind.place.partition(":")
    assert inspect.isclass(getattr(import_module(module), name))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.place)
def test_a_damaged_answer_is_refused_by_field(tmp_path, kind):
    """Whatever is missing besides what tells it: the message names it, or nothing is lost."""
    whole = json.loads(WRITTEN[kind.place].to_json())
    path = tmp_path / "answer.json"
    for name in [*whole]:
        if name in kind.names:
            continue
        path.write_text(json.dumps({**whole, name: {"no": "such thing"}}), encoding="utf-8")
        try:
            again = json.loads(tg.load(path).to_json())
        except ReportFormatError as error:
            assert name in error.message and error.hint
        else:
            assert again == whole, name  # worked out from the others, and not read


def test_another_version_is_refused(tmp_path):
    path = tmp_path / "fit.json"
    path.write_text(json.dumps({**fit_builder.report().to_dict(), "schema_version": 9}))
    with pytest.raises(ReportFormatError, match="schema_version 9 is not known"):
        tg.load(path)


@pytest.mark.parametrize(
    ("names", "called"),
    [
        ("devices local_gpus schema_version", "a list of devices"),
        ("file device schema_version", "a measured device"),
        ("folder model signature comparisons", "the record of a package"),
    ],
)
def test_what_is_no_answer_is_named(tmp_path, names, called):
    path = tmp_path / "other.json"
    path.write_text(json.dumps(dict.fromkeys(names.split(), 1)))
    with pytest.raises(ReportFormatError, match=f"this is {called}, not an answer") as caught:
        tg.load(path)
    assert caught.value.hint == "read it as plain JSON, with json.load"


def test_a_list_of_devices_is_no_answer(tmp_path):
    path = tmp_path / "devices.json"
    assert main(["devices", "T4", "--output", str(path), "--quiet"]) == 0
    with pytest.raises(ReportFormatError, match="this is a list of devices, not an answer"):
        tg.load(path)


@pytest.mark.parametrize(
    "name", ["torchgauge.facts.fit:FitReport", "torchgauge.facts.time:TimeComparison"]
)
def test_another_answer_is_no_side_of_a_comparison(tmp_path, capsys, name):
    path, report = tmp_path / "other.json", tmp_path / "report.json"
    path.write_text(WRITTEN[name].to_json())
    build.simple_cnn().save(report)
    called = next(kind.called for kind in KINDS if kind.place == name)
    with pytest.raises(ReportFormatError, match=f"this is {called}, not a report"):
        load_step(path)
    assert main(["compare", str(report), str(path)]) == 2
    assert f"this is {called}, not a report" in capsys.readouterr().err
