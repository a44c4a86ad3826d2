"""torchsummary 1.5.1 beside ours: same rows, names, shapes, parameters, or a listed reason."""

from __future__ import annotations

import csv
from collections.abc import Callable
from typing import Any

import pytest
import torch

from torchgauge.compat.torchsummary import summary

torchsummary = pytest.importorskip("torchsummary")

from flop_zoo import ZOO, library  # noqa: E402
from torchsummary_comparison import (  # noqa: E402
    COLUMNS,
    COMPARED,
    HERE,
    TABLE,
    differences,
    original_rows,
    sizes_of,
)

pytestmark = pytest.mark.models


def listed() -> list[dict[str, str]]:
    with TABLE.open(newline="", encoding="utf-8") as source:
        return list(csv.DictReader(source))


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.filterwarnings("ignore")
def test_rows_are_those_of_the_original_or_listed(name: str) -> None:
    assert differences(name) == [line for line in listed() if line["model"] == name]


@pytest.mark.parametrize("name", ["small-cnn", "depthwise-cnn", "unet-3d", "bilinear"])
def test_the_original_prints_the_same_on_meta_and_for_real(name: str) -> None:
    sizes = sizes_of(ZOO[name])
    assert sizes is not None
    with torch.device("cpu"):
        real = original_rows(ZOO[name].build(), sizes, "cpu")
    assert original_rows(ZOO[name].meta_model(), sizes) == real


def test_the_vgg16_example_of_its_readme(
    golden: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    models = library("torchvision.models")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    vgg = models.vgg16().to(device)
    summary(vgg, (3, 224, 224))
    printed = capsys.readouterr().out
    golden("compat/torchsummary_vgg16.txt", printed.removesuffix("\n"))
    torchsummary.summary(vgg, (3, 224, 224), device="cpu")
    theirs = capsys.readouterr().out
    kept = slice(0, theirs.splitlines().index("Input size (MB): 0.57") + 1)
    assert printed.splitlines()[kept] == theirs.splitlines()[kept]


def test_enough_models_are_compared_and_most_agree() -> None:
    lines = listed()
    stopped = {line["model"] for line in lines if line["what"] == "it runs"}
    assert len(COMPARED) - len(stopped) >= 40
    assert {line["model"] for line in lines} <= set(COMPARED)


def test_every_difference_has_a_mechanism_that_is_explained() -> None:
    with (HERE / "torchsummary_mechanisms.csv").open(newline="", encoding="utf-8") as source:
        explained = {row["mechanism"]: row for row in csv.DictReader(source)}
    used = {why for line in listed() for why in line["why"].split("+")}
    assert used == set(explained)
    for line in listed():
        assert tuple(line) == COLUMNS
        rights: set[Any] = {explained[why]["right"] for why in line["why"].split("+")}
        assert rights == {line["who_is_right"]}
