"""A notebook shows an answer once, and a terminal is left as it was."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from typing import Any

import pytest
from torch import nn

import torchgauge as tg
from torchgauge.errors import ModelError
from torchgauge.render import shell as shells


class Failing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(7, 3)

    def forward(self, x: Any) -> Any:
        return self.fc(x)


def summary(**options: Any) -> tg.Report:
    return tg.summary(nn.Linear(8, 4), (8,), **options)


def test_a_summary_is_shown_once(shell):
    report = summary()
    assert [list(bundle) for bundle in shell.published] == [["text/plain", "text/html"]]
    assert shell.stream.text == ""
    assert not shell.shown_as_value(report)
    assert len(shell.published) == 1 and shell.stream.text == ""


def test_the_next_cell_shows_the_report_again(shell):
    report = summary()
    shell.end_cell()
    assert shell.shown_as_value(report)
    assert shells._CELL.shown == []  # nothing keeps it alive
    assert shell.events.callbacks == []


def test_a_cell_that_did_not_end_well_hides_nothing_later(shell):
    report = summary()
    shell.execution_count += 1  # without the event, as after an interrupt in it
    assert shell.shown_as_value(report)


def test_another_report_of_the_same_cell_is_shown(shell):
    summary()
    assert shell.shown_as_value(tg.analyze(nn.Linear(8, 4), (8,)))


def test_display_shows_it_however_often_it_is_called(shell):
    report = summary()
    assert not hasattr(report, "_ipython_display_")  # outside the display of a cell's value


def test_show_follows_its_options(shell):
    report = tg.analyze(nn.Sequential(nn.Linear(8, 8), nn.ReLU()), (8,))
    tg.show(report, columns=("params",), details=True)
    text, html = shell.published[0]["text/plain"], shell.published[0]["text/html"]
    assert re.search(r"^ Layer +Params$", text, re.MULTILINE) and "more with" not in text
    assert re.findall(r'<th scope="col"[^>]*>([^<]*)', html)[:2] == ["Layer", "Params"]
    assert "<details" in html and "<details open" not in html
    assert html.count(" open>") == html.count("<details")
    assert shell.shown_as_value(report)  # who shows it and ends the cell in it gets both


@pytest.mark.parametrize("options", [{"width": 120}, {"ascii": True}])
def test_options_of_text_print_text(shell, options):
    report = summary(**options)
    assert shell.published == []
    assert shell.stream.text.startswith("Linear")
    assert not shell.shown_as_value(report)


def test_a_file_is_written_and_the_cell_shows_its_value(shell):
    file = io.StringIO()
    report = summary(file=file)
    assert shell.published == [] and file.getvalue().startswith("Linear")
    assert shell.shown_as_value(report)


def test_redirected_output_is_text(shell):
    with contextlib.redirect_stdout(io.StringIO()) as file:
        report = summary()
    assert shell.published == [] and file.getvalue().startswith("Linear")
    assert shell.shown_as_value(report)


def test_capture_takes_the_rich_answer_once(shell, monkeypatch):
    class CapturingDisplayPublisher(type(shell.display_pub)):  # type: ignore[misc]
        pass

    class CapturingDisplayHook:
        def __call__(self, value: object) -> None:
            pass

    shell.display_pub = CapturingDisplayPublisher()
    monkeypatch.setattr(sys, "displayhook", CapturingDisplayHook())
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    report = summary()
    assert len(shell.published) == 1 and sys.stdout.getvalue() == ""
    assert not shells.is_shown(tg.analyze(nn.Linear(8, 4), (8,)), as_value=True)
    assert not shell.shown_as_value(report)


def test_a_failure_shows_the_table_up_to_there(shell):
    with pytest.raises(ModelError) as caught:
        tg.summary(Failing(), (8,))
    assert "failed in forward" in shell.published[0]["text/plain"]
    assert shells.is_shown(caught.value.report)


def test_a_terminal_prints_as_before(capsys):
    report = summary()
    assert capsys.readouterr().out.startswith("Linear")
    assert not hasattr(report, "_ipython_display_")


def test_ipython_in_a_terminal_prints_and_shows_one_line(terminal, capsys):
    report = summary()
    assert capsys.readouterr().out.startswith("Linear") and terminal.published == []
    assert report._repr_mimebundle_() == {}
