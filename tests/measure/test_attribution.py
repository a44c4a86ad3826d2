"""How profiled steps become the time of each layer, and the state in which steps are timed."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from torchgauge.facts.trace import Phase
from torchgauge.measure.attribution import _typical
from torchgauge.measure.profile import Shares


def step(**milliseconds: float) -> Shares:
    found = Shares()
    for path, spent in milliseconds.items():
        found.calls[path, 0, Phase.FORWARD] += spent
        found.phases[Phase.FORWARD] += spent
    found.phases[Phase.FORWARD] += 1.0  # outside of every module
    return found


def test_a_layer_has_its_share_in_the_median_of_the_steps() -> None:
    calm, disturbed = step(first=4.0, second=5.0), step(first=4.0, second=95.0)
    found = _typical([calm, disturbed, calm], {Phase.FORWARD: 30.0})
    assert found["first", 0, Phase.FORWARD] == pytest.approx(0.4 * 30.0)
    assert found["second", 0, Phase.FORWARD] == pytest.approx(0.5 * 30.0)


def test_layers_together_never_take_more_than_their_phase() -> None:
    steps = [step(first=9.0, second=0.0), step(first=9.0, second=0.0), step(first=0.0, second=9.0)]
    steps += [step(first=0.0, second=9.0), step(first=9.0, second=9.0)]
    found = _typical(steps, {Phase.FORWARD: 10.0})
    assert sum(found.values()) <= 10.0 + 1e-9


def test_a_layer_that_only_some_steps_call_has_no_share_in_most() -> None:
    found = _typical([step(a=1.0), step(a=1.0), step(a=1.0, b=1.0)], {Phase.FORWARD: 6.0})
    assert found["b", 0, Phase.FORWARD] == 0.0


MAPPED = """
import ctypes, torch
from torchgauge.measure.settled import settle_allocator
class Info(ctypes.Structure):  # struct mallinfo2, malloc.h
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]
library = ctypes.CDLL(None)
library.mallinfo2.restype = Info
torch.empty(1)
{settle}
before = library.mallinfo2().hblks
block = torch.empty(31 * 2**20, dtype=torch.uint8)
print(library.mallinfo2().hblks - before)
"""


def mapped(settle: str) -> int:
    """Return how many blocks the C library maps for a tensor of 31 MiB."""
    done = subprocess.run(
        [sys.executable, "-c", MAPPED.format(settle=settle)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return int(done.stdout)


def has_mallinfo2() -> bool:
    name, version = platform.libc_ver()
    return name == "glibc" and tuple(map(int, version.split("."))) >= (2, 33)


@pytest.mark.skipif(not has_mallinfo2(), reason="the allocator is not glibc's, 2.33 or later")
def test_a_settled_allocator_gives_tensors_below_32_mib_memory_of_the_heap() -> None:
    assert (mapped(settle=""), mapped(settle="settle_allocator()")) == (1, 0)
