"""The READMEs and the first steps: every block runs and prints what is shown."""

from __future__ import annotations

import re
from importlib.metadata import version

import pytest

from readme_blocks import PAGES, READMES, ROOT, BlockError, find_blocks, refresh

MOST_WORDS = 1200


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in PAGES if name != "README.zh-CN.md"])
def test_every_block_prints_what_the_page_shows(name):
    text = read(name)
    release = ".".join(version("torch").split(".")[:2])
    here = re.sub(r"(?<=under PyTorch )\d+\.\d+", release, text)  # it names the installed one
    assert refresh(text) == here, "stale: run `make readme`"


def test_the_chinese_readme_has_the_same_blocks():
    # So running one runs both; comments in blocks are kept in English for that.
    english, chinese = (find_blocks(read(name)) for name in READMES)
    assert [(block.kind, block.text) for block in chinese] == [
        (block.kind, block.text) for block in english
    ]


def test_the_readme_is_short():
    """Counted as ``wc -w`` does: code, commands, outputs and the bars of tables are words too."""
    assert 500 < len(read("README.md").split()) <= MOST_WORDS


def test_the_chinese_readme_has_the_same_parts():
    english, chinese = (read(name).splitlines() for name in READMES)
    for begin in ("## ", "### ", "| ", "- "):
        counts = [sum(line.startswith(begin) for line in text) for text in (english, chinese)]
        assert counts[0] == counts[1] > 0, begin


def test_the_chinese_readme_says_显存_for_the_memory_of_a_gpu():
    assert not re.search("GPU ?的?内存|主存", read("README.zh-CN.md"))
    assert "显存" in read("README.zh-CN.md")


def test_the_errors_are_those_of_the_page_on_accuracy():
    page = read("docs/accuracy-tables.md")
    for name in READMES:
        text = read(name)
        formula = "predicted ÷ measured" if name == "README.md" else "预测 ÷ 实测"
        start = text.index("\n| ", text.index(formula))
        rows = text[start:].strip().split("\n\n")[0].splitlines()[2:]  # below head and rule
        assert len(rows) == 8
        for row in rows:
            cells = [cell.strip() for cell in row.split("|")]
            figures, median, high, worst = cells[3:7]
            worst = "–" if worst == "0.000%" else worst.replace("−", "-")  # as the page writes
            pattern = rf"\| {figures} \| (\d+ \| )?{re.escape(median)} \| ([\d.]+% \| )?"
            assert re.search(pattern + re.escape(f"{high} | {worst}"), page), row


@pytest.mark.parametrize("name", [*PAGES, "CONTRIBUTING.md", "docs/architecture.md"])
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
