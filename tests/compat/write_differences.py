"""Write the tables of differences again: ``write_differences.py fvcore ptflops flop_counter``.

A row without a known mechanism has ``?`` as its reason, and is printed.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def main(tools: list[str]) -> None:
    """Compare every model and write the tables of some tools."""
    sys.path[:0] = [str(HERE), str(HERE.parent / "models"), str(HERE.parent)]
    beside: Any = importlib.import_module("flops_beside")
    for tool in tools:
        compare = importlib.import_module(f"test_{tool}_beside").compare
        rows = []
        for name in beside.MODELS:
            found = compare(name)
            print(name, *(row for row in found if row["why"] == "?"), sep="\n  ", flush=True)
            rows += found
        beside.write(tool, rows)


if __name__ == "__main__":
    main(sys.argv[1:])
