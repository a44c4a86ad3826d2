"""Checks of budgets made by hand, for the tests of pages and formats; nothing is analysed."""

from __future__ import annotations

from dataclasses import replace

import report_builder as build
from torchgauge.compare.reports import compare_reports
from torchgauge.facts.loop.check import (
    CheckReport,
    LayerShare,
    LimitCheck,
    ModelCheck,
    Outcome,
    Unit,
)


def limit(key: str = "max-params", **changes: object) -> LimitCheck:
    made = LimitCheck(
        key=key, figure="totals.params", unit=Unit.COUNT, written="10 M", line=4,
        outcome=Outcome.OK, value=9_000_000, limit=10_000_000,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def model(name: str = "net", *limits: LimitCheck, **changes: object) -> ModelCheck:
    made = ModelCheck(name=name, spec="net.py:Net", line=3, limits=limits)
    return replace(made, **changes)  # type: ignore[arg-type]


def check(*models: ModelCheck, **changes: object) -> CheckReport:
    made = CheckReport(tool_version="1.2.3", config="pyproject.toml", models=models)
    return replace(made, **changes)  # type: ignore[arg-type]


def within() -> CheckReport:
    return check(model("net", limit(), limit("nothing-uncounted", unit=Unit.OPERATORS, value=0,
                                             limit=0, figure="not_counted")))  # fmt: skip


def everything() -> CheckReport:
    """Return a check with every kind of outcome, and names that a format could trip over."""
    grown = LayerShare(path="head.fc", type="Linear", value=200_000, is_difference=True)
    largest = LayerShare(path="layer1.0.conv", type="Conv2d", value=2**30, is_difference=False)
    over = limit(
        outcome=Outcome.OVER, value=10_400_000, written="baseline + 2 %", baseline=1e7,
        limit=10_200_000, layers=(grown,),
    )  # fmt: skip
    too_large = limit(
        "fits", figure="memory.device_bytes", unit=Unit.BYTES, written="T4", line=5,
        outcome=Outcome.OVER, value=20 * 2**30, limit=15 * 2**30,
        detail="does not fit; the largest batch is 41", layers=(largest,),
    )  # fmt: skip
    unknown = limit(
        "step-time", figure="time.total_ms", unit=Unit.MILLISECONDS, line=6,
        outcome=Outcome.ERROR, value=None, limit=None,
        detail="no time can be predicted for this device", hint='add a GPU: device = "T4"',
    )  # fmt: skip
    uncounted = limit(
        "nothing-uncounted", figure="not_counted", unit=Unit.OPERATORS, written="true", line=7,
        outcome=Outcome.OVER, value=1, limit=0, detail="my::op (2 ×): no formula",
    )  # fmt: skip
    named = 'a,b: 100 % <x> "y" |'
    broken = model(
        "broken", line=9, error="Net failed:\n  it got: x [1]", hint="mend it", error_status=3
    )
    return check(model("net", over, too_large), model(named, unknown, uncounted), broken, model())


def against_base() -> CheckReport:
    before, after = build.simple_cnn(), build.single_layer()
    changed = model("net", limit(), comparison=compare_reports(before, after))
    same = model("same", limit(), comparison=compare_reports(before, before))
    new = model("new", limit(), notes=("nothing to compare with at main: there is no net.py",))
    return check(changed, same, new, base="main")
