"""Compute something real on one device and compare it with what must come out.

Usage: ``compute.py OUTPUT DEVICE``. All operands are small integers, so that every product and
sum is exact in float32, in TF32 and on the CPU: what comes back must be equal, not close.
"""

from __future__ import annotations

import sys

FOLDER = sys.path.pop(0)  # this file's: nothing is to be imported from there

import importlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
from typing import Any  # noqa: E402

sys.path.insert(0, os.getcwd())  # as for the user's own script; after the imports above

ELEMENTS = 1 << 24  # 64 MiB of float32; their sum, 2^24, is exact
SIZE = 256


def main() -> None:
    """Run each check; a failed one does not keep the others from being tried."""
    torch = importlib.import_module("torch")
    device = sys.argv[2]
    for check in (allocation, matmul, convolution):
        write(begin=check.__name__)
        start = time.perf_counter()
        try:
            detail, error = check(torch, device), ""
        except Exception as caught:
            detail = ""
            error = "".join(traceback.format_exception_only(type(caught), caught)).strip()
        write(
            check={
                "device": device,
                "name": check.__name__,
                "ok": not error,
                "detail": detail,
                "error": error,
                "seconds": time.perf_counter() - start,
            }
        )


def write(**content: object) -> None:
    """Append one line to the output."""
    with open(sys.argv[1], "a", encoding="utf-8") as stream:
        stream.write(json.dumps(content) + "\n")


class Wrong(Exception):
    """A computation came out wrong."""


def allocation(torch: Any, device: str) -> str:
    """Allocate 64 MiB, write to all of it, read it back."""
    total = torch.ones(ELEMENTS, device=device).sum().item()
    if total != ELEMENTS:
        raise Wrong(f"the sum of {ELEMENTS} ones came out as {total!r}")
    return "64 MiB written and read"


def matmul(torch: Any, device: str) -> str:
    """Multiply two matrices; the result must equal the CPU's in float64."""
    left = pattern(torch, SIZE * SIZE, 7).reshape(SIZE, SIZE)
    right = pattern(torch, SIZE * SIZE, 5).reshape(SIZE, SIZE)
    got = torch.matmul(left.float().to(device), right.float().to(device))
    compare(torch, got, torch.matmul(left, right))
    return f"{SIZE} x {SIZE}"


def convolution(torch: Any, device: str) -> str:
    """Convolve an image; on CUDA this loads cuDNN."""
    image = pattern(torch, 2 * 8 * 32 * 32, 7).reshape(2, 8, 32, 32)
    weight = pattern(torch, 16 * 8 * 3 * 3, 5).reshape(16, 8, 3, 3)
    conv2d = torch.nn.functional.conv2d
    got = conv2d(image.float().to(device), weight.float().to(device), padding=1)
    compare(torch, got, conv2d(image, weight, padding=1))
    return "3 x 3, 8 to 16 channels"


def pattern(torch: Any, count: int, modulus: int) -> Any:
    """Return small whole numbers as float64."""
    return torch.arange(count, dtype=torch.float64) % modulus


def compare(torch: Any, got: Any, expected: Any) -> None:
    """Raise when any element differs."""
    got = got.cpu().double()
    if not torch.equal(got, expected):
        wrong = int((got != expected).sum())
        raise Wrong(f"{wrong} of {expected.numel()} elements are wrong")


if __name__ == "__main__":
    main()
