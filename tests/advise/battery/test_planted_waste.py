"""What a model takes too much is found where it was planted, and the gain is a measured one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from planted_faults import Planted
from planted_waste import HOW_IT_RUNS, WASTE, KeepsItsBias
from torch import Tensor, nn

import torchgauge as tg
from torchgauge.facts.loop.advice import Suggestion
from torchgauge.facts.report import Report


def moved(model: nn.Module) -> nn.Module:
    """Give norms statistics that are not those of a new layer."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(module.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            nn.init.normal_(module.weight)
    return model


def figures(found: Suggestion, changed: Report) -> Iterator[tuple[str, float | None, float]]:
    for figure in found.figures:
        part, _, field = figure.name.partition(".")
        yield figure.name, figure.after, getattr(getattr(changed, part), field)


@pytest.mark.parametrize("case", WASTE, ids=str)
def test_planted_waste_is_found_and_measured(case: Planted) -> None:
    model = moved(case.make())
    advice = tg.advise(model, case.size, rules=(case.rule,), **case.options)
    assert advice.suggestions, advice.quiet
    (found,) = advice.suggestions
    assert found.where == case.where
    assert "outputs equal" in found.proof[0]
    changed = found.apply(model)
    if found.keeps_state:
        changed.load_state_dict(model.state_dict())
    for name, told, measured in figures(found, tg.analyze(changed, case.size, **case.options)):
        assert told == measured, name


@pytest.mark.parametrize("case", HOW_IT_RUNS, ids=str)
def test_how_it_runs(case: Planted) -> None:
    model = case.make()
    advice = tg.advise(model, case.size, rules=(case.rule,), **case.options)
    for found in advice.suggestions:
        options = case.options | dict(found.scenario)
        for name, told, measured in figures(found, tg.analyze(model, case.size, **options)):
            assert told == measured, name
    assert advice.suggestions


@pytest.mark.parametrize("case", WASTE, ids=str)
def test_the_same_outputs_and_gradients(case: Planted) -> None:
    """What a rule says to keep the function trains the same, where dropout draws nothing."""
    model = moved(case.make())
    is_random = any(isinstance(m, nn.Dropout) and m.p > 0 for m in model.modules())
    advice = tg.advise(model, case.size, rules=(case.rule,), prove=False, **case.options)
    changed = advice.suggestions[0].apply(model)
    model.train(bool(case.options.get("mode")) and not is_random)
    changed.train(model.training)
    x = torch.rand(case.size)
    if "dtypes" in case.options:
        x = (x * 50).long()
    before, after = model(x), changed(x)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)
    before.square().sum().backward()
    after.square().sum().backward()
    kept = dict(model.named_parameters())
    for name, parameter in changed.named_parameters():
        known: Tensor | None = kept[name].grad if name in kept else None
        if case.rule in ("fold-batchnorm", "untied-copy") or known is None:
            continue
        torch.testing.assert_close(parameter.grad, known, rtol=1e-2, atol=1e-2)


def test_tracing_the_code_leaves_nothing_in_the_model() -> None:
    """A module that keeps what it computes would keep a proxy, and never run again."""
    model = KeepsItsBias()
    advice = tg.advise(model, (2, 64, 32), rules=("attention",), prove=False)
    assert not model.kept
    assert "its forward keeps kept on the module" in advice.quiet[0].why, "it was traced"
    assert model(torch.randn(2, 64, 32)).shape == (2, 64, 32)
