"""thop's names: closed forms, custom rules, sums of the layers, what was wrong before."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import torchgauge as tg
from small_models import MODELS, dtypes_of
from torchgauge.compat import thop
from torchgauge.compat.thop import clever_format, profile, profile_origin
from torchgauge.compat.thop import utils as thop_utils
from torchgauge.compat.thop.profile import register_hooks
from torchgauge.compat.thop.vision import basic_hooks
from torchgauge.errors import ModelError, UsageError

Printed = pytest.CaptureFixture[str]
ITSELF = "(itself)"


class YourModule(nn.Module):
    """A module of the user's own, with a layer inside."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) * 2


class Subclass(YourModule):
    pass


class Calls(nn.Module):
    """Calls its layers by a function of its own."""

    def __init__(self, call: Callable[..., Any], **layers: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.call = call

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.call(self, *inputs)


def count_your_model(model: Any, x: Any, y: Any) -> None:
    model.total_ops += 1000


def count_one(model: Any, x: Any, y: Any) -> None:
    model.total_ops += 1


def count_two(model: Any, x: Any, y: Any) -> None:
    model.total_ops += 2


X = torch.zeros(2, 4)


# ------------------------------------------------------------------------ closed forms


def test_convolution_as_in_the_original_tests() -> None:
    """Lyken17/pytorch-OpCounter, tests/test_conv2d.py: 12·30·30 outputs of 3·5·5 each."""
    for bias in (False, True):
        net = nn.Conv2d(3, 12, kernel_size=(5, 5), padding=1, bias=bias)
        macs, params = profile(net, inputs=(torch.randn(1, 3, 32, 32),))
        assert macs == 810000
        assert params == 900 + 12 * bias


@pytest.mark.parametrize("kernel", [(1, 1), (3, 7), (19, 4)])
def test_convolutions_of_any_size(kernel: tuple[int, int]) -> None:
    """As in test_conv2d_random of the same file."""
    n, channels, out, height, width = 3, 5, 7, 20 + kernel[0], 11 + kernel[1]
    net = nn.Conv2d(channels, out, kernel, stride=1, padding=1, bias=False)
    macs, _ = profile(net, inputs=(torch.randn(n, channels, height, width),))
    outputs = n * out * (height + 3 - kernel[0]) * (width + 3 - kernel[1])
    assert macs == outputs * channels * kernel[0] * kernel[1]


def test_linear_and_relu_as_in_the_original_tests() -> None:
    """Lyken17/pytorch-OpCounter, tests/test_matmul.py and tests/test_relu.py."""
    for n, inputs, outputs in ((1, 100, 200), (37, 410, 3), (499, 2, 77)):
        macs, params = profile(nn.Linear(inputs, outputs), inputs=(torch.randn(n, inputs),))
        assert macs == n * inputs * outputs
        assert params == inputs * outputs + outputs
    assert profile(nn.ReLU(), inputs=(torch.randn(1, 100),)) == (0.0, 0.0)


def test_clever_format_as_in_the_original_tests() -> None:
    """Lyken17/pytorch-OpCounter, tests/test_utils.py."""
    assert thop_utils.clever_format(1, "%.2f") == "1.00B"
    assert thop_utils.clever_format([1, 2], "%.2f") == ("1.00B", "2.00B")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1000, "1000.00B"), (1001, "1.00K"), (1e6, "1000.00K"), (1e6 + 1, "1.00M"),
        (1e9, "1000.00M"), (2.5e9, "2.50G"), (1e12, "1000.00G"), (3.2e12, "3.20T"), (0, "0.00B"),
        (torch.tensor(5e6), "5.00M"), (np.float64(5e6), "5.00M"), ([5e6], "5.00M"),
    ],
)  # fmt: skip
def test_clever_format(number: Any, text: str) -> None:
    assert clever_format(number) == text


def test_clever_format_of_several() -> None:
    assert clever_format([4089184256.0, 25557032.0], "%.3f") == ("4.089G", "25.557M")
    assert clever_format((1, 2, 3), "%d") == ("1B", "2B", "3B")
    assert clever_format(torch.tensor([1.0, 2000.0])) == ("1.00B", "2.00K")


def test_colours(capsys: Printed) -> None:
    thop_utils.prRed("a", "b")
    thop_utils.prGreen("c")
    thop_utils.prYellow("d", end="")
    expected = "\033[91ma b\n\033[00m\033[92mc\n\033[00m\033[93md\033[00m"
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("name", MODELS)
def test_figures_are_those_of_the_report(name: str) -> None:
    build, size = MODELS[name]
    model = build()
    dtype = torch.int64 if dtypes_of(name) else torch.float32
    result = profile(model, (torch.zeros(size, dtype=dtype),))
    report = tg.analyze(model, input_data=(torch.zeros(size, dtype=dtype),))
    assert result == (report.totals.forward_macs, report.totals.params)
    assert all(type(value) is float for value in result)
    assert profile_origin(model, (torch.zeros(size, dtype=dtype),)) == result


def test_what_thop_does_not_see() -> None:
    """Functional products, attention, bare parameters, embeddings, a bare layer's parameters."""
    weight = nn.Parameter(torch.zeros(4, 8))
    functional: Callable[..., Any] = lambda m, x: F.linear(x, m.weight.T)  # noqa: E731
    assert profile(Calls(functional, weight=weight), (X,)) == (2 * 4 * 8, 32)
    attention = nn.MultiheadAttention(16, 2, batch_first=True)
    x = torch.zeros(1, 5, 16)
    assert profile(attention, (x, x, x)) == (4 * 5 * 16 * 16 + 2 * 5 * 5 * 16, 4 * 16 * 17)
    assert profile(nn.Embedding(10, 4), (torch.zeros(3, dtype=torch.int64),)) == (0, 40)
    transposed = nn.ConvTranspose2d(4, 6, 2, stride=2)
    assert profile(transposed, (torch.zeros(1, 4, 5, 5),))[0] == 5 * 5 * 4 * 6 * 2 * 2


def test_tied_weights_count_once() -> None:
    embed, head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
    head.weight = embed.weight
    model = Calls(lambda m, x: m.head(m.embed(x)), embed=embed, head=head)
    assert profile(model, (torch.zeros(1, 3, dtype=torch.int64),)) == (3 * 4 * 10, 40)


# ------------------------------------------------------------------------ inputs


def test_inputs() -> None:
    layer = nn.Linear(4, 8)
    for inputs in ((X,), [X], X, {"input": X}):
        assert profile(layer, inputs) == (64, 40)
    add = Calls(lambda m, x, y: m.layer(x + y), layer=layer)
    assert profile(add, (X, X)) == (64, 40)
    takes_dict = Calls(lambda m, batch: m.layer(batch["x"]), layer=layer)
    assert profile(takes_dict, ({"x": X},)) == (64, 40)


def test_the_model_runs_in_evaluation_mode() -> None:
    model = Calls(lambda m, x: x if m.training else m.layer(x), layer=nn.Linear(4, 8))
    assert profile(model, (X,))[0] == 64
    assert model.training


# ------------------------------------------------------------------------ custom rules


def test_the_rule_of_its_readme() -> None:
    model = nn.Sequential(nn.Linear(4, 4), YourModule())
    macs, params = profile(model, inputs=(X,), custom_ops={YourModule: count_your_model})
    assert (macs, params) == (32 + 1000, 40)
    assert clever_format([macs, params], "%.3f") == ("1.032K", "40.000B")


def test_a_rule_takes_the_place_of_what_is_inside() -> None:
    model = nn.Sequential(YourModule(), nn.Linear(4, 8))
    assert profile(model, (X,))[0] == 32 + 64
    assert profile(model, (X,), {YourModule: count_one})[0] == 1 + 64
    assert profile(model, (X,), {YourModule: count_one, nn.Linear: count_two})[0] == 1 + 2
    assert profile(model, (X,), {nn.Sequential: count_two})[0] == 2
    assert profile(nn.Linear(4, 8), (X,), {nn.Linear: count_one})[0] == 1


def test_rules_hold_for_subclasses_and_the_nearest_class_wins() -> None:
    model = nn.Sequential(YourModule(), Subclass())
    assert profile(model, (X,), {YourModule: count_one})[0] == 2
    assert profile(model, (X,), {YourModule: count_one, Subclass: count_two})[0] == 3
    norms = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4))
    rules = {nn.modules.batchnorm._BatchNorm: count_one, nn.Module: count_two}
    assert profile(norms, (X,), rules)[0] == 2  # the model is a Module itself
    assert profile(norms, (X,), {nn.modules.batchnorm._BatchNorm: count_one})[0] == 33


def test_a_rule_is_asked_at_each_call() -> None:
    model = Calls(lambda m, x: m.layer(m.layer(x)), layer=YourModule())
    assert profile(model, (X,), {YourModule: count_one})[0] == 2


def test_ways_to_count() -> None:
    def as_int(m: Any, x: Any, y: Any) -> None:
        m.total_ops += int(y.numel())

    def as_float(m: Any, x: Any, y: Any) -> None:
        m.total_ops += 8.0

    def as_tensor(m: Any, x: Any, y: Any) -> None:
        m.total_ops += torch.DoubleTensor([int(y.numel())])

    def put(m: Any, x: Any, y: Any) -> None:
        m.total_ops = torch.Tensor([y.shape[0] * y.shape[1]])

    def put_number(m: Any, x: Any, y: Any) -> None:
        m.total_ops = 8

    def by_product(m: Any, x: Any, y: Any) -> None:
        m.total_ops += torch.prod(torch.tensor(y.shape)).double()

    for rule in (as_int, as_float, as_tensor, put, put_number, by_product):
        assert profile(nn.Linear(4, 4), (X,), {nn.Linear: rule}, verbose=False)[0] == 8


def test_what_a_rule_gets() -> None:
    seen = RuleArguments()
    profile(nn.Linear(4, 8), (X,), {nn.Linear: seen}, verbose=False)
    module, inputs, output, total = seen.last
    assert isinstance(module, nn.Linear) and module.in_features == 4
    assert isinstance(inputs, tuple) and inputs[0].shape == (2, 4) and output.shape == (2, 8)
    assert total.dtype == torch.float64 and total.shape == (1,)
    assert sum(p.numel() for p in module.parameters()) == 40


class RuleArguments:
    """A rule that is an object, and notes what it was called with."""

    def __call__(self, m: Any, x: Any, y: Any) -> None:
        self.last = (m, x, y, m.total_ops)
        m.remembered = True


def test_a_rule_that_is_none_is_no_rule() -> None:
    model = nn.Sequential(YourModule(), Subclass())
    assert profile(model, (X,), {YourModule: count_one, Subclass: None})[0] == 1 + 32


def test_a_rule_that_fails() -> None:
    def fails(m: Any, x: Any, y: Any) -> None:
        raise NotImplementedError("not yet")

    with pytest.raises(NotImplementedError, match="not yet"):
        profile(nn.Linear(4, 4), (X,), {nn.Linear: fails})


@pytest.mark.parametrize(
    "rule",
    [
        lambda m, x, y: setattr(m, "total_ops", m.total_ops + y.sum()),
        lambda m, x, y: m.total_ops.add_(y.sum()),
        lambda m, x, y: setattr(m, "total_ops", y.sum()),
        lambda m, x, y: setattr(m, "total_ops", y.sum().item()),
    ],
)
def test_a_rule_that_reads_values(rule: Any) -> None:
    with pytest.raises(UsageError, match="counts from values") as raised:
        profile(nn.Linear(4, 4), (X,), {nn.Linear: rule})
    assert "y.numel()" in str(raised.value)


def test_rules_for_every_call() -> None:
    register_hooks[YourModule] = count_one
    try:
        model = nn.Sequential(YourModule(), nn.Linear(4, 4))
        assert profile(model, (X,))[0] == 33
        assert profile(model, (X,), {YourModule: count_two})[0] == 34
    finally:
        register_hooks.clear()


def test_thops_own_rules_on_request() -> None:
    x = torch.zeros(2, 4, 8, 8)
    rules = basic_hooks
    for layer, rule, expected in (
        (nn.BatchNorm2d(4), rules.count_normalization, 4 * 512),
        (nn.InstanceNorm2d(4), rules.count_normalization, 2 * 512),
        (nn.LayerNorm(8), rules.count_normalization, 4 * 512),
        (nn.PReLU(), rules.count_prelu, 512),
        (nn.ReLU(), rules.count_relu, 0),
        (nn.Softmax(1), rules.count_softmax, 128 * 11),
        (nn.AvgPool2d(2), rules.count_avgpool, 128),
        (nn.AdaptiveAvgPool2d(2), rules.count_adap_avgpool, 17 * 32),
        (nn.Upsample(scale_factor=2, mode="bilinear"), rules.count_upsample, 11 * 2048),
        (nn.Conv2d(4, 6, 3, groups=2), rules.count_convNd, 2 * 6 * 36 * 2 * 9),
        (nn.ConvTranspose2d(4, 6, 2, 2), rules.count_convNd, 512 * 6 * 4),
        (nn.Linear(8, 3), rules.count_linear, 64 * 8 * 3),
        (nn.Conv2d(4, 6, 3), rules.zero_ops, 0),
    ):
        assert profile(layer, (x,), {type(layer): rule}, verbose=False)[0] == expected


# ------------------------------------------------------------------------ what is printed


def test_verbose(capsys: Printed) -> None:
    model = nn.Sequential(YourModule(), nn.Linear(4, 4), YourModule(), Subclass())
    profile(model, (X,), {YourModule: count_one})
    home = f"{YourModule.__module__}."
    assert capsys.readouterr().out == (
        f"[INFO] Customize rule count_one() <class '{home}YourModule'>.\n"
        f"[INFO] Customize rule count_one() <class '{home}Subclass'>.\n"
    )
    profile(model, (X,), {YourModule: count_one}, verbose=False)
    profile(model, (X,))
    profile_origin(model, (X,), {YourModule: count_one}, verbose=False)
    assert capsys.readouterr().out == ""
    profile_origin(model, (X,), {nn.Sequential: RuleArgumentsThatCount()})
    expected = "[INFO] Customize rule RuleArgumentsThatCount() <class 'torch.nn.modules.container"
    assert capsys.readouterr().out.startswith(expected)
    register_hooks[nn.Linear] = count_two
    try:
        profile(model, (X,))
    finally:
        register_hooks.clear()
    expected = "[INFO] Register count_two() for <class 'torch.nn.modules.linear.Linear'>.\n"
    assert capsys.readouterr().out == expected


class RuleArgumentsThatCount(RuleArguments):
    pass


def test_report_missing(capsys: Printed) -> None:
    model = Calls(lambda m, x: torch.linalg.matrix_exp(m.used(x).T @ x), used=nn.Linear(4, 4),
                  unused=nn.Linear(3, 3))  # fmt: skip
    profile(model, (X,), {nn.Bilinear: count_one}, verbose=False, report_missing=True)
    printed = capsys.readouterr().out
    assert printed == (
        "\033[91m[WARN] Cannot find rule for aten.linalg_matrix_exp.default (1 call). "
        "Treat it as zero Macs.\n\033[00m"
        "\033[91m[WARN] unused: Linear was never called; its 12 parameters are counted.\n\033[00m"
    )
    profile(model, (X,))
    assert capsys.readouterr().out == ""
    profile(model, (X,), {nn.Linear: count_one}, verbose=False, report_missing=True)
    assert capsys.readouterr().out.startswith("[INFO] Customize rule count_one()")
    profile_origin(model, (X,), verbose=False, report_missing=True)
    assert capsys.readouterr().out == printed


def test_what_a_rule_covers_is_not_missing(capsys: Printed) -> None:
    model = nn.Sequential(Calls(lambda m, x: torch.linalg.matrix_exp(x.T @ x)))
    profile(model, (X,), {Calls: count_one}, report_missing=True)
    assert "WARN" not in capsys.readouterr().out


# ------------------------------------------------------------------------ layers


def check_sums(macs: float, params: float, children: dict[str, Any]) -> None:
    assert sum(child[0] for child in children.values()) == macs
    assert sum(child[1] for child in children.values()) == params
    for child in children.values():
        if child[2]:
            check_sums(*child)


@pytest.mark.parametrize("name", MODELS)
def test_layers_sum_to_the_totals(name: str) -> None:
    build, size = MODELS[name]
    dtype = torch.int64 if dtypes_of(name) else torch.float32
    macs, params, layers = profile(build(), (torch.zeros(size, dtype=dtype),), ret_layer_info=True)
    check_sums(macs, params, layers)
    rules = {nn.Linear: count_one, nn.RNNBase: count_two}
    result = profile(
        build(), (torch.zeros(size, dtype=dtype),), rules, verbose=False, ret_layer_info=True
    )
    check_sums(*result)


def test_layers() -> None:
    model = Calls(
        lambda m, x: m.blocks[1](m.blocks[0](x)) @ m.weight,
        weight=nn.Parameter(torch.zeros(4, 4)),
        blocks=nn.ModuleList([YourModule(), nn.Linear(4, 4)]),
    )
    macs, params, layers = profile(model, (X,), ret_layer_info=True)
    assert (macs, params) == (96, 56)
    inside = {"0": (32, 20, {"inner": (32, 20, {})}), "1": (32, 20, {})}
    assert layers == {ITSELF: (32, 16, {}), "blocks": (64, 40, inside)}
    assert len(profile(model, (X,), ret_layer_info=False)) == 2


def test_layers_of_a_bare_layer_and_of_a_rule() -> None:
    assert profile(nn.Linear(4, 8), (X,), ret_layer_info=True)[2] == {ITSELF: (64, 40, {})}
    model = nn.Sequential(YourModule())
    found = profile(model, (X,), {YourModule: count_one}, ret_layer_info=True)
    assert found == (1, 20, {"0": (1, 20, {})})


def test_a_module_under_two_names_counts_under_the_first() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    macs, params, layers = profile(model, (X,), ret_layer_info=True)
    assert (macs, params) == (64, 20)
    assert layers == {"0": (64, 20, {}), "1": (0, 0, {}), "2": (0, 0, {})}


# ------------------------------------------------------------------------ side effects, failures


def leaves_things_behind(m: Any, x: Any, y: Any) -> None:
    m.register_parameter("more", nn.Parameter(torch.zeros(5)))
    m.register_buffer("state", torch.zeros(5))
    m.inner = nn.Linear(50, 50)
    m.total_ops += 7


def test_nothing_is_left() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), YourModule())
    model[1].eval()
    keys = list(model.state_dict())
    attributes = [sorted(module.__dict__) for module in model.modules()]
    rng = torch.get_rng_state()
    rules = {YourModule: leaves_things_behind, nn.Linear: count_one}
    assert profile(model, (X,), rules, report_missing=True) == (1 + 7, 48)
    with pytest.raises(ModelError):
        profile(model, (torch.zeros(2, 5),), rules)
    assert list(model.state_dict()) == keys
    assert [sorted(module.__dict__) for module in model.modules()] == attributes
    assert [module.training for module in model] == [True, False, True]
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), rng)
    assert profile(model, (X,), rules) == profile(model, (X,), rules)


def test_an_error_is_of_both_kinds() -> None:
    with pytest.raises(ModelError, match="Linear failed in forward") as raised:
        profile(nn.Linear(4, 4), (torch.zeros(2, 5),))
    assert isinstance(raised.value, RuntimeError)


def test_names() -> None:
    assert thop.default_dtype is torch.float64
    assert set(thop.__all__) == {"clever_format", "default_dtype", "profile", "profile_origin"}


def test_a_model_that_is_larger_than_memory() -> None:
    with torch.device("meta"):
        model = nn.Sequential(*[nn.Linear(65536, 65536, bias=False) for _ in range(10)])
        x = torch.empty(1, 65536)
    assert profile(model, (x,)) == (10 * 65536**2, 10 * 65536**2)


def test_its_page() -> None:
    page = Path(__file__).parents[2] / "docs" / "coming-from-thop.md"
    result = doctest.testfile(str(page), module_relative=False)
    assert result.failed == 0 and result.attempted > 4


def test_a_program_may_ask_for_the_version() -> None:
    """Of what ``install`` puts in place of ``thop``: the interface's, as the original has it."""
    assert thop.__version__ == "0.1.1"
