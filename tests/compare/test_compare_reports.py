"""Two reports side by side: what is matched, what differs, and that the parts sum up."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torchgauge as tg
from torchgauge.compare import matching
from torchgauge.compare.reports import compare_reports
from torchgauge.facts.loop.comparison import LAYER_FIGURES, ChangeKind, Comparison
from torchgauge.facts.report import Report
from torchgauge.render import get_format
from torchgauge.render.pages.loop.comparison import NOTHING, comparison_page

TOTALS = {
    "params": "params", "trainable_params": "trainable_params", "param_bytes": "param_bytes",
    "macs": "forward_macs", "backward_flops": "backward_flops",
    "elementwise_flops": "elementwise_flops",
}  # fmt: skip


class Wrapped(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone = model

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone(x)


def chain(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width, following in pairwise(widths):
        layers += [nn.Linear(width, following), nn.ReLU()]
    return nn.Sequential(*layers)


def report_of(model: nn.Module, **options: Any) -> Report:
    return tg.analyze(model, (2, 8), **options)


def page_of(comparison: Comparison, width: int = 100) -> str:
    return get_format("text", width=width).render(comparison_page(comparison))


def kinds(comparison: Comparison) -> dict[str, str]:
    return {layer.path: str(layer.kind) for layer in comparison.layers}


def check_sums(before: Report, after: Report) -> None:
    found = compare_reports(before, after)
    for name, total in TOTALS.items():
        parts = sum(layer.difference.get(name, 0) for layer in found.layers)
        whole = getattr(after.totals, total) - getattr(before.totals, total)
        assert parts + found.outside.get(name, 0) == whole, name
    if before.time is not None and after.time is not None:
        parts = sum(layer.difference.get("time_ms", 0) for layer in found.layers)
        whole = after.time.total_ms - before.time.total_ms
        assert parts + found.outside.get("time_ms", 0) == pytest.approx(whole, abs=1e-4)


def test_equal_things_are_equal_to_nothing() -> None:
    for options in ({}, {"mode": "training", "optimizer": "adamw", "device": "T4"}):
        found = compare_reports(*(report_of(chain(8, 8, 8), **options) for _ in range(2)))
        assert found.is_equal and not found.layers and not found.settings
        assert NOTHING in page_of(found)


def test_a_layer_more_is_one_row() -> None:
    found = compare_reports(report_of(chain(8, 8)), report_of(chain(8, 8, 8)))
    assert kinds(found) == {"2": "added", "3": "added"}
    (linear, relu) = found.layers
    assert linear.difference["params"] == 72 and linear.difference["macs"] == 2 * 64
    assert relu.before == {} and relu.type == "ReLU"


def test_a_layer_in_front_moves_the_others() -> None:
    before = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    after = nn.Sequential(nn.Dropout(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    found = compare_reports(report_of(before), report_of(after))
    assert kinds(found) == {"0": "added", "1": "renamed", "2": "renamed", "3": "renamed"}


def test_another_width_is_a_change_where_it_is() -> None:
    found = compare_reports(report_of(chain(8, 16, 4)), report_of(chain(8, 32, 4)))
    assert kinds(found) == {"0": "changed", "1": "changed", "2": "changed"}
    assert found.figure("totals.params").difference == (8 * 32 + 32 + 32 * 4) - (
        8 * 16 + 16 + 16 * 4
    )


def test_another_type_in_its_place() -> None:
    before = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    found = compare_reports(report_of(before), report_of(nn.Sequential(nn.Linear(8, 8), nn.GELU())))
    (layer,) = found.layers
    assert (layer.kind, layer.type_before, layer.type_after) == (
        ChangeKind.CHANGED, "ReLU", "GELU",
    )  # fmt: skip
    assert "ReLU → GELU" in page_of(found)


def test_every_layer_renamed_is_no_difference_but_names() -> None:
    plain, wrapped = report_of(chain(8, 8, 8)), report_of(Wrapped(chain(8, 8, 8)))
    found = compare_reports(plain, wrapped)
    assert {layer.kind for layer in found.layers} == {ChangeKind.RENAMED, ChangeKind.ADDED}
    assert all(not layer.difference for layer in found.layers)
    text = page_of(found)
    assert "backbone" in text and "backbone.0" not in text, "it follows from the name around it"


def test_children_of_a_removed_container_stay() -> None:
    found = compare_reports(report_of(Wrapped(chain(8, 8, 8))), report_of(chain(8, 8, 8)))
    removed = [layer for layer in found.layers if layer.kind is ChangeKind.REMOVED]
    assert [(layer.type, layer.modules, layer.before) for layer in removed] == [("Wrapped", 1, {})]


def test_what_was_asked_differently() -> None:
    before = report_of(chain(8, 8), device="T4")
    after = report_of(chain(8, 8), device="T4", precision="bf16", mode="training")
    found = compare_reports(before, after)
    settings = {item.name: (item.before, item.after) for item in found.settings}
    assert settings["precision"] == ("as-built", "bf16")
    assert settings["mode"] == ("inference", "training")
    assert "precision" in page_of(found)


def test_a_verdict_that_flips() -> None:
    small = tg.analyze(nn.Linear(8, 8), (2, 8), device="T4")
    wide = nn.Linear(70_000, 70_000, bias=False, device="meta")
    large = tg.analyze(wide, (2, 70_000), device="T4")
    found = compare_reports(small, large)
    assert found.verdict is not None
    assert (found.verdict.before, found.verdict.after) == ("fits", "does-not-fit")
    assert "fits → does not fit (T4)" in page_of(found)
    assert compare_reports(large, large).verdict is None


def test_what_only_one_says() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.det(x.reshape(-1, 4, 4)) if x.numel() > 99 else x

    before, after = tg.analyze(nn.Identity(), (2, 64)), tg.analyze(Odd(), (2, 64))
    found = compare_reports(before, after)
    assert [note.name for note in found.notes] == ["not counted"] * len(after.not_counted)


def test_a_comparison_of_a_structure_alone() -> None:
    found = compare_reports(tg.analyze(chain(8, 8)), report_of(chain(8, 8)))
    assert found.figure("totals.params").difference == 0
    assert found.figure("totals.forward_macs").before is None, "nobody ran it"
    assert found.figure("memory.peak_allocated_bytes").before is None
    assert found.figure("memory.peak_allocated_bytes").difference is None
    page_of(found)


def test_json_holds_differences_and_parts() -> None:
    found = compare_reports(report_of(chain(8, 8)), report_of(chain(8, 8, 8))).to_dict()
    assert found["schema_version"] == 1 and found["is_equal"] is False
    assert found["figures"][0]["difference"] == 72
    assert found["layers"][0]["difference"]["params"] == 72
    assert set(found["layers"][0]["after"]) <= set(LAYER_FIGURES)


def edited(layers: list[nn.Module], rng: random.Random) -> list[nn.Module]:
    """Return a copy of a network that was edited a few times."""
    made = list(layers)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(made) + 1)
        what = rng.choice(["insert", "remove", "replace", "wrap", "swap"])
        if what == "insert":
            made.insert(place, rng.choice([nn.ReLU(), nn.Linear(8, 8), nn.LayerNorm(8)]))
        elif made and what == "remove":
            made.pop(place - 1)
        elif made and what == "replace":
            made[place - 1] = rng.choice([nn.GELU(), nn.Linear(8, 8, bias=False)])
        elif made and what == "wrap":
            made[place - 1] = nn.Sequential(made[place - 1], nn.Identity())
        else:
            rng.shuffle(made)
    return made


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**9))
def test_differences_of_random_edits_sum_to_those_of_the_totals(seed: int) -> None:
    rng = random.Random(seed)
    pool = [nn.Linear(8, 8), nn.ReLU(), nn.LayerNorm(8), nn.Sequential(nn.Linear(8, 8), nn.Tanh())]
    layers = [rng.choice(pool) for _ in range(rng.randint(1, 6))]
    options: dict[str, Any] = rng.choice(
        [{}, {"mode": "training", "optimizer": "sgd"}, {"mode": "training", "device": "T4"}]
    )
    before = report_of(nn.Sequential(*layers, nn.Linear(8, 2)), **options)
    after = report_of(nn.Sequential(*edited(layers, rng), nn.Linear(8, 2)), **options)
    check_sums(before, after)
    check_sums(after, before)
    there_and_back = compare_reports(after, before)
    for figure in compare_reports(before, after).figures:
        other = there_and_back.figure(figure.name)
        assert (figure.before, figure.after) == (other.after, other.before)


@pytest.mark.parametrize("looks", [0, 100, 5_000_000])
@pytest.mark.parametrize("layers", [3, 40, 400])
def test_many_equal_layers_are_paired_in_their_order(
    layers: int, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between other layers they make many blocks, which took minutes to find."""
    monkeypatch.setattr(matching, "_MOST_LOOKS", looks)
    alone = report_of(nn.Sequential(*[nn.Linear(8, 8) for _ in range(layers)]))
    apart = [nn.Sequential(nn.ReLU(), nn.Linear(8, 8)) for _ in range(layers)]
    pairs = matching.matched(alone, report_of(nn.Sequential(*apart)))
    linear = [pairs[str(place)] for place in range(layers)]
    assert linear == [f"{place}.1" for place in range(layers)]
