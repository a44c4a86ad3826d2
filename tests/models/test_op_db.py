"""Every operator of PyTorch, by its own samples: shapes, gradients and multiply-adds.

The samples of ``op_db`` are each a small model that is analyzed and run for real on the CPU. What
has no formula is listed with its class in ``benchmarks/operators.csv``; what only runs for real
stands in ``docs/operators.md``. ``python tests/models/op_samples.py`` writes both.
"""

from __future__ import annotations

import pytest
import torch
from op_samples import (
    BY_VALUES,
    CLASSES,
    NEEDS_FORMULA,
    NO_PRODUCTS,
    PAGE,
    RULES,
    Found,
    check,
    operators,
    read_table,
)

from torchgauge.facts.trace import Execution

pytestmark = pytest.mark.models
pytest.importorskip("expecttest", reason="torch's own tests need it")

PARTS = 24
IS_CURRENT = torch.__version__.startswith("2.13.")


@pytest.mark.parametrize("part", range(PARTS))
def test_samples(part: int) -> None:
    """A part of all operators at a time, because to import their list takes seconds."""
    found = [one for entry in operators()[part::PARTS] for one in check(entry)]
    assert [(one.name, one.problems) for one in found if one.problems and not one.skipped] == []
    ran = [one for one in found if not one.skipped]
    assert len(ran) > 80
    assert {rule for one in ran for rule in one.rules} <= RULES.keys()
    if IS_CURRENT:  # the table is that of torch 2.13
        check_classes(found)


def check_classes(found: list[Found]) -> None:
    """What has no formula has a class in the table; what ran for real is on the page."""
    classes, page = read_table(), PAGE.read_text(encoding="utf-8")
    for one in found:
        for name in sorted(one.without_formula):
            kind = classes.get(name, f"{name} is new: write the table again, and say what it is")
            assert kind in CLASSES, kind
            assert (name in {op.rpartition(".")[0] for op in one.uncounted}) == (
                kind in (NEEDS_FORMULA, BY_VALUES)
            ), f"{one.name}: {name} is '{kind}'"
        if one.execution == str(Execution.REAL) and not one.skipped:
            assert f"| `{one.name}` |" in page, f"{one.name} ran for real"


@pytest.mark.parametrize(
    "name",
    ["mm", "bmm", "addmm", "baddbmm", "matmul", "einsum", "tensordot", "linalg.multi_dot",
     "nn.functional.linear", "nn.functional.conv1d", "nn.functional.conv2d",
     "nn.functional.conv_transpose2d"],
)  # fmt: skip
def test_complex_numbers(name: str) -> None:
    """Every product is 4 real ones; a convolution runs as three, which torch counts as well."""
    entry = next(entry for entry in operators() if entry.name == name)
    found = [one for one in check(entry, torch.complex64) if not one.skipped]
    assert [one.problems for one in found if one.problems] == []
    rules = {rule for one in found for rule in one.rules}
    assert rules - {"groups"} == (set() if "conv" in name else {"complex"})


def test_the_table_can_be_read() -> None:
    classes = read_table()
    assert set(classes.values()) <= set(CLASSES)
    assert len(classes) > 400
    assert classes["aten.add"] == NO_PRODUCTS
    assert "aten.mm" not in classes


def test_a_wrong_output_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchgauge.trace.values.simulation import Simulation

    run = Simulation.run

    def wrong(self: Simulation, func: object, *rest: object) -> object:
        output = run(self, func, *rest)  # type: ignore[arg-type]
        return output.unsqueeze(0) if str(func) == "aten.sinh.default" else output

    monkeypatch.setattr(Simulation, "run", wrong)
    entry = next(entry for entry in operators() if entry.name == "sinh")
    assert all(one.problems for one in check(entry))
