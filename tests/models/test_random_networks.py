"""Random networks: parameters, shapes and MACs against a real run on the CPU.

The real run is watched by forward hooks; MACs are those of a closed form per module, written
here and independent of the package.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from math import prod
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from random_networks import Network, networks
from torch import nn

import torchgauge as tg
from torchgauge.report.model import NamedValue
from torchgauge.report.query import own_costs

LONG = 600
"""Examples in ``make test-models``."""


@dataclass
class RealRun:
    """What a real run showed, by module path."""

    outputs: defaultdict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    """Per call: the shape of each leaf, ``None`` for what is no tensor."""
    inputs: defaultdict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    macs: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))


def closed_form(module: nn.Module, args: tuple[Any, ...], output: Any) -> int:
    """Return the MACs of one call of a module, without those of its children."""
    first = args[0]
    if hasattr(module, "macs"):
        return module.macs(first)
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    if isinstance(module, nn.ConvTranspose2d):
        return first.numel() * module.out_channels // module.groups * prod(module.kernel_size)
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return output.numel() * module.in_channels // module.groups * prod(module.kernel_size)
    if isinstance(module, nn.RNNBase):
        tokens = first.shape[0] * first.shape[1]
        return tokens * sum(p.numel() for p in module.parameters() if p.dim() == 2)
    if isinstance(module, nn.RNNCellBase):
        return first.shape[0] * sum(p.numel() for p in module.parameters() if p.dim() == 2)
    if isinstance(module, nn.MultiheadAttention):
        batch, length = first.shape[:2] if module.batch_first else first.shape[1::-1]
        width = module.embed_dim
        return batch * (4 * length * width**2 + 2 * length**2 * width)
    return 0


def leaf_shapes(value: Any) -> list[Any]:
    """Return the shape of each leaf in order, ``None`` for other values."""
    if isinstance(value, torch.Tensor):
        return [tuple(value.shape)]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [shape for item in value for shape in leaf_shapes(item)]
    return [None]


def reported_shapes(values: tuple[NamedValue, ...]) -> list[Any]:
    return [None if value.tensor is None else value.tensor.shape for value in values]


def run_for_real(network: Network, model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> RealRun:
    """Run the model once; the fused fast path would hide modules, so it is off."""
    seen = RealRun()

    def watch(path: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            seen.outputs[path].append(leaf_shapes(output))
            seen.inputs[path].append(leaf_shapes((args, kwargs)))
            seen.macs[path] += closed_form(module, args, output)

        return hook

    handles = [
        module.register_forward_hook(watch(path), with_kwargs=True)
        for path, module in model.named_modules()
    ]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        model.train(network.training)
        with torch.set_grad_enabled(network.training):
            model(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for handle in handles:
            handle.remove()
    return seen


def analyze(network: Network, model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tg.Report:
    """Analyse the model, with its inputs given in the way that was drawn."""
    scenario = tg.Scenario(mode="training" if network.training else "inference")
    if network.given_as == "tensors":
        return tg.analyze(model, input_data=inputs, scenario=scenario)
    if network.given_as == "names":
        names = ("first", "second", "third")
        data = dict(zip(names, inputs, strict=False))
        return tg.analyze(model, input_data=data, scenario=scenario)
    single = network.given_as == "single"
    sizes = [shape if single else (network.batch, *shape) for shape in network.inputs]
    dtypes = ["int64" if count else "float32" for count in network.vocabulary]
    batch = network.batch if single else None
    return tg.analyze(model, sizes, dtypes=dtypes, batch_size=batch, scenario=scenario)


def check(network: Network) -> None:
    torch.manual_seed(0)
    model, inputs = network.build(), network.example()
    report = analyze(network, model, inputs)
    real = run_for_real(network, model, inputs)
    assert report.execution == "simulated"
    assert all(entry.calls == 0 for entry in report.not_counted)

    parameters = list(model.parameters())
    assert report.totals.params == sum(p.numel() for p in parameters)
    assert report.totals.trainable_params == sum(p.numel() for p in parameters if p.requires_grad)
    assert report.totals.buffers == sum(b.numel() for b in model.buffers())

    own = own_costs(report)
    for path, module in model.named_modules():
        found = report.modules[path]
        assert found.params == sum(p.numel() for p in module.parameters()), path
        assert [reported_shapes(call.outputs) for call in found.calls] == real.outputs[path], path
        assert [reported_shapes(call.inputs) for call in found.calls] == real.inputs[path], path
        assert own[path].macs == real.macs[path], path
    assert report.totals.forward_macs == sum(real.macs.values())
    assert sum(cost.params for cost in own.values()) == report.totals.params


RELAXED = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)


@settings(RELAXED, max_examples=25)
@given(networks())
def test_a_few_random_networks(network: Network) -> None:
    check(network)


@pytest.mark.hypothesis_long
@settings(RELAXED, max_examples=LONG)
@given(networks())
def test_many_random_networks(network: Network) -> None:
    check(network)
