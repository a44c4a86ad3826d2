"""The file of a report: its data whole, nothing of it markup, and nothing asked of anybody."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import torchgauge as tg
from lean_data import whole
from torchgauge.cli.main import main
from torchgauge.facts.report import Report
from torchgauge.web.page import report_html

_LARGEST = 1_500_000
HOSTILE = "</script><script>alert(1)</script><!--"


class Data(HTMLParser):
    """Finds the page's scripts, its JSON, and whatever would be loaded from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[dict[str, str | None]] = []
        self.texts: list[str] = []
        self.loads: list[str] = []
        self._open = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loads += [str(given[name]) for name in ("src", "href") if name in given]
        if tag == "script":
            self.scripts.append(given)
            self.texts.append("")
            self._open = True

    def handle_endtag(self, tag: str) -> None:
        self._open = self._open and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[-1] += data

    @property
    def data(self) -> Any:
        return whole(json.loads(self.texts[0]))


def trained(model: nn.Module) -> Report:
    return tg.analyze(model, (2, 8), mode="training", optimizer="adamw", device="T4")


def test_the_data_are_the_answers_own_json() -> None:
    report = trained(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)))
    page = Data(report_html(report))
    (answer,) = page.data["answers"]
    assert answer["report"] == json.loads(report.to_json())
    assert [script.get("type") for script in page.scripts] == ["application/json", "module"]
    assert page.loads == []


def test_own_costs_sum_to_the_totals() -> None:
    report = trained(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)))
    own = Data(report_html(report)).data["answers"][0]["own"]
    assert sum(own["params"]) == report.totals.params
    assert sum(own["macs"]) == report.totals.forward_macs
    assert len(own["time_ms"]) == len(report.modules)


def test_folds_are_those_of_the_terminal() -> None:
    blocks = [nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(5)]
    data = Data(report_html(tg.analyze(nn.Sequential(*blocks), (2, 8)))).data["answers"][0]
    paths = [module["path"] for module in data["report"]["modules"]]
    assert [[paths[index] for index in fold] for fold in data["folds"]] == [list("01234")]


def test_nothing_of_the_data_becomes_markup() -> None:
    model = nn.Sequential()
    model.add_module("<b>&amp;\u202e" + "x" * 10_000, type(HOSTILE, (nn.ReLU,), {})())
    text = report_html(tg.analyze(model, (2, 8), model_name=HOSTILE))
    page = Data(text)
    assert len(page.scripts) == 2
    assert page.data["answers"][0]["report"]["model"]["name"] == HOSTILE
    assert "alert(1)</script><script>alert" not in text
    assert "<b>&amp;" not in text


def test_the_policy_lets_one_script_run_and_nothing_be_asked() -> None:
    policy = re.search(
        r'Content-Security-Policy" content="([^"]*)"', report_html(trained(nn.Linear(8, 2)))
    )
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy[1].split("; "))
    assert rules["default-src"] == rules["connect-src"] == "'none'"
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/=]{44}'", rules["script-src"])


def test_key_figures_are_there_without_a_script() -> None:
    text = report_html(trained(nn.Linear(8, 2)))
    static = text[text.index("<noscript>") : text.index("</noscript>")]
    assert "18" in static and "Params" in static and "<script" not in static


def test_the_program_is_small() -> None:
    report = trained(nn.Linear(8, 2))
    data = Data(report_html(report)).texts[0]
    assert len(report_html(report)) - len(data) < _LARGEST


def test_a_loaded_report_has_no_step(tmp_path: Path) -> None:
    trained(nn.Linear(8, 2)).save(tmp_path / "report.json")
    loaded = tg.load(tmp_path / "report.json")
    assert Data(report_html(loaded)).data["answers"][0]["step"] is None


def test_further_devices_have_their_verdicts() -> None:
    rows = Data(report_html(trained(nn.Linear(8, 2)), devices=["RTX 2080 Ti"])).data
    assert [row["device"] for row in rows["answers"][0]["devices"]] == ["T4", "RTX 2080 Ti"]
    with pytest.raises(tg.TorchGaugeError, match="other kernels"):
        report_html(trained(nn.Linear(8, 2)), devices=["A100-SXM4-40GB"])


def test_save_writes_it_by_the_name_of_the_file(tmp_path: Path) -> None:
    report = trained(nn.Linear(8, 2))
    report.save(tmp_path / "x.html")
    assert (tmp_path / "x.html").read_text(encoding="utf-8") == report_html(report) + "\n"
    tg.compare(report, report).save(tmp_path / "y.HTML")
    assert "no difference" in (tmp_path / "y.HTML").read_text(encoding="utf-8")
    report.save(tmp_path / "z")
    assert json.loads((tmp_path / "z").read_text(encoding="utf-8"))["schema_version"] == 1


def test_the_command_line_writes_it(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    model = "examples/simple_cnn.py:SimpleCNN"
    assert main(["summary", model, "--input-size", "3,224,224", "--output", str(target)]) == 0
    answer = Data(target.read_text(encoding="utf-8")).data["answers"][0]
    assert answer["report"]["model"]["name"] == "SimpleCNN"
    assert answer["step"]["operators"]["op"]
