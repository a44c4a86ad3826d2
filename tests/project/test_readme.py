"""The READMEs: every block runs, every shown output is what is printed now."""

from __future__ import annotations

import re
from importlib.metadata import version

import pytest

from readme_blocks import READMES, ROOT, BlockError, find_blocks, refresh


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_block_prints_what_the_readme_shows():
    text = read("README.md")
    release = ".".join(version("torch").split(".")[:2])
    here = re.sub(r"(?<=under PyTorch )\d+\.\d+", release, text)  # it names the installed one
    assert refresh(text) == here, "stale: run `make readme`"


def test_the_chinese_readme_has_the_same_blocks():
    # So running one runs both; comments in blocks are kept in English for that.
    english, chinese = (find_blocks(read(name)) for name in READMES)
    assert [(block.kind, block.text) for block in chinese] == [
        (block.kind, block.text) for block in english
    ]


@pytest.mark.parametrize("name", [*READMES, "CONTRIBUTING.md", "docs/architecture.md"])
def test_relative_links_lead_somewhere(name):
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", read(name))
    assert targets, "no links found: has the pattern gone wrong?"
    missing = [target for target in targets if not (ROOT / name).parent.joinpath(target).exists()]
    assert not missing


@pytest.mark.parametrize(
    ("markdown", "message"),
    [
        ("```console\n$ make no-such-target\n```\n", "no such make target: no-such-target"),
        ('```console\n$ pip install ".[no-such-extra]"\n```\n', "no such extra: no-such-extra"),
        ("```console\n$ pip install something\n```\n", "pip install of something else"),
        ("```console\n$ rm -r everything\n```\n", "a command that nothing checks"),
        ("```console\noutput alone\n```\n", "a console block without a command"),
        ("```ruby\nputs 1\n```\n", "a block that nothing checks"),
        ("```text\nnobody printed this\n```\n", "a block that nothing checks"),
        ("```python\n1 / 0\n```\n", "ZeroDivisionError"),
        ("```python\nprint(1)\n```\n", "no text block follows"),
        ("```python\nprint(1)\n```\n```console\n$ make test\n```\n", "no text block follows"),
    ],
)
def test_a_bad_block_is_found(markdown, message):
    with pytest.raises(BlockError, match=message):
        refresh(markdown)


def test_a_stale_output_is_replaced():
    stale = "```python\nx = 1\n```\nand\n```python\nprint(x + 1)\n```\n\n```text\n3\n```\n"
    assert refresh(stale) == stale.replace("3", "2")
