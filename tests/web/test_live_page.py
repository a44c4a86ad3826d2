"""The live page in a browser: what is changed there is what the command line says."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from live_server import MODELS, Live, live, settled, until
from test_accessible import violations

from torchgauge.cli.main import main
from torchgauge.facts.scenario import Scenario
from torchgauge.request import Inputs, Request

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    path = tmp_path_factory.mktemp("live") / "net.py"
    path.write_text(MODELS, encoding="utf-8")
    training = Scenario(mode="training", optimizer="adamw", device="T4")
    small = Request(
        spec=f"{path}:Net", inputs=Inputs(size=(64,), batch_size=8), settings={"width": 64},
        scenario=training,
    )  # fmt: skip
    tokens = Request(
        spec=f"{path}:Tokens", inputs=Inputs(size=(2, 16), dtypes=["int64"]), scenario=training
    )
    with live([small, tokens]) as running:
        yield running


def change(page: Page, name: str, value: str) -> None:
    """Change one control, as a person does, and wait for the answer."""
    control = page.locator(f".what-if [data-name={name}]")
    if control.evaluate("element => element.tagName") == "SELECT":
        control.select_option(value)
    else:
        control.fill(value)
        control.press("Tab")
    settled(page)


def figure_of(page: Page, field: str) -> tuple[float, float]:
    """Return a figure before and after, exactly."""
    row = page.locator(f"#compare [data-compare='{field}']")
    return tuple(float(row.get_attribute(f"data-{end}") or "") for end in ("before", "after"))  # type: ignore[return-value]


def of_command_line(page: Page, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Run the command that the page shows and return its report."""
    command = page.locator(".what-if .command code").inner_text()
    assert main([*shlex.split(command)[1:], "--format", "json", "--quiet"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_batch_and_precision_are_those_of_the_command_line(
    opened: Callable[..., Page], capsys: pytest.CaptureFixture[str]
) -> None:
    page = opened()
    assert page.locator("#compare").count() == 0
    before = of_command_line(page, capsys)
    change(page, "batch-size", "32")
    change(page, "precision", "bf16-autocast")
    after = of_command_line(page, capsys)
    assert (after["batch_size"], after["scenario"]["precision"]) == (32, "bf16-autocast")
    for field in ("memory.device_bytes", "memory.peak_allocated_bytes", "time.total_ms",
                  "totals.forward_macs", "totals.params"):  # fmt: skip
        room, name = field.split(".")
        assert figure_of(page, field) == (before[room][name], after[room][name]), field
    text = page.locator("#compare [data-compare='totals.forward_macs']").inner_text()
    assert "▲" in text and "+300.0 %" in text and "more" in text


def test_layers_differ_by_what_the_model_differs(opened: Callable[..., Page]) -> None:
    page = opened()
    change(page, "batch-size", "16")
    page.locator("#compare .measures button", has_text="MACs").click()
    rows = page.locator("#compare tr[data-path]")
    ends = [
        [float(row.get_attribute(f"data-{end}") or "") for row in rows.all()]
        for end in ("before", "after")
    ]
    before, after = figure_of(page, "totals.forward_macs")
    assert (sum(ends[0]), sum(ends[1])) == (before, after)
    rows.first.locator("button").click()
    assert page.locator("footer.selection").is_visible()
    assert rows.first.get_attribute("aria-current") == "true"


def test_pin_and_reset(opened: Callable[..., Page]) -> None:
    page = opened()
    change(page, "batch-size", "16")
    page.get_by_role("button", name="Pin as baseline").click()
    settled(page)
    assert page.locator("#compare").count() == 0
    change(page, "batch-size", "32")
    before, after = figure_of(page, "totals.forward_macs")
    assert after == 2 * before
    page.get_by_role("button", name="Reset").click()
    settled(page)
    assert page.locator("#compare").count() == 0
    assert page.locator("[data-name=batch-size]").input_value() == "8"


def test_the_address_holds_it_all(opened: Callable[..., Page]) -> None:
    page = opened()
    change(page, "batch-size", "16")
    page.get_by_role("button", name="Pin as baseline").click()
    change(page, "optimizer", "sgd-momentum")
    figures = figure_of(page, "memory.optimizer_bytes")
    address = page.url.split("#")[1]
    page.reload()
    settled(page)
    assert figure_of(page, "memory.optimizer_bytes") == figures
    other = opened(f"#{address}")
    assert figure_of(other, "memory.optimizer_bytes") == figures
    assert other.locator("[data-name=optimizer]").input_value() == "sgd-momentum"


def test_equal_is_one_line(opened: Callable[..., Page]) -> None:
    page = opened()
    # Another name of the same: nothing differs but what was written.
    change(page, "device", "Tesla T4")
    assert page.locator("#compare .body").inner_text().startswith("No difference")


def test_two_tabs_do_not_disturb_each_other(opened: Callable[..., Page]) -> None:
    one, other = opened(), opened()
    for page, batch in ((one, "16"), (other, "64")):
        page.locator("[data-name=batch-size]").fill(batch)
    for page, factor in ((one, 2), (other, 8)):
        page.wait_for_selector("#compare", timeout=60_000)
        settled(page)
        before, after = figure_of(page, "totals.forward_macs")
        assert after == factor * before


def test_a_broken_model_is_told_and_the_page_lives_on(opened: Callable[..., Page]) -> None:
    page = opened()
    change(page, "batch-size", "3")
    assert "three is too many" in page.get_by_role("alert").first.inner_text()
    change(page, "batch-size", "16")
    assert page.locator(".what-if .failed").is_hidden()
    change(page, "input-size", "3,x")
    message = page.locator(".what-if .failed").inner_text()
    assert "'3,x' is not a size" in message and "3,224,224" in message


def test_a_killed_worker_is_told_and_replaced(opened: Callable[..., Page], server: Live) -> None:
    page = opened()
    page.locator("[data-name=batch-size]").fill("7")  # takes a minute
    page.wait_for_selector(".what-if[data-busy] .cancel")
    until(lambda: server.analyst.running == 1)
    assert server.analyst.worker_pid is not None
    os.kill(server.analyst.worker_pid, signal.SIGKILL)
    page.wait_for_selector(".what-if .failed:not([hidden])", timeout=30_000)
    assert "SIGKILL" in page.locator(".what-if .failed").inner_text()
    change(page, "batch-size", "16")
    assert page.locator("#compare").count() == 1


def test_cancel_goes_back(opened: Callable[..., Page], server: Live) -> None:
    page = opened()
    page.locator("[data-name=batch-size]").fill("7")
    page.locator(".what-if .cancel").click()
    settled(page)
    assert page.locator("[data-name=batch-size]").input_value() == "8"
    until(lambda: server.analyst.running == 0)


def test_many_fast_changes_ask_once(opened: Callable[..., Page], server: Live) -> None:
    page = opened()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    batch = page.locator("[data-name=batch-size]")
    for value in range(10, 60):
        batch.fill(str(value))
    settled(page)
    before, after = figure_of(page, "totals.forward_macs")
    assert after / before == 59 / 8
    assert len(asked) < 10


def test_focus_and_place_stay(opened: Callable[..., Page]) -> None:
    page = opened(viewport={"width": 1200, "height": 700})
    change(page, "batch-size", "16")
    page.evaluate("scrollTo(0, 900)")
    before = page.evaluate("scrollY")
    assert before > 500
    page.locator("[data-name=precision]").focus()
    page.locator("[data-name=precision]").select_option("fp16")
    settled(page)
    assert page.evaluate("document.activeElement.dataset.name") == "precision"
    assert abs(page.evaluate("scrollY") - before) < 120


def test_models_beside_each_other(opened: Callable[..., Page]) -> None:
    page = opened()
    rows = page.locator("#models tbody tr")
    assert rows.count() == 2
    assert page.locator("[data-name=context]").is_hidden()
    rows.nth(1).locator("button").click()
    settled(page)
    assert page.locator("h1").inner_text() == "Tokens"
    assert "embed" in page.locator("#compare").inner_text()
    change(page, "context", "32")
    assert "[2, 32]" in page.locator("header.top").inner_text()
    change(page, "mode", "inference")
    page.wait_for_function("() => document.querySelectorAll('#models td.waits').length === 0")
    assert page.locator("[data-name=optimizer]").is_disabled()
    values = page.locator("#models [data-beside='totals.params']").all()
    assert len({value.get_attribute("data-value") for value in values}) == 2


@pytest.mark.parametrize(
    ("name", "typed"), [("device", "RTX 40"), ("batch-size", ""), ("input-size", "3,")]
)
def test_an_answer_leaves_what_is_being_typed(
    opened: Callable[..., Page], name: str, typed: str
) -> None:
    page = opened()
    field = page.locator(f".what-if input[data-name={name}]").first
    field.fill(typed)
    page.locator(".what-if [data-name=precision]").evaluate(
        "one => { one.value = 'bf16'; one.dispatchEvent(new Event('change')); }"
    )
    settled(page)
    assert field.input_value() == typed


def test_every_control_is_labelled(opened: Callable[..., Page]) -> None:
    for language in ("en-US", "zh-CN"):
        page = opened(locale=language, viewport={"width": 390, "height": 844})
        for control in page.locator(".what-if :is(input, select, button)").all():
            name = control.evaluate(
                "element => element.labels?.[0]?.textContent || element.ariaLabel "
                "|| element.textContent"
            )
            assert name.strip()
            if language == "zh-CN":
                assert any("一" <= character <= "鿿" for character in name), name
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_views_that_are_made_anew_leave_nothing(opened: Callable[..., Page]) -> None:
    page = opened()
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def held() -> dict[str, float]:
        session.send("HeapProfiler.collectGarbage")
        metrics = session.send("Performance.getMetrics")["metrics"]
        return {one["name"]: one["value"] for one in metrics}

    for batch in ("16", "8", "16"):  # both are kept from here on: nothing is asked
        change(page, "batch-size", batch)
    before = held()
    for _ in range(10):
        change(page, "batch-size", "8")
        change(page, "batch-size", "16")
    after = held()
    assert after["Nodes"] <= before["Nodes"] * 1.1
    assert after["JSEventListeners"] <= before["JSEventListeners"] * 1.1
    assert after["JSHeapUsedSize"] - before["JSHeapUsedSize"] < 8 * 2**20


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_bar_and_what_changed_are_accessible(opened: Callable[..., Page], dark: bool) -> None:
    page = opened(color_scheme="dark" if dark else "light", viewport={"width": 1200, "height": 800})
    change(page, "batch-size", "16")
    change(page, "device", "no such card")
    assert page.locator(".what-if .failed").is_visible()
    assert violations(page) == []
