"""The peak memory of every operator on the CPU, and the strides of what it returns.

``benchmarks/operator_peaks.csv`` lists the operators of ``op_db`` with a sample that is off, and
why; ``python tests/models/op_memory.py`` writes it. An operator that is not listed is exact.
"""

from __future__ import annotations

import pytest
import torch
from op_memory import ORDERS, REASONS, peaks, read_table
from op_samples import operators

pytestmark = [
    pytest.mark.models,
    pytest.mark.skipif(
        torch.backends.cpu.get_cpu_capability() != "AVX512",
        reason="the scratch memory of oneDNN's kernels is known for AVX-512 alone",
    ),
    pytest.mark.skipif(
        not torch.__version__.startswith("2.13."), reason="the table is that of torch 2.13"
    ),
]
pytest.importorskip("expecttest", reason="torch's own tests need it")

PARTS = 12


@pytest.mark.parametrize("part", range(PARTS))
def test_peaks(part: int) -> None:
    """A part of all operators at a time, because to import their list takes seconds."""
    known = read_table()
    found = [peak for entry in operators()[part::PARTS] for peak in peaks(entry)]
    assert len(found) > 200
    assert {peak.order for peak in found} == set(ORDERS)
    off = [peak for peak in found if peak.predicted != peak.real or peak.is_misplaced]
    assert [peak for peak in off if peak.name not in known] == []
    for row in (known[peak.name] for peak in off if peak.is_misplaced):
        assert int(row["misplaced"]) > 0, row["operator"]


def test_each_line_has_a_reason() -> None:
    rows = read_table().values()
    assert {row["reason"] for row in rows} <= REASONS.keys()
    assert all(int(row["off"]) or int(row["misplaced"]) for row in rows)
