"""thop 0.1.1 beside ours: the same MACs and parameters per layer, or a listed reason."""

from __future__ import annotations

import csv

import pytest
import torch

from torchgauge.compat.thop import clever_format, profile
from torchgauge.compat.thop.vision import basic_hooks

thop = pytest.importorskip("thop")

from flop_zoo import ZOO, library  # noqa: E402
from thop_comparison import (  # noqa: E402
    COLUMNS,
    COMPARED,
    HERE,
    TABLE,
    differences,
    inputs_of,
    leaves,
)

pytestmark = [pytest.mark.models, pytest.mark.filterwarnings("ignore")]
PLAIN_LAYERS = ("Conv1d", "Conv2d", "Conv3d", "Linear")


def listed() -> list[dict[str, str]]:
    with TABLE.open(newline="", encoding="utf-8") as source:
        return list(csv.DictReader(source))


@pytest.mark.parametrize("name", COMPARED)
def test_figures_are_those_of_the_original_or_listed(name: str) -> None:
    assert differences(name) == [line for line in listed() if line["model"] == name]


def test_convolutions_and_linear_layers_agree() -> None:
    assert len(COMPARED) >= 40
    of_plain_layers = [
        line
        for line in listed()
        if line["what"].startswith("macs of ") and line["what"].split()[2] in PLAIN_LAYERS
    ]
    assert [(line["model"], line["why"]) for line in of_plain_layers] == [
        ("timm-coat_tiny", "registered_twice"),
        ("timm-ghostnet_050", "no_rule"),  # its Linear is a subclass of timm's own
    ]


def test_every_difference_has_a_mechanism_that_is_explained() -> None:
    with (HERE / "thop_mechanisms.csv").open(newline="", encoding="utf-8") as source:
        explained = {row["mechanism"]: row["right"] for row in csv.DictReader(source)}
    assert {why for line in listed() for why in line["why"].split("+")} == set(explained)
    for line in listed():
        assert tuple(line) == COLUMNS
        assert {explained[why] for why in line["why"].split("+")} == {line["who_is_right"]}


def test_the_original_counts_the_same_on_meta_and_for_real() -> None:
    for name in ("small-cnn", "autoencoder", "perceptron", "lstm"):
        real = tuple(torch.zeros(x.shape, dtype=x.dtype) for x in inputs_of(ZOO[name]))
        expected = thop.profile(ZOO[name].build(), real, verbose=False)
        assert thop.profile(ZOO[name].meta_model(), inputs_of(ZOO[name]), verbose=False) == expected


def test_the_example_of_its_readme() -> None:
    resnet50 = library("torchvision.models").resnet50
    model = resnet50()
    input = torch.randn(1, 3, 224, 224)
    macs, params = profile(model, inputs=(input,))
    assert clever_format([macs, params], "%.3f") == ("4.089G", "25.557M")
    theirs = thop.profile(model, inputs=(input,), verbose=False)
    assert clever_format(theirs, "%.3f") == ("4.134G", "25.557M")


def test_thops_figures_are_reached_with_its_rules() -> None:
    """What was silently in thop's figure is there on request: resnet50's norms and pooling."""
    model = library("torchvision.models").resnet50()
    input = torch.randn(1, 3, 224, 224)
    rules = {
        torch.nn.BatchNorm2d: basic_hooks.count_normalization,
        torch.nn.AdaptiveAvgPool2d: basic_hooks.count_adap_avgpool,
    }
    ours = profile(model, (input,), rules, verbose=False)
    assert ours == thop.profile(model, (input,), verbose=False)


def test_rules_say_what_the_originals_say() -> None:
    from thop.vision import basic_hooks as originals

    x = torch.zeros(2, 4, 8, 8)
    nn = torch.nn
    for layer, name in (
        (nn.BatchNorm2d(4), "count_normalization"), (nn.LayerNorm(8), "count_normalization"),
        (nn.InstanceNorm2d(4), "count_normalization"), (nn.PReLU(), "count_prelu"),
        (nn.Softmax(1), "count_softmax"), (nn.AvgPool2d(2), "count_avgpool"),
        (nn.AdaptiveAvgPool2d(2), "count_adap_avgpool"), (nn.LeakyReLU(), "count_relu"),
        (nn.Upsample(scale_factor=2, mode="bilinear"), "count_upsample"),
        (nn.Upsample(scale_factor=2, mode="bicubic"), "count_upsample"),
        (nn.Upsample(scale_factor=2), "count_upsample"), (nn.Linear(8, 3), "count_linear"),
        (nn.Conv2d(4, 6, 3, groups=2), "count_convNd"), (nn.ReLU(), "zero_ops"),
    ):  # fmt: skip
        rule = getattr(basic_hooks, name)
        expected = thop.profile(layer, (x,), {type(layer): getattr(originals, name)}, False)[0]
        assert profile(layer, (x,), {type(layer): rule}, verbose=False)[0] == expected, name


def test_layers_have_the_names_of_the_original() -> None:
    model = library("torchvision.models").resnet18()
    input = torch.zeros(1, 3, 64, 64)
    ours = [path for path, _, _ in leaves(profile(model, (input,), ret_layer_info=True)[2])]
    theirs = thop.profile(model, (input,), verbose=False, ret_layer_info=True)[2]
    assert ours == [path for path, _, _ in leaves(theirs)]
