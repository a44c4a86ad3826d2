"""What is said of arguments that are meant otherwise: each names what to write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.cli.main import main
from torchgauge.cli.progress import Progress
from torchgauge.errors import InputError, ScenarioError, UsageError

X = torch.zeros(2, 8)


@pytest.mark.parametrize("given", [X, [X], {"input": X}, (X, X), np.zeros((2, 8)), [np.zeros(8)]])
def test_tensors_in_place_of_sizes(given: Any) -> None:
    with pytest.raises(InputError, match="got tensors or arrays") as caught:
        tg.analyze(nn.Linear(8, 8), given)
    assert caught.value.hint is not None
    assert "input_data=…" in caught.value.hint


@pytest.mark.parametrize("size", [(2, 8), [2, 8], np.array([2, 8]), torch.Size([2, 8])])
def test_sizes_of_any_kind_are_sizes(size: Any) -> None:
    assert tg.analyze(nn.Linear(8, 8), size).totals.forward_macs == 2 * 8 * 8


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("dtype", "float32", 'write dtypes=["float32"]'),
        ("dtype", torch.float16, 'write dtypes=["float16"]'),
        ("batch", 4, "write batch_size=4"),
        ("data", X, "write input_data=…"),
    ],
)
def test_arguments_by_a_near_name(name: str, value: Any, hint: str) -> None:
    with pytest.raises(UsageError, match=r"Linear\.forward has no such argument") as caught:
        tg.analyze(nn.Linear(8, 8), (2, 8), **{name: value})
    assert caught.value.hint == hint


def test_a_forward_that_has_such_an_argument_gets_it() -> None:
    class Casts(nn.Linear):
        def forward(self, x: torch.Tensor, dtype: Any = None) -> torch.Tensor:
            return super().forward(x).to(dtype)

    report = tg.analyze(Casts(8, 8), (2, 8), dtype=torch.float64)
    assert report.outputs[0].tensor is not None
    assert report.outputs[0].tensor.dtype == "float64"


@pytest.mark.parametrize(
    ("optimizer", "meant"),
    [
        ("torch.optim.SparseAdam", "torch.optim:SparseAdam"),
        ("SparseAdam", "torch.optim:SparseAdam"),
        ("bitsandbytes.optim.AdamW8bit", "bitsandbytes.optim:AdamW8bit"),
        ("AdamW", "torch.optim:AdamW"),
    ],
)
def test_a_class_of_an_optimizer_is_named_with_a_colon(
    optimizer: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ScenarioError) as caught:
        tg.Scenario(mode="training", optimizer=optimizer)
    assert caught.value.hint == f"a class is named package.module:Class: {meant}"
    arguments = ["summary", "x.py:X", "--mode", "training", "--optimizer", optimizer]
    assert main(arguments) == 2
    assert f"a class is named package.module:Class: {meant}" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["-1,8", "-1,3,8", "x=-1,8", "3,-1"])
@pytest.mark.parametrize("form", ["apart", "joined"])
def test_negative_dimensions(size: str, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--input-size", size] if form == "apart" else [f"--input-size={size}"]
    assert main(["summary", "x.py:X", *given]) == 2
    said = capsys.readouterr().err
    assert f"'{size}' has a negative dimension; give the size of the batch" in said


@pytest.mark.parametrize("where", ["import", "constructor", "function", "default"])
def test_why_a_program_ended_is_said(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bodies = {
        "import": "import sys\nsys.exit('set DATA_DIR first')\n",
        "constructor": "import sys\nclass M:\n    def __init__(self):\n"
        "        sys.exit('set DATA_DIR first')\n",
        "function": "def M():\n    raise SystemExit('set DATA_DIR first')\n",
        "default": "import sys\ndef M(x=1):\n    sys.exit('set DATA_DIR first')\n",
    }
    (tmp_path / f"ends_{where}.py").write_text(bodies[where], encoding="utf-8")
    assert main(["summary", f"{tmp_path / f'ends_{where}.py'}:M", "--input-size", "2,8"]) != 0
    assert ": set DATA_DIR first)" in capsys.readouterr().err


def test_a_note_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        for text in ("real run on the CPU: a", "real run on the CPU: a", "real run on the CPU: b"):
            progress.update(text)
        progress.update("trace 3: batch 8")
    said = capsys.readouterr().err
    assert said == "note: real run on the CPU: a\nnote: real run on the CPU: b\n"


def test_a_long_silence_is_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("torchgauge.cli.progress.time.monotonic", lambda: clock[0])
    with Progress() as progress:
        for seconds in (1.0, 14.0, 16.0, 20.0, 40.0):
            clock[0] = seconds
            progress.update(f"trace at {seconds:.0f}")
    assert capsys.readouterr().err == "note: trace at 16\nnote: trace at 40\n"
