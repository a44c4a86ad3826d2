"""An error in a cell: the message and the user's lines, while nothing of the traceback is lost."""

from __future__ import annotations

import linecache
import re
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

import torchgauge as tg
from torchgauge.errors import ModelError, TorchGaugeError, UsageError


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(7, 3)

    def forward(self, x: Any) -> Any:
        return self.fc(x)  # the line that fails


class Failing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: Any) -> Any:
        return self.inner(x)


def printed(ask: Any) -> str:
    """What IPython prints where a cell fails, without the codes of colours."""
    try:
        ask()
    except TorchGaugeError as error:
        return re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error._render_traceback_()))
    raise AssertionError("nothing failed")


def test_a_failed_model_shows_the_table_the_layer_and_its_lines(shell):
    text = printed(lambda: tg.analyze(Failing(), (8,)))
    assert text.startswith("Failing · ")
    assert "try    Linear takes 7 features" in text
    assert "more with" not in text
    _, _, end = text.partition("\nModelError: ")
    assert end.startswith("inner.fc (Linear) failed in forward: RuntimeError: ")
    assert "it got" not in end  # the table says it
    places = re.findall(r"^\S+test_failures\.py, line \d+, in (.*)\n    (.*)$", end, re.MULTILINE)
    assert places[-2:] == [
        ("Failing.forward", "return self.inner(x)"),
        ("Inner.forward", "return self.fc(x)  # the line that fails"),
    ]
    assert "tg.analyze(Failing(), (8,))" in places[1][1]
    assert end.endswith("%tb shows the whole traceback")
    for ours in (str(Path(tg.__file__).parent), "torch/nn", "IPython"):
        assert ours not in end


def test_a_summary_has_shown_the_table_already(shell):
    text = printed(lambda: tg.summary(Failing(), (8,)))
    assert len(shell.published) == 1
    assert text.startswith("ModelError: inner.fc (Linear) failed in forward")
    assert "it got" not in text and "try" not in text  # the cell has shown it
    assert "try    Linear takes 7 features" in shell.published[0]["text/plain"]


def test_a_wrong_request_shows_the_message_and_where_it_was_made(shell):
    text = printed(lambda: tg.analyze(nn.Linear(8, 4), (8,), mod="training"))
    assert text.startswith("UsageError: mod=")
    assert "try: did you mean mode?" in text
    assert "test_failures.py" in text and len(text.splitlines()) < 12


def test_a_cell_is_called_as_ipython_calls_it(shell):
    code = compile("def ask():\n    tg.analyze(net, (8,), mod=1)", "<cell 1>", "exec")
    names: dict[str, Any] = {"tg": tg, "net": nn.Linear(8, 4), "__name__": "__main__"}
    exec(code, names)
    assert "\nCell In[1], line 2, in ask\n" in printed(names["ask"])


def test_an_ipython_that_names_no_cells_shows_the_file(shell):
    shell.compile = SimpleNamespace()
    text = printed(lambda: tg.analyze(nn.Linear(8, 4), (8,), mod="training"))
    assert re.search(r"^\S+test_failures.py, line \d+, in", text, re.MULTILINE)


def test_a_magic_is_shown_as_it_was_typed(shell):
    source = "get_ipython().run_line_magic('gauge', 'net (8,) mode=\"x\"')"
    lines = [f"{source}\n"]
    linecache.cache["<cell 1>"] = (len(source), None, lines, "<cell 1>")

    def fail(name: str, line: str) -> None:
        raise UsageError("wrong")

    names = {"get_ipython": lambda: SimpleNamespace(run_line_magic=fail), "__name__": "__main__"}
    text = printed(lambda: exec(compile(source, "<cell 1>", "exec"), names))
    assert '\nCell In[1], line 1\n    %gauge net (8,) mode="x"\n' in text


def test_tb_shows_the_whole_traceback(shell):
    shell.InteractiveTB = SimpleNamespace(
        structured_traceback=lambda kind, error, start, tb_offset: traceback.format_exception(error)
    )
    with pytest.raises(ModelError) as caught:
        tg.analyze(Failing(), (8,))
    assert sys.exc_info()[1] is None  # as where %tb asks: nothing is being handled
    whole = "".join(caught.value._render_traceback_())
    assert "torchgauge/analyze.py" in whole and "torch/nn/modules" in whole
    assert len(whole.splitlines()) > 40


def test_a_long_chain_of_calls_is_cut_to_its_ends(shell):
    def deep(level: int) -> None:
        if level:
            deep(level - 1)
        raise UsageError("too deep")

    text = printed(lambda: deep(50))
    assert text.count("test_failures.py") == 9
    assert text.count("deep(level - 1)") == 7


def test_plain_python_prints_the_traceback():
    try:
        tg.analyze(nn.Linear(8, 4), (8,), mod="training")
    except UsageError as error:
        assert "Traceback (most recent call last)" in "".join(traceback.format_exception(error))
