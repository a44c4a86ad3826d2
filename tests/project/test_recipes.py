"""The recipes of docs/architecture.md: short, and each of them works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.facts.codec.wire import to_json
from torchgauge.render import FORMATS, get_format
from torchgauge.render.page import Fact, Facts, Page

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
MOST_LINES = 10


def recipe(title: str, language: str) -> str:
    """Return the one block below a heading."""
    section = PAGE[PAGE.index(f"\n### {title}\n") :].split("\n### ")[1]
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return block


def test_recipes_are_short():
    section = PAGE[PAGE.index("\n## Recipes\n") :]
    blocks = re.findall(r"^```\w+\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        lines = [line for line in block.splitlines() if line.strip()]
        written = [line for line in lines if line.startswith("+")] or lines
        assert len(written) <= MOST_LINES, block


@pytest.fixture
def masked_product():
    library = torch.library.Library("recipes", "DEF")
    library.define("masked_product(Tensor left, Tensor right) -> Tensor")
    library.impl("masked_product", lambda a, b: torch.tril(a @ b), "CompositeExplicitAutograd")
    yield torch.ops.recipes.masked_product
    library._destroy()


def test_an_operators_formula(masked_product):
    class Block(nn.Module):
        def forward(self, x):
            return masked_product(x, x.T)

    before = tg.analyze(Block(), input_data=torch.ones(5, 7))
    exec(recipe("Add an operator's formula", "python"), {"__name__": __name__})
    after = tg.analyze(Block(), input_data=torch.ones(5, 7))
    assert [gap.op for gap in before.not_counted] == ["recipes.masked_product.default"]
    assert (after.not_counted, after.totals.forward_flops) == ((), 2 * 5 * 7 * 5)


def test_a_gpu(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("torchgauge-devices.toml").write_text(recipe("Add a GPU", "toml"), encoding="utf-8")
    report = tg.analyze(nn.Linear(8, 8), (4, 8), scenario=tg.Scenario(device="Lab card"))
    assert report.memory.capacity_bytes == 50_000_000_000
    assert report.time.total_ms > 0


def applied(diff: str, package: Path) -> None:
    """Apply a recipe: a line without a sign names a file, one with ``+`` goes below the last."""
    path, text, place = package, "", 0
    for line in diff.splitlines():
        if line.endswith(".py") and not line.startswith(("+", " ")):
            path = package / line
            text, place = path.read_text(encoding="utf-8") if path.exists() else "", 0
        elif line.startswith("+"):
            text = f"{text[:place]}{line[1:]}\n{text[place:]}"
            place += len(line)
            path.write_text(text, encoding="utf-8")
        else:
            assert text.count(f"{line[1:]}\n") == 1, line
            place = text.index(line[1:]) + len(line[1:]) + 1


def test_a_model_source(tmp_path):
    shutil.copytree(ROOT / "src" / "torchgauge", tmp_path / "torchgauge")
    applied(recipe("Add a model source", "diff"), tmp_path / "torchgauge")
    done = subprocess.run(
        [sys.executable, "-m", "torchgauge", "summary", "toy:41", "--input-size", "1,41"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path,
        capture_output=True, text=True, encoding="utf-8", timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Toy ")
    assert " 42" in done.stdout


def test_a_format(tmp_path, monkeypatch):
    (tmp_path / "headings.py").write_text(recipe("Add a format", "python"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    block = Facts(heading="Memory", facts=(Fact(label="Peak", segments=("1 GiB",)),))
    page = Page(title=("ResNet", "training"), blocks=(block,))
    assert get_format("import:headings:Headings").render(page) == "ResNet\nMemory"


def test_an_answer():
    names = {"Fact": Fact, "Facts": Facts, "Page": Page, "dataclass": dataclass}
    names["__name__"] = __name__
    exec(recipe("Add an answer", "python"), names)
    answer = names["Depth"](levels=3)
    page = names["depth_page"](answer)
    for name in FORMATS:
        assert "3" in get_format(name).render(page)
    assert '"levels": 3' in to_json(answer)


def test_the_walk_names_every_package_of_trace_once():
    walk = PAGE[PAGE.index("\n## From `summary()`") : PAGE.index("\n## The words")]
    entered = re.findall(r"\*\*(trace/\w+)\*\*", walk)
    folders = {path.name for path in (ROOT / "src/torchgauge/trace").iterdir() if path.is_dir()}
    packages = {f"trace/{name}" for name in folders - {"__pycache__", "torch_internals"}}
    assert sorted(entered) == sorted(packages)
