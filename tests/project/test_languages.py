"""Every text that a person reads has a translation, with the same values, options and names."""

from __future__ import annotations

import re

import pytest

import update_catalogue
from catalogue_texts import texts_of
from torchgauge.language.po import Entry, parse
from update_catalogue import catalogues, current_entries, faults

_KEPT = re.compile(r"--[a-z-]+|`[^`]*`|\b[a-z]\w*[._/]\w[\w./]*|\b[A-Z]{2,}\w*|\d[\d.]*|hf:\w+")
"""Options, code, names, abbreviations and figures: they are the same in every language."""
_OTHERWISE = {"GPUs", "CPUs", "GPU", "DTensors", "samples/s", "3"}
"""Plurals, a unit, and 3-D, which Chinese writes in words."""


def test_the_catalogues_are_current_and_complete(capsys):
    assert update_catalogue.main(["--check"]) == 0, capsys.readouterr().out + "run `make languages`"


@pytest.mark.parametrize(("language", "path"), list(catalogues()))
def test_options_names_and_figures_are_kept(language, path):
    lost = [
        (entry.msgid, word)
        for entry in parse(path.read_text(encoding="utf-8"))
        for word in _KEPT.findall(re.sub(r"\{\d+\}", "", entry.msgid))
        if word.strip(".,;:)`") not in entry.msgstr and word not in _OTHERWISE
    ]
    assert not [pair for pair in lost if pair[1] != "``"]


def test_a_missing_translation_and_a_lost_value_are_found():
    entries = [
        Entry("{1} of {2}", "{2} 的 {1:text}"), Entry("{1} is gone", "没有了"),
        Entry("{1} here", "{1}{1}"), Entry("new", ""),
    ]  # fmt: skip
    assert list(faults(entries)) == [
        "not the same values: '{1} is gone' and '没有了'",
        "not the same values: '{1} here' and '{1}{1}'", "not translated: 'new'",
    ]  # fmt: skip


def test_an_update_keeps_translations_and_drops_what_is_gone():
    known = [Entry("old", "旧"), Entry("gone", "没有")]
    assert current_entries(known, {"old": ["a.py"], "new": ["b.py"]}) == [
        Entry("old", "旧", ("a.py",)), Entry("new", "", ("b.py",))
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        (
            'raise UsageError(f"{a} is not a size", hint="write 3,224")',
            ["{1} is not a size", "write 3,224"],
        ),
        ('notes.append(f"{a}{b} of {c} are taken")', ["{1} of {2} are taken"]),
        ('f"{x} takes {f(y) if z else \'nothing at all\'}"', ["{1} takes {2}", "nothing at all"]),
        (
            'text = "the sum" + (" so far" if failed else "") + " is wrong"',
            ["the sum{1} is wrong", " so far"],
        ),
        ('"""A docstring is not a message."""', []),
        ('assert x, "this is for developers only"', []),
        ('re.compile("a pattern of words")', []),
        ('x == "a name that is compared"', []),
        ('on_progress("writing")', ["writing"]),
        ('parser.add_argument("--x", metavar="SOME NAME", help="repeatable")', ["repeatable"]),
    ],
)  # fmt: skip
def test_what_is_a_text(source, texts):
    assert texts_of(source) == texts


def test_labels_are_texts_where_pages_are_made():
    source = 'fact("Params", format_number_of(n, "layer"))'
    assert texts_of(source, labels=True) == ["Params", "{1} layer", "{1} layers"]
    assert texts_of(source) == ["{1} layer", "{1} layers"]
