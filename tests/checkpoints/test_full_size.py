"""Plans of models at their full size, run for real; ``full_size.py`` prints all of the table."""

from __future__ import annotations

from pathlib import Path

import pytest
from full_size import CASES, KEEPS, run

pytestmark = [pytest.mark.slow, pytest.mark.models]

_SCRATCH = 1e-3
"""Share of the peak by which a step in bf16 may lie beside its plan: what oneDNN's products take
is predicted for a processor with AMX, and other processors take other blocks."""


def free_gb() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    fields = dict(line.split(":") for line in lines)
    return int(fields["MemAvailable"].split()[0]) / 1e6


@pytest.mark.parametrize(
    ("name", "keep"), [*(("resnet152", keep) for keep in KEEPS), ("vit_l_16", 0.5)]
)
def test_the_planned_peak_is_the_real_one_to_the_byte(name: str, keep: float) -> None:
    _skip_without_memory(name)
    row = run(name, keep)
    assert row.plan.fits and row.plan.recomputed
    assert row.real_bytes == row.predicted_bytes


def test_the_planned_peak_of_a_llama_is_the_real_one() -> None:
    pytest.importorskip("transformers")
    _skip_without_memory("llama_1b")
    row = run("llama_1b", 0.5)
    assert not row.plan.fits, "weights and gradients alone take more than is left"
    peak = row.plan.figure("memory.peak_allocated_bytes")
    assert peak.after < peak.before
    assert row.real_bytes == pytest.approx(row.predicted_bytes, rel=_SCRATCH)


def _skip_without_memory(name: str) -> None:
    needed = CASES[name].memory_gb
    if not Path("/proc/meminfo").exists() or free_gb() < needed:
        pytest.skip(f"needs {needed} GB of free memory")
