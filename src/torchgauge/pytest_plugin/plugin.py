"""The plugin that pytest loads: the fixture, its option, and the text of a failed assertion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torchgauge.pytest_plugin.gauged import Gauge

_UPDATE = "--gauge-update"
_USED: pytest.StashKey[Gauge] = pytest.StashKey()
"""What a test was given by the fixture."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option that writes snapshots."""
    parser.getgroup("torchgauge").addoption(
        _UPDATE,
        action="store_true",
        help="write the snapshots of gauge(…).matches_snapshot() instead of comparing",
    )


@pytest.fixture
def gauge(request: pytest.FixtureRequest) -> Iterator[Gauge]:
    """Return what says what a model costs; it takes what ``torchgauge.analyze`` takes.

    ``assert gauge(net, (3, 224, 224)).params <= "5 M"``: figures compare with numbers and with
    text. ``fits("T4", batch=64)`` and ``matches_snapshot()`` are true or false. A failed assertion
    names the heaviest layers.
    """
    from torchgauge.pytest_plugin.gauged import Gauge
    from torchgauge.pytest_plugin.snapshots import Snapshots

    snapshots = Snapshots.of_test(
        Path(request.node.path),
        request.node.name,
        update=bool(request.config.getoption(_UPDATE)),
    )
    made = Gauge(snapshots)
    request.node.stash[_USED] = made
    yield made
    if (text := made.overlooked()) is not None:
        pytest.fail(text, pytrace=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Add to a failure why something did not hold: an assertion has one line for it."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed and report.when == "call" and _USED in item.stash:
        for verdict in item.stash[_USED].failed():
            report.sections.append((f"gauge: {verdict.name}", verdict.text))


def pytest_assertrepr_compare(op: str, left: Any, right: Any) -> list[str] | None:
    """Return the lines of a failed comparison of a figure."""
    sides = [side for side in (left, right) if getattr(type(side), "is_gauged", False)]
    if not sides:
        return None
    figure = sides[0]
    lines: list[str] = figure.explained(op, left, right)
    return lines
