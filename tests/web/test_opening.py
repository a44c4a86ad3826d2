"""The page opens in a browser, without an error and without a request (``page_of`` sees to it)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

import torchgauge as tg

pytestmark = pytest.mark.browser


def test_a_report_opens(page_of: Callable[..., Any]) -> None:
    report = tg.analyze(nn.Linear(8, 2), (2, 8), mode="training", device="T4")
    page = page_of(report)
    assert page.locator("h1").inner_text() == "Linear"
    assert page.locator("main > section").count() > 1
