"""Hooks of the user's see tensors that no operator reads: what would change them is left alone."""

from __future__ import annotations

import pytest
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

import torchgauge as tg
from torchgauge.advise.rules import rule_of
from torchgauge.advise.subject import Subject
from torchgauge.analyze import analyze_model
from torchgauge.changes.change import Change
from torchgauge.models.requests import request_of


class Net(nn.Module):
    """Something of all that hooks may look at."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.other = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.probe = nn.Sequential(nn.Flatten(), nn.Linear(8 * 144, 2))
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.other(self.block(x))
        self.probe(x)
        out: Tensor = self.last(x + 1)
        return out


def seen(module: nn.Module, given: object, output: object) -> None:
    """A hook that only looks."""


def asked(model: nn.Module, rule: str) -> tuple[set[str], str]:
    """What a rule would change, and what it says of the rest."""
    request = request_of(model, (4, 3, 16, 16), {})
    found = list(rule_of(rule).look(Subject(request=request, report=analyze_model(request))))
    where = {path for item in found if isinstance(item, Change) for path in item.where}
    return where, "; ".join(item for item in found if isinstance(item, str))


@pytest.mark.parametrize(
    ("rule", "free"),
    [
        ("in-place", {"block.2", "other.2"}),
        ("fold-batchnorm", {"block.0", "other.0"}),
        ("dead-output", {"probe"}),
    ],
)
def test_without_hooks_all_of_it_is_found(rule: str, free: set[str]) -> None:
    assert asked(Net(), rule)[0] == free


@pytest.mark.parametrize(
    ("rule", "path", "left"),
    [
        ("in-place", "block.2", {"other.2"}),  # its input is what the activation overwrites
        ("in-place", "block.1", {"other.2"}),  # and the output of the norm
        ("in-place", "other", {"block.2"}),
        ("in-place", "last", {"block.2", "other.2"}),
        ("fold-batchnorm", "block.0", {"other.0"}),
        ("fold-batchnorm", "other.1", {"block.0"}),
        ("dead-output", "probe", set()),
        ("dead-output", "probe.1", set()),
    ],
)
def test_what_a_hook_sees_is_left_alone(rule: str, path: str, left: set[str]) -> None:
    model = Net()
    model.get_submodule(path).register_forward_hook(seen)
    where, why = asked(model, rule)
    assert where == left
    assert (f"hooks of {path}" in why) == (path != "last")


def test_a_hook_around_every_module_is_seen() -> None:
    handle = nn.modules.module.register_module_forward_hook(seen)
    try:
        assert asked(Net(), "in-place")[0] == set()
        assert asked(Net(), "fold-batchnorm")[0] == set()
    finally:
        handle.remove()


def test_hooks_of_torch_that_make_weights_do_not_count() -> None:
    model = Net()
    spectral_norm(model.last)
    assert asked(model, "in-place")[0] == {"block.2", "other.2"}


class Attend(nn.Module):
    """Attention of one head."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.drop = nn.Linear(16, 48), nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        out: Tensor = self.drop((q @ k.transpose(-2, -1)).softmax(-1)) @ v
        return out


def test_attention_whose_weights_a_hook_reads_is_kept() -> None:
    model = Attend()
    model.drop.register_forward_hook(seen)
    found = tg.advise(model, (2, 64, 16), rules=("attention",), prove=False)
    assert not found.suggestions
    assert "hooks of drop may see other tensors" in found.quiet[0].why


def test_what_no_rule_looks_after_the_advisor_leaves_alone() -> None:
    model = nn.Sequential(nn.Linear(8, 512), nn.ReLU(), nn.ReLU(), nn.Linear(512, 8))
    model[2].register_forward_hook(seen)
    found = tg.advise(model, (4, 8), rules=("repeated-activation",), prove=False)
    assert not found.suggestions
    assert found.quiet[0].why.endswith("hooks of 2 may see other tensors")
