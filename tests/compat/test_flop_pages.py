"""The Python of the pages for those who come from a FLOP counter runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
BLOCKS = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", ["fvcore", "ptflops", "flop-counter"])
def test_the_examples_of_a_page(page: str) -> None:
    blocks = BLOCKS.findall((DOCS / f"coming-from-{page}.md").read_text(encoding="utf-8"))
    assert len(blocks) >= 3
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
