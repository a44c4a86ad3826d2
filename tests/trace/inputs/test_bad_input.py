"""A failing model: which layer, what it got, what it needs, what to try, the table so far."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.errors import InputError, ModelError, ScenarioError, UsageError


def convolutions() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))


class Raises(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.inner(x)
        raise ValueError("something of the user's")


class Nothing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> None:
        self.inner(x)


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(4))


def flat() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(10, 2))


CASES: list[tuple[str, Callable[[], nn.Module], dict[str, Any], str, str, str]] = [
    ("channels", convolutions, {"input_size": (3, 8, 8)}, "2", "Conv2d",
     r"Conv2d takes 8 channels, got 4 in \[1, 4, 6, 6\]"),
    ("rank", convolutions, {"input_size": (3, 8)}, "0", "Conv2d", "check the number of dimensions"),
    ("too small", small, {"input_size": (3, 4, 4)}, "1", "MaxPool2d", "use a larger input size"),
    ("features", flat, {"input_size": (3, 8, 8)}, "2", "Linear", "set in_features=144"),
    ("keyword", lambda: nn.Bilinear(3, 3, 2), {"input_size": (2, 3)}, "", "Bilinear",
     "give every argument of forward"),
    ("unknown keyword", lambda: nn.Linear(4, 4),
     {"input_size": (2, 4), "forward_kwargs": {"colour": 3}}, "", "Linear",
     "check the names of the inputs"),
    ("float index", lambda: nn.Embedding(9, 4), {"input_data": torch.zeros(2, 3)}, "", "Embedding",
     "takes integer indices, got float32"),
    ("recurrent", lambda: nn.LSTM(5, 4), {"input_size": (2, 3, 4)}, "", "LSTM",
     "LSTM takes 5 features"),
    ("normalisation", lambda: nn.BatchNorm2d(5), {"input_size": (2, 3, 4, 4)}, "", "BatchNorm2d",
     "BatchNorm2d takes 5 channels"),
    ("own error", Raises, {"input_size": (2, 4)}, "", "Raises", "something of the user's"),
]  # fmt: skip


@pytest.mark.parametrize(("build", "options", "path", "kind", "message"),
                         [case[1:] for case in CASES], ids=[case[0] for case in CASES])  # fmt: skip
def test_the_failing_layer_is_named(
    build: Callable[[], nn.Module], options: dict[str, Any], path: str, kind: str, message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        tg.analyze(build(), **options)
    report = caught.value.report
    assert report is not None and report.failure is not None
    assert (report.failure.path, report.failure.module_type) == (path, kind)
    assert report.failure.inputs and caught.value.exit_status == 3
    assert str(caught.value).startswith(f"{path} ({kind}) failed" if path else f"{kind} failed")


def test_the_partial_table_goes_up_to_the_failing_layer() -> None:
    printed = io.StringIO()
    with pytest.raises(ModelError):
        tg.summary(convolutions(), (3, 8, 8), file=printed)
    text = printed.getvalue()
    assert "[B, 4, 6, 6]" in text or "[1, 4, 6, 6]" in text
    assert "Conv2d takes 8 channels" in text
    report = None
    try:
        tg.analyze(convolutions(), (3, 8, 8))
    except ModelError as error:
        report = error.report
    assert report is not None
    calls = {path: module.calls for path, module in report.modules.items()}
    assert calls["0"][0].completed and calls["1"][0].completed
    assert not calls["2"][0].completed and not calls[""][0].completed
    assert report.totals.forward_macs == 6 * 6 * 4 * 27


def test_a_model_that_returns_nothing() -> None:
    report = tg.analyze(Nothing(), (2, 4))
    assert [value.text for value in report.outputs] == ["None"]
    assert report.totals.forward_macs == 32
    with pytest.raises(ScenarioError, match="no output depends on a trainable parameter"):
        tg.analyze(Nothing(), (2, 4), scenario=tg.Scenario(mode="training"))


def test_scenarios_that_contradict_themselves() -> None:
    for options, message in (
        ({"optimizer": "adam"}, "has no meaning in inference"),
        ({"loss": "mse"}, "has no meaning in inference"),
        ({"mode": "evaluation"}, "unknown mode 'evaluation'"),
        ({"precision": "fp12"}, "unknown precision 'fp12'"),
        ({"mode": "training", "optimizer": "adamm"}, "unknown optimizer 'adamm'"),
        ({"mode": "training", "loss": "hinge"}, "unknown loss 'hinge'"),
        ({"mode": "training", "accumulation": 0}, "not a number of micro-batches"),
        ({"other_programs_bytes": -1}, "not a number of bytes"),
        ({"other_programs_bytes": 1.5}, "not a number of bytes"),
        ({"checkpointing": True}, "has no meaning in inference"),
        ({"accumulation": 2}, "has no meaning in inference"),
    ):
        with pytest.raises(ScenarioError, match=message):
            tg.Scenario(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("allocator", "expandable_segments:True"),
        ("torch_release", "2.6"),
        ("cudnn_benchmark", True),
        ("other_programs_bytes", 1 << 30),
    ],
)
def test_what_only_cuda_has_is_refused_on_the_cpu(field: str, value: Any) -> None:
    scenario = tg.Scenario(**{field: value})
    with pytest.raises(ScenarioError, match=f"{field}={value!r} has no meaning on the CPU") as said:
        tg.analyze(nn.Linear(2, 2), (1, 2), scenario=scenario)
    assert "RTX 3060 12GB" in said.value.hint


def test_an_option_of_an_optimizer_is_plain_data() -> None:
    with pytest.raises(
        ScenarioError, match=r"option lr=tensor\(0.1000\) is neither number"
    ) as said:
        tg.Scenario(mode="training", optimizer_options={"lr": torch.tensor(0.1)})  # type: ignore[dict-item]
    assert "betas=(0.9, 0.95)" in said.value.hint


def test_losses_that_do_not_match() -> None:
    training = tg.Scenario(mode="training", loss="cross_entropy")
    with pytest.raises(ScenarioError, match="cross_entropy needs an output of shape"):
        tg.analyze(nn.Linear(4, 2), input_data=torch.zeros(4), scenario=training)

    model = nn.Linear(4, 2)
    with pytest.raises(ScenarioError, match="did not return a tensor with one element"):
        tg.analyze(model, (2, 4), scenario=tg.Scenario(mode="training"), loss=lambda out: out)
    model.requires_grad_(False)
    with pytest.raises(ScenarioError, match="no parameter requires a gradient"):
        tg.analyze(model, (2, 4), scenario=tg.Scenario(mode="training"))


def test_what_is_no_model() -> None:
    with pytest.raises(UsageError, match="Linear is a class, not a model"):
        tg.analyze(nn.Linear, (2, 4))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="cannot analyze a function"):
        tg.analyze(lambda x: x, (2, 4))  # type: ignore[arg-type]


class Leaves(Raises):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.inner(x)
        raise SystemExit(5)


def test_a_model_that_leaves_the_process_is_a_failure_of_the_model() -> None:
    with pytest.raises(ModelError, match=r"Leaves failed in forward: .*called sys\.exit\(5\)"):
        tg.analyze(Leaves(), (2, 4))
    with pytest.raises(ModelError, match=r"called sys\.exit\(5\)"):
        tg.measure(Leaves(), (2, 4))


def test_a_module_that_contains_itself_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    model.child = nn.Sequential()
    model.child.parent = model
    with pytest.raises(UsageError, match="a module of the model contains itself"):
        tg.analyze(model, (2, 4))


def test_what_is_no_tensor_is_named() -> None:
    words = np.array(["a", "b"], dtype=object)
    with pytest.raises(InputError, match="an array of object cannot become a tensor"):
        tg.analyze(nn.Linear(4, 4), input_data=words)


class Sizes(nn.Module):
    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return torch.zeros(input_ids.size(0))


def test_lists_of_a_tokenizer_are_to_be_tensors() -> None:
    with pytest.raises(ModelError, match="return_tensors='pt'"):
        tg.analyze(Sizes(), input_data={"input_ids": [[0, 1], [1, 3]]})


class ByKeyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, *, tokens: torch.Tensor) -> torch.Tensor:
        return self.inner(tokens)


def test_an_argument_that_goes_by_keyword_only_is_to_be_named() -> None:
    with pytest.raises(ModelError, match=r"by name: --input-size name=1,128"):
        tg.analyze(ByKeyword(), (2, 4))
    assert tg.analyze(ByKeyword(), {"tokens": (2, 4)}).totals.forward_macs == 32


def nested(levels: int) -> nn.Module:
    model: nn.Module = nn.Linear(4, 4)
    for _ in range(levels):
        model = nn.Sequential(model)
    return model


def test_a_model_as_deep_as_python_runs_it_is_analysed() -> None:
    limit = sys.getrecursionlimit()
    levels = 100
    try:
        while True:
            nested(levels)(torch.zeros(1, 4))
            levels += 10
    except RecursionError:
        levels -= 20
    report = tg.analyze(nested(levels), (2, 4))
    assert (len(report.modules), report.totals.forward_macs) == (levels + 1, 32)
    assert sys.getrecursionlimit() == limit


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.clamp(None, None),
        lambda x: x.clone().clamp_(None, None),
        lambda x: torch.where(x, x, x),
        lambda x: x.masked_fill(x, 0.0),
        lambda x: torch.div(x, 2, rounding_mode="up"),
        lambda x: nn.functional.gelu(x, approximate="sigmoid"),
    ],
)
def test_element_wise_operators_refuse_what_pytorch_refuses(call: Any) -> None:
    class Calls(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = call(x)
            return result

    x = torch.rand(4, 5)
    with pytest.raises(RuntimeError):
        call(x)
    with pytest.raises(ModelError):
        tg.analyze(Calls(), input_data=x)


@pytest.mark.parametrize("shape", [(2, 4, 8), (1, 4, 8, 8), (3, 16)])
def test_a_group_norm_of_other_channels_fails_as_it_really_does(shape: tuple[int, ...]) -> None:
    norm, x = nn.GroupNorm(4, 32), torch.ones(shape)
    with pytest.raises(RuntimeError, match="Expected weight to be a vector"):
        norm(x)
    with pytest.raises(ModelError, match="Expected weight to be a vector"):
        tg.analyze(norm, input_data=(x,), real_run=False)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.ConvTranspose1d(24, 8, 3), (4, 32, 48)),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), (2, 6, 8, 8)),
        (nn.ConvTranspose3d(4, 16, 1), (4, 16, 3, 3, 5)),
    ],
)
def test_a_transposed_convolution_of_other_channels_fails_as_it_really_does(
    layer: nn.Module, shape: tuple[int, ...]
) -> None:
    x = torch.ones(shape)
    with pytest.raises(RuntimeError, match=r"expected input.* channels, but got"):
        layer(x)
    with pytest.raises(ModelError, match=r"expected input.* channels, but got"):
        tg.analyze(layer, input_data=(x,), real_run=False)
