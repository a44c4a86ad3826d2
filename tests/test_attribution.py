"""How profiled steps become the time of each layer, and the state in which steps are timed."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from torchgauge.measure.attribution import Shares, _typical
from torchgauge.report.model import Phase


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


FAULTS = """
import resource, torch
from torchgauge.measure.settled import settle_allocator
torch.empty(5_000_000).zero_()
{settle}
def step():
    return torch.empty(5_000_000).zero_()  # 20 MB: 4,883 pages
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step(), step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_a_settled_allocator_does_not_fault_pages_in_every_step() -> None:
    code = FAULTS.format(settle="settle_allocator()")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) < 4_883 * 2
