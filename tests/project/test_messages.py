"""docs/messages.md lists the texts of the source as they are now."""

from __future__ import annotations

import pytest

import list_messages
from list_messages import ERRORS, FINDINGS, HELP, OTHER, WARNINGS, messages_of


def test_the_page_is_current():
    assert list_messages.main(["--check"]) == 0, "run `make messages`"


def test_every_kind_of_text_is_found():
    found = messages_of(
        '''
"""A docstring is not a message at all."""
_HINT = "name one of the devices"

def f(x):
    """Return what nobody prints anywhere."""
    if x:
        raise UsageError(f"{x!r} is not a device" + ", sorry", hint=_HINT)
    warnings.warn("this is a " + ("large" if x else "small") + " change", stacklevel=2)
    parser.add_argument("--x", metavar="NAME", help="which one of these to take")
    Finding(problem="the driver is too old", commands=("sudo apt install driver",))
    notes.append(f"the size {x} was taken as given")
    return re.compile("a pattern of some words")
'''
    )
    assert found == {
        ERRORS: ["{…} is not a device, sorry *try* name one of the devices"],
        WARNINGS: ["this is a large ⟋ small change"],
        HELP: ["which one of these to take"],
        FINDINGS: ["the driver is too old", "sudo apt install driver"],
        OTHER: ["name one of the devices", "the size {…} was taken as given"],
    }


def test_known_messages_are_on_the_page():
    page = list_messages.PAGE.read_text(encoding="utf-8")
    for text in (
        "is a class, not a model *try* create one: {…}(...)",
        "answer HTTP requests with a packaged model",
        "### environment/rules/driver.py",
        "### trace/run/runs.py",
    ):
        assert text in page, text


@pytest.mark.parametrize(
    "text",
    [
        "aten.mm aten.bmm aten.mv",
        "acos acosh asin asinh atan atanh cos cosh erf erfc exp exp2 log log2",
        "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        ":root { color-scheme: light dark; --text: #1f2328; }",
        '<div class="scroll"><table class="facts"> and so on',
        "out of memory|not enough memory",
        "Size | Sequence[int] | None | int",
    ],
)
def test_what_no_user_meets_is_left_out(text):
    assert not any(messages_of(f"x = {text!r}").values())


def test_words_alone_are_no_list_of_operators():
    text = "exit with another status when a figure of a listed device follows from a rule"
    assert messages_of(f"x = {text!r}")[OTHER] == [text]
