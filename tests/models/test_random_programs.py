"""Random programs: parameters, shapes, dtypes, MACs and the peak against real runs on the CPU.

Many more run by hand: ``python tests/models/fuzz.py --help``.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from program_checks import differences
from random_programs import Program, programs

AT_LENGTH = 500
"""Programs in ``make test-models``."""

pytestmark = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512",
    reason="the scratch memory of oneDNN's kernels is known for AVX-512 alone",
)

RELAXED = settings(
    deadline=None,
    derandomize=True,  # the same programs each time; fuzz.py looks for others
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)


@pytest.fixture(autouse=True)
def _one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@settings(RELAXED, max_examples=20)
@given(programs())
def test_a_few_random_programs(program: Program) -> None:
    assert differences(program) == []


@pytest.mark.hypothesis_long
@settings(RELAXED, max_examples=AT_LENGTH)
@given(programs())
def test_many_random_programs(program: Program) -> None:
    assert differences(program) == []
