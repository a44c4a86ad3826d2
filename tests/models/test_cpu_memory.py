"""Ground truth: the peak of a real step on the CPU, to the byte, by the profiler's memory events.

The second step of a loop, on one thread, for an inference and for SGD and AdamW.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler writes a line per run to stderr
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.cpu_cases import CASES, SCENARIOS
from benchmarks.cpu_memory import figure

pytestmark = [
    pytest.mark.models,
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
    pytest.mark.skipif(
        torch.backends.cpu.get_cpu_capability() != "AVX512",
        reason="the scratch memory of oneDNN's kernels is known for AVX-512 alone",
    ),
]


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("name", CASES)
def test_the_peak_is_the_real_one(name: str, scenario: str) -> None:
    found = figure(name, scenario)
    assert found.real_bytes > 0
    assert found.predicted_bytes == found.real_bytes, found


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 40
