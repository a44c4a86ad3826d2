"""``%gauge``: what a line asks for, and what is said of one that asks for nothing."""

from __future__ import annotations

import pytest
from fake_shell import Shell, running_in
from torch import nn

import torchgauge as tg
from torchgauge.errors import UsageError
from torchgauge.notebook.line import USAGE, asked_by

NAMES = {"net": "the net", "nets": {"a b": "another"}, "n": 3, "training": True, "T4": 1}


@pytest.mark.parametrize(
    ("line", "model", "size", "options"),
    [
        ("net", "the net", None, {}),
        ("net (3, 224, 224)", "the net", (3, 224, 224), {}),
        ("  net   3,224,224  ", "the net", (3, 224, 224), {}),
        ("net (n, 2 * n)", "the net", (3, 6), {}),
        ("nets['a b'] [(3, 32), (10,)]", "another", [(3, 32), (10,)], {}),
        ("net {'ids': (1, n)}", "the net", {"ids": (1, 3)}, {}),
        ("torchvision:resnet18 (3,)", "torchvision:resnet18", (3,), {}),
        ("file.py:Net(width=2) (3,)", "file.py:Net(width=2)", (3,), {}),
        ("'hf:bert' (3,)", "hf:bert", (3,), {}),
        ("net mode=training device=T4", "the net", None, {"mode": "training", "device": "T4"}),
        ("net device=(T4)", "the net", None, {"device": 1}),
        ("net device='RTX 3060 12GB'", "the net", None, {"device": "RTX 3060 12GB"}),
        ("net precision=bf16-autocast", "the net", None, {"precision": "bf16-autocast"}),
        ("net checkpointing=True", "the net", None, {"checkpointing": True}),
        ("net optimizer=None", "the net", None, {"optimizer": None}),
        ("net batch_size=n", "the net", None, {"batch_size": 3}),
        ("net columns=['params', 'macs']", "the net", None, {"columns": ["params", "macs"]}),
        ("net input_data=nets", "the net", None, {"input_data": {"a b": "another"}}),
        ("net model_name='say \\'=\\''", "the net", None, {"model_name": "say '='"}),
    ],
)
def test_lines(line, model, size, options):
    asked = asked_by(line, NAMES)
    assert (asked.model, asked.size, asked.options) == (model, size, options)


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("", "no model was named", USAGE),
        ("mode=training", "no model was named", USAGE),
        ("nt (3,)", "name 'nt' is not defined", "run the cell that defines it"),
        ("net (3, x)", "name 'x' is not defined", "run the cell"),
        ("net (3,) (4,)", "'(4,)' is neither the model, one size nor keyword=value", USAGE),
        ("net mode=training (3,)", "'(3,)' is neither the model, one size nor", "are a list"),
        ("net mode = training", "'mode' is not", ""),
        ("net mode=", "mode= has no value", "write mode=value, without spaces around ="),
        ("net (3,", "a bracket is not closed in net (3,", USAGE),
        ("net device='T4", "a quote is not closed in net device='T4", USAGE),
        ("net 3:4", "'3:4' is not a Python expression", USAGE),
        ("net n=1 n=2", "n is given twice", "leave one out"),
        ("1/0", "1/0: ZeroDivisionError: division by zero", USAGE),
    ],
)
def test_what_is_said_of_a_wrong_line(line, message, hint):
    if line == "net mode = training":  # "mode" is read as a size
        message, hint = "name 'mode' is not defined", "run the cell"
    with pytest.raises(UsageError) as caught:
        asked_by(line, NAMES)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_the_magic_shows_once_and_returns_the_report(monkeypatch):
    shell = Shell()
    tg.load_ipython_extension(shell)
    shell.user_ns = {"net": nn.Linear(8, 4), "n": 2}
    with running_in(shell, monkeypatch):
        report = shell.magics["gauge"]("net (8,) mode=training batch_size=n", local_ns={"n": 5})
        assert report.batch_size == 5 and str(report.scenario.mode) == "training"
        assert len(shell.published) == 1 and not shell.shown_as_value(report)
    assert "%gauge MODEL [SIZE]" in shell.magics["gauge"].__doc__
    tg.unload_ipython_extension(shell)
    assert shell.magics == {}
