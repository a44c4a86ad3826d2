"""Models of odd structure: nothing is touched, nothing false is said, nothing false is gained."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import torchgauge as tg
from torchgauge.advise.subject import in_code
from torchgauge.changes.shadow import shadow
from torchgauge.errors import UsageError
from torchgauge.facts.loop.advice import Advice
from untouched import fingerprint, same

MAP = (2, 3, 16, 16)


class Does(nn.Module):
    """A module with its forward given."""

    def __init__(self, do: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        self.do = do
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Any:
        return self.do(self, x)


def advised(model: nn.Module, *rules: str, size: tuple[int, ...] = MAP, **options: Any) -> Advice:
    before = fingerprint(model)
    found = tg.advise(model, size, rules=rules, **options)
    assert same(fingerprint(model), before)
    return found


def why(advice: Advice) -> str:
    return "; ".join(item.why for item in advice.quiet)


def keeps_the_result(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    m.aux_result = m.aux(y)
    return y.mean((2, 3))


def keeps_the_input(m: Any, x: Tensor) -> Tensor:
    m.maps = m.conv(x)
    out: Tensor = m.act(m.maps).mean((2, 3))
    return out


def keeps_nothing(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    unused = m.aux(y)
    del unused
    return y.mean((2, 3))


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_what_the_code_keeps_on_the_module_is_read_by_somebody(mode: str) -> None:
    options = {"mode": mode} | ({"loss": "sum"} if mode == "training" else {})
    conv, aux = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
    kept = advised(Does(keeps_the_result, conv=conv, aux=aux), "dead-output", **options)
    assert not kept.suggestions and "every module's result is read" in why(kept)
    (dead,) = advised(Does(keeps_nothing, conv=conv, aux=aux), "dead-output", **options).suggestions
    assert dead.where == ("aux",)
    kept = advised(Does(keeps_the_input, conv=conv, act=nn.ReLU()), "in-place", **options)
    assert not kept.suggestions and "is read again" in why(kept)


def test_reading_a_computed_weight_writes_into_no_buffer_of_the_model() -> None:
    model = nn.Sequential(parametrizations.spectral_norm(nn.Linear(16, 64)), nn.Linear(64, 8))
    for mode in ("inference", "training"):
        advised(model.train(), "low-rank", "constant-folding", size=(2, 16), mode=mode)


def test_a_hook_that_collects_keeps_what_it_had() -> None:
    seen: list[Tensor] = []
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 14 * 14, 4))
    model[0].register_forward_hook(lambda module, given, output: seen.append(output))
    found = advised(model, "global-pooling")
    assert found.suggestions[0].proof[0].startswith("run on the CPU")
    assert not seen


def test_a_layer_with_a_computed_weight_takes_no_norm() -> None:
    conv = parametrizations.weight_norm(nn.Conv2d(3, 8, 3))
    found = advised(nn.Sequential(conv, nn.BatchNorm2d(8)).eval(), "fold-batchnorm")
    assert why(found) == "the weight of 0 is computed in each forward (constant-folding)"


def test_the_fast_path_of_a_transformer_lacks_no_activation() -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 64, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    assert not advised(model, "missing-activation", size=(2, 8, 16)).faults


def test_layers_of_which_others_are_called_may_be_chosen_by_the_input() -> None:
    branches = nn.ModuleDict({"a": nn.Linear(8, 8), "b": nn.Linear(8, 8)})
    model = Does(lambda m, x: m.branches["a"](x), branches=branches)
    found = advised(model, "never-called", size=(2, 8))
    assert not found.suggestions
    assert why(found) == "branches.b is not called here, but others of its container are"


def test_lazy_layers_have_to_run_once() -> None:
    model = nn.Sequential(nn.LazyLinear(8), nn.ReLU())
    with pytest.raises(UsageError, match="lazy layers that have no weights yet"):
        tg.advise(model, (2, 8))
    assert isinstance(model[0], nn.LazyLinear)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("a.0.b", "model.a[0].b"),
        ("", "model"),
        ("layers.a b", 'model.get_submodule("layers.a b")'),
        ("layers.class", 'model.get_submodule("layers.class")'),
    ],
)
def test_code_that_is_shown_is_code(path: str, code: str) -> None:
    assert in_code(path) == code


def test_a_shadow_shares_parameters_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    made = shadow(model)
    assert made is not model and made[0].weight is model[0].weight
    made[1].running_mean.add_(1)
    assert not model[1].running_mean.any()
    model.lock = threading.Lock()
    assert shadow(model) is model, "what cannot be copied stays itself"
    assert copy.deepcopy(made) is not made and shadow("timm:resnet18") == "timm:resnet18"


class NeverTrains(nn.Sequential):
    """Refuses train mode."""

    def train(self, mode: bool = True) -> NeverTrains:
        if mode:
            raise RuntimeError("frozen for inference")
        super().train(mode)
        return self


def test_a_model_that_refuses_a_mode_is_told_so() -> None:
    model = NeverTrains(nn.Linear(8, 8)).eval()
    assert advised(model, "in-place", size=(2, 8)).quiet
    with pytest.raises(UsageError) as refused:
        tg.advise(model, (2, 8), mode="training", loss="sum")
    assert refused.value.message == (
        "the model's own train(True) fails: RuntimeError: frozen for inference"
    )
    assert refused.value.hint == "analyse it with mode='inference'"


@pytest.mark.parametrize("normed", ["embedding", "head"])
def test_a_weight_that_is_computed_in_each_forward_is_not_tied(normed: str) -> None:
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 10))
    with torch.no_grad():
        model[1].weight.copy_(model[0].weight)
    parametrizations.weight_norm(model[0 if normed == "embedding" else 1])
    ids = torch.zeros(2, 3, dtype=torch.int64)
    advice = tg.advise(model, input_data=ids, rules=("untied-copy",), prove=False)
    assert not advice.suggestions and not advice.faults
