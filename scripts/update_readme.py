"""Run the blocks of the READMEs and the first steps, and write their output (`make readme`).

``--check`` writes nothing and exits with 1 when a page is stale.
"""

from __future__ import annotations

import sys

from readme_blocks import PAGES, ROOT, BlockError, refresh


def main(arguments: list[str]) -> int:
    stale = []
    for name in PAGES:
        path = ROOT / name
        before = path.read_text(encoding="utf-8")
        try:
            after = refresh(before)
        except BlockError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        if after != before:
            stale.append(name)
            if "--check" not in arguments:
                path.write_text(after, encoding="utf-8")
    if stale:
        verb = "stale" if "--check" in arguments else "updated"
        print(f"{verb}: {', '.join(stale)}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
