"""Tables of measured steps, as the calibration fits and leaves them out, on made-up steps."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from benchmarks.time_sets import left_out
from benchmarks.time_sets.calibrate import tables
from benchmarks.time_sets.cases import TimeCase
from benchmarks.time_sets.features import APART, Features
from benchmarks.time_sets.fit import Fit
from torch import nn

from torchgauge.devices import find_device
from torchgauge.estimate.time.gpu.cost import kernel_time
from torchgauge.estimate.time.gpu.device_model import COMPILED, DeviceModel
from torchgauge.estimate.time.kernels.kinds import Kind
from torchgauge.estimate.time.kernels.work import Work
from torchgauge.facts.scenario import Scenario

NORM = Work(kind=Kind.NORM, elements=1e8, read_bytes=4e8, written_bytes=4e8)
PRODUCT = Work(kind=Kind.MATMUL, dtype="float16", flops=2e12, rows=1e4, columns=1e4, inner=1e4)


def case(family: str, gpu: str, *, compiled: bool = False) -> TimeCase:
    return TimeCase(
        id=family, set="made up", family=family, build=partial(nn.Linear, 2, 2), inputs=(),
        scenario=Scenario(), gpu=gpu, measured_ms=10.0, compiled=compiled,
    )  # fmt: skip


def features(*works: tuple[Work, int]) -> Features:
    return Features(works=works, fresh_bytes=0.0)


EAGER = [
    (case("resnet", "RTX 4090"), features((NORM, 3), (PRODUCT, 1))),
    (case("vit", "RTX 4090"), features((NORM, 1), (PRODUCT, 2))),
    (case("swin", "RTX 3090"), features((NORM, 2))),
]
FUSED = [(case(family, "RTX 4090", compiled=True), features((NORM, 5)))
         for family in ("resnet", "vit", "swin")]  # fmt: skip


def test_compiled_steps_of_a_mixed_set_are_a_table_of_their_own() -> None:
    found = tables({"mixed": [FUSED[0], *EAGER], "all compiled": FUSED})
    assert {name: (len(table.cases), table.is_compiled) for name, table in found.items()} == {
        "mixed": (3, False), f"mixed{APART}": (1, True), "all compiled": (3, True),
    }  # fmt: skip


def test_equal_kernels_of_several_cases_are_one_and_count_in_each() -> None:
    table = tables({"set": EAGER})["set"]
    norms = next(group for group in table.groups if group.kind is Kind.NORM)
    assert len(norms.rate) == 2  # one on each GPU
    fit = Fit({"set": table})
    c = fit.coefficients(fit.start)
    for (one, item), seconds in zip(EAGER, fit.predict(table, fit.values(fit.start)), strict=True):
        model = DeviceModel(device=find_device(one.gpu), coefficients=c)
        expected = sum(
            kernel_time(work.kind, work, model.rates(work), c).total * count
            for work, count in item.works
        )
        assert float(seconds) == pytest.approx(expected, rel=1e-4)


def test_without_a_gpu_compiled_steps_keep_the_ratios_of_other_families(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All compiled steps are of the GPU left out: rates come from one fit, ratios from another."""
    fit = Fit(tables({"eager": EAGER, "fused": FUSED}))
    ratio = fit.names.index(f"{COMPILED}.norm.memory")
    common = fit.names.index("norm.memory")

    def run(masks: dict[str, torch.Tensor]) -> torch.Tensor:
        x = fit.start.clone()
        if bool(masks["eager"].all()) and bool(masks["fused"].all()):
            return x
        by_family = bool(masks["fused"].any())  # without the GPU there is no compiled row
        x[ratio], x[common] = (0.5, 0.7) if by_family else (0.9, -0.2)
        return x

    monkeypatch.setattr(fit, "run", run)
    found = [item for item in left_out.left_out(fit) if item.set == "fused"]
    without = [item for item in found if item.fit != left_out.FAMILIES and item.left_out]
    assert without
    wanted = fit.start.clone()
    wanted[ratio], wanted[common] = 0.5, -0.2
    table = fit.tables["fused"]
    expected = fit.predict(table, fit.values(wanted, ["RTX 4090"])) / table.seconds - 1
    for item in without:
        assert item.error.tolist() == pytest.approx(expected[item.rows].tolist())
    assert sum(len(item.rows) for item in without) == len(FUSED)
