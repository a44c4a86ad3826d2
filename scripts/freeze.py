"""Print the pins of the running environment for requirements/constraints-dev.txt.

Left out: torchgauge itself, and what torch brings along on Linux with CUDA, so that the same
file serves the CPU and the CUDA builds.
"""

from __future__ import annotations

import re
from importlib.metadata import distributions

HEADER = """\
# Every package of the development environment, pinned. `make constraints` writes this file from
# the environment that `make setup-models` made; run the suites before committing a change to it.
"""
LEFT_OUT = re.compile(r"(torchgauge|pip|triton|pytorch-triton|nvidia-.*|cuda-.*)", re.IGNORECASE)


def pins() -> list[str]:
    found = {
        dist.name: dist.version.partition("+")[0]
        for dist in distributions()
        if not LEFT_OUT.fullmatch(dist.name)
    }
    return [f"{name}=={found[name]}" for name in sorted(found, key=str.lower)]


if __name__ == "__main__":
    print(HEADER + "\n".join(pins()))
