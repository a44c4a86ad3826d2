"""Each rule has a model in which it has to find something."""

from __future__ import annotations

from planted_changes import REWRITTEN
from planted_faults import FAULTS
from planted_waste import HOW_IT_RUNS, WASTE
from test_planted_size import SIZE

from torchgauge.advise.rules import ON_REQUEST, RULES

ELSEWHERE = {
    "chunked-loss": "test_planted_language.py", "shared-keys": "test_planted_language.py",
    "int8-weights": "test_planted_language.py", "prune": "test_prune.py",
    "tf32": "test_planted_changes.py", "compile": "test_planted_changes.py",
    "lora": "test_engine.py", "plan-checkpoints": "tests/checkpoints/test_plan_rule.py",
}  # fmt: skip
"""Rules whose cases need a library or a GPU's rules, and the file of their tests."""
PLANTED = (*FAULTS, *WASTE, *SIZE, *HOW_IT_RUNS, *(case.case for case in REWRITTEN))


def test_every_rule_has_a_case() -> None:
    assert {case.rule for case in PLANTED} | ELSEWHERE.keys() == {*RULES, *ON_REQUEST}


def test_there_are_as_many_as_were_promised() -> None:
    assert len(PLANTED) >= 50
    assert len({str(case) for case in PLANTED}) == len(PLANTED)
