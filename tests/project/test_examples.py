"""Every example runs by itself, and is short."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

SHOWS = {
    "simple_cnn.py": "401,484,648",
    "custom_op.py": "with:    786432 MACs, not counted: []",  # 128·64·32 + 128·32·128
    "tied_and_functional.py": "76,288",  # 1000·64 + 3·64·64
    "transformer_training.py": "adamw",
}


def test_every_example_has_an_expectation():
    assert {path.name for path in EXAMPLES} == set(SHOWS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(path):
    done = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, encoding="utf-8", timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert SHOWS[path.name] in done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_is_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60
