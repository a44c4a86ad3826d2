"""Every fault that was planted is found, where it was planted, and once repaired no longer."""

from __future__ import annotations

import pytest
from planted_faults import FAULTS, Planted

import torchgauge as tg


@pytest.mark.parametrize("case", FAULTS, ids=str)
def test_a_planted_fault_is_found(case: Planted) -> None:
    advice = tg.advise(case.make(), case.size, rules=(case.rule,), prove=False, **case.options)
    (found,) = advice.faults
    assert (found.rule, found.where) == (case.rule, case.where)
    assert found.text and found.why and found.remedy
