"""Control flow as operators: what the values choose is what runs and what is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.torch_version import TorchVersion

import torchgauge as tg
from torchgauge.errors import ModelError
from torchgauge.facts.report import Report
from torchgauge.facts.trace import Execution

_PRODUCT = 64 * 64
"""Multiply-adds of one layer for one row."""
_NEW = pytest.mark.skipif(
    TorchVersion(torch.__version__) < TorchVersion("2.9"), reason="prototypes of another signature"
)


class Two(nn.Module):
    """Two layers of 64 features and a function that says how they are called."""

    def __init__(self, run: Callable[[Any, torch.Tensor], Any]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(64, 64), nn.Linear(64, 64)
        self.run = run

    def forward(self, x: torch.Tensor) -> Any:
        return self.run(self, x)

    def twice(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.b(self.b(x))
        return result


def analyzed(run: Callable[[Any, torch.Tensor], Any], mode: str = "inference") -> Report:
    inputs = (torch.ones(2, 64, requires_grad=mode == "training"),)
    return tg.analyze(Two(run), input_data=inputs, scenario=tg.Scenario(mode=mode))


def never_called(report: Report) -> list[str]:
    return [item.op for item in report.not_counted if "never called" in item.why]


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_a_branch_chosen_by_data_is_run_for_real(mode: str) -> None:
    first = analyzed(lambda m, x: torch.cond(x.sum() > 0, m.a, m.twice, (x,)), mode)
    second = analyzed(lambda m, x: torch.cond(x.sum() < 0, m.a, m.twice, (x,)), mode)
    assert first.execution == second.execution == Execution.REAL
    assert first.totals.forward_macs == 2 * _PRODUCT
    assert second.totals.forward_macs == 2 * 2 * _PRODUCT
    assert never_called(first) == ["b"]
    assert never_called(second) == ["a"]
    assert [call.forward_macs for call in second.modules["b"].calls[:2]] == [2 * _PRODUCT] * 2


@pytest.mark.parametrize(("index", "products"), [(0, 1), (1, 2), (7, 2), (-3, 1)])
@pytest.mark.parametrize("mode", ["inference", "training"])
def test_a_branch_chosen_by_an_index(index: int, products: int, mode: str) -> None:
    operators = pytest.importorskip("torch._higher_order_ops.switch", reason="new in PyTorch 2.14")
    switch = operators.switch
    known = analyzed(lambda m, x: switch(torch.tensor(index), (m.a, m.twice), (x,)), mode)
    assert known.execution == Execution.SIMULATED
    real = analyzed(lambda m, x: switch((x.sum() * 0).long() + index, (m.a, m.twice), (x,)), mode)
    assert real.execution == Execution.REAL
    assert known.totals.forward_macs == real.totals.forward_macs == 2 * products * _PRODUCT


def by_shape(m: Any, x: torch.Tensor) -> Any:
    return torch.cond(torch.tensor(x.shape[0]) > 1, m.a, m.twice, (x,))


def by_number(m: Any, x: torch.Tensor) -> Any:
    return torch.cond(x.shape[0] > 9, m.a, m.twice, (x,))


def nested(m: Any, x: torch.Tensor) -> Any:
    yes = torch.ones((), dtype=torch.bool)
    return torch.cond(yes, lambda y: torch.cond(~yes, m.a, m.twice, (y,)), m.a, (x,))


def in_autocast(m: Any, x: torch.Tensor) -> Any:
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        return torch.cond(torch.ones((), dtype=torch.bool), m.a, m.twice, (x,))


def structured(m: Any, x: torch.Tensor) -> Any:
    yes = torch.ones((), dtype=torch.bool)
    made = torch.cond(
        yes, lambda y: {"out": m.twice(y), "in": (y * 2,)}, lambda y: {"out": m.a(y), "in": (y,)},
        (x,),
    )  # fmt: skip
    return made["out"] + made["in"][0]


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize(
    ("run", "layers"),
    [(by_shape, 1), (by_number, 2), (nested, 2), (in_autocast, 1), (structured, 2)],
)
def test_a_branch_chosen_by_what_is_known_is_simulated(run: Any, layers: int, mode: str) -> None:
    report = analyzed(run, mode)
    assert report.execution == Execution.SIMULATED
    assert report.totals.forward_macs == layers * 2 * _PRODUCT
    assert len(never_called(report)) == 1


def test_the_branch_runs_again_in_the_backward() -> None:
    """As PyTorch's ``CondAutogradOp``, which keeps the operands alone."""
    report = analyzed(nested, "training")
    # Two gradients of each of two layers, and again the first layer, whose output is asked for.
    assert report.totals.backward_flops == 2 * (2 * 2 + 1) * 2 * _PRODUCT
    assert any("backward of torch.cond was taken as" in text for text in report.assumptions)


def test_inference_assumes_nothing_about_a_known_branch() -> None:
    assert not analyzed(nested).assumptions
    assert not [item for item in analyzed(nested).not_counted if item.op != "a"]


def test_a_choice_by_made_inputs_is_an_assumption() -> None:
    model = Two(lambda m, x: torch.cond(x.sum() > 0, m.a, m.a, (x,)))
    report = tg.analyze(model, (2, 64))
    said = "torch.cond followed values of inputs that were made from their sizes"
    assert said in report.assumptions


def test_an_unknown_choice_of_a_large_model_is_refused() -> None:
    with tg.meta_construction():
        big = nn.Linear(1 << 18, 1 << 18)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.big = big

        def forward(self, x: torch.Tensor) -> Any:
            return torch.cond(x.sum() > 0, self.big, self.big, (x,))

    with pytest.raises(ModelError, match=r"torch\.cond needs the values of a bool tensor"):
        tg.analyze(Net(), (1, 1 << 18))


# ---------------------------------------------------------------------------- loops


def looped(m: Any, x: torch.Tensor) -> Any:
    from torch._higher_order_ops import while_loop

    start = torch.zeros((), dtype=torch.int64)
    return while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, m.a(y)), (start, x))[1]


def looped_with_branches(m: Any, x: torch.Tensor) -> Any:
    from torch._higher_order_ops import while_loop

    def body(i: torch.Tensor, y: torch.Tensor) -> Any:
        return i + 1, torch.cond(i % 2 == 0, m.a, m.twice, (y,))

    return while_loop(lambda i, y: i < 4, body, (torch.zeros((), dtype=torch.int64), x))[1]


def never_looped(m: Any, x: torch.Tensor) -> Any:
    from torch._higher_order_ops import while_loop

    start = torch.zeros((), dtype=torch.int64)
    return m.a(while_loop(lambda i, y: i < 0, lambda i, y: (i + 1, m.b(y)), (start, x))[1])


def mapped(m: Any, x: torch.Tensor) -> Any:
    from torch._higher_order_ops.map import map as map_rows

    return map_rows(lambda row, bias: {"y": m.a(row) + bias}, x, m.b.bias)["y"]


def scanned(m: Any, x: torch.Tensor) -> Any:
    from torch._higher_order_ops import scan

    def step(state: Any, row: torch.Tensor) -> Any:
        hidden = torch.tanh(m.a(row) + m.b(state[0]))
        return (hidden, state[1] + 1.0), {"h": hidden.clone()}

    return scan(step, (x.new_zeros(64), x.new_zeros(())), x)[1]["h"]


@_NEW
@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize(
    ("run", "macs"),
    [
        (looped, 3 * 2), (looped_with_branches, (1 + 2 + 1 + 2) * 2), (never_looped, 2),
        (mapped, 2), (scanned, 2 * 2),
    ],
)  # fmt: skip
def test_loops_run_as_often_as_their_values_say(run: Any, macs: int, mode: str) -> None:
    report = analyzed(run, mode)
    assert report.execution == Execution.SIMULATED
    assert report.totals.forward_macs == macs * _PRODUCT


@_NEW
def test_a_loop_until_the_data_is_small_is_run_for_real() -> None:
    from torch._higher_order_ops import while_loop

    def run(m: Any, x: torch.Tensor) -> Any:
        return while_loop(lambda y: y.sum() > 40.0, lambda y: (m.a(y) * 0 + y / 2,), (x,))[0]

    report = analyzed(run)  # 128, 64, 32
    assert report.execution == Execution.REAL
    assert report.totals.forward_macs == 2 * 2 * _PRODUCT


@_NEW
@pytest.mark.parametrize("run", [nested, looped])
def test_an_exported_program_follows_too(run: Any) -> None:
    inputs = (torch.ones(2, 64),)
    program = torch.export.export(Two(run), inputs).module()
    assert (
        tg.analyze(program, input_data=inputs).totals.forward_macs
        == analyzed(run).totals.forward_macs
    )


def test_nothing_leaks() -> None:
    from torch._ops import HigherOrderOperator

    before = HigherOrderOperator.__call__
    analyzed(nested)
    with pytest.raises(ModelError):
        analyzed(lambda m, x: torch.cond(torch.ones((), dtype=torch.bool), m.missing, m.a, (x,)))
    assert HigherOrderOperator.__call__ is before
