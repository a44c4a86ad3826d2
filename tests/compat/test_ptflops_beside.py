"""ptflops beside the original: parameters, every operator of ``aten``, every layer of ``pytorch``.

The additions of biases, which ptflops counts as MACs, are taken off its figures first; what is
left has to be ours. Element-wise layers, which it counts as MACs too, are not compared.
"""

from __future__ import annotations

import inspect
import io
import warnings
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest
import torch
from flop_zoo import library
from flops_beside import MODELS, Mechanism, all_listed, built, differences, listed
from torch import nn

from torchgauge.compat.ptflops import get_model_complexity_info
from torchgauge.compat.ptflops.costs import Costs, costs_of
from torchgauge.compat.running import run

LAYERS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.Linear,
)  # fmt: skip
MISSING = Mechanism(
    who_is_right="ours", why="ptflops has no formula for this operator and counts nothing"
)
FROZEN = Mechanism(
    who_is_right="ours", why="ptflops counts the parameters that require gradients alone"
)
KERNELS = Mechanism(
    who_is_right="both",
    why="ptflops runs with gradients, for which attention with a trained bias takes two products",
)
FAILS = Mechanism(who_is_right="ours", why="ptflops' formula fails on this call, and gives None")


def inputs_of(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what an ``input_constructor`` may return: one tensor, or keyword arguments."""
    if len(args) == 1 and not kwargs:
        return args[0]
    return dict(zip(inspect.signature(model.forward).parameters, args, strict=False)) | kwargs


def aten(function: Any, model: nn.Module, data: Any) -> tuple[dict[str, int], int]:
    """Return MACs by operator, and parameters."""
    stream = io.StringIO()
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        with redirect_stdout(io.StringIO()):
            macs, params = function(
                model, (1,), backend="aten", as_strings=False, flops_units="Mac", ost=stream,
                input_constructor=lambda size: data,
            )  # fmt: skip
    if macs is None:
        return {"run": 0}, params or 0
    block = stream.getvalue().partition("Module:  Global\n")[2].split("\n\n")[0]
    pairs = (line.split(": ") for line in block.splitlines() if line)
    return {op: int(text.removesuffix(" Mac")) for op, text in pairs}, params


def original_layers(model: nn.Module, data: Any) -> dict[str, int]:
    """Return the MACs of each type of layer by the ``pytorch`` backend, without biases."""
    engine = library("ptflops.pytorch_engine")
    names = {id(module): type(module).__name__ for module in model.modules()}
    biases: dict[str, int] = {}

    def add_bias(module: Any, inputs: Any, output: torch.Tensor) -> None:
        if module.bias is not None:
            name = names[id(module)]
            biases[name] = biases.get(name, 0) + output.numel()

    handles = [m.register_forward_hook(add_bias) for m in model.modules() if type(m) in LAYERS]
    with warnings.catch_warnings(), torch.no_grad(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        counted = engine.add_flops_counting_methods(model)
        counted.start_flops_count(ost=io.StringIO(), verbose=False, ignore_list=[])
        counted(**data) if isinstance(data, dict) else counted(data)
    found: dict[str, int] = {}
    for module in model.modules():
        if type(module) in LAYERS:
            name = type(module).__name__
            found[name] = found.get(name, -biases.get(name, 0)) + int(module.__flops__)
    with redirect_stdout(io.StringIO()):
        counted.stop_flops_count()
    for handle in handles:
        handle.remove()
    return {f"layers {name}": macs for name, macs in found.items() if macs}


def our_costs(model: nn.Module, data: Any) -> Costs:
    result = run(model, input_data=data if isinstance(data, dict) else (data,))
    return costs_of(result, ignored=(), hooks={}, functional=True)


def our_layers(costs: Costs) -> dict[str, int]:
    found: dict[str, int] = {}
    for path, macs in costs.own_macs.items():
        kind = type(costs.run.modules[path])
        if kind in LAYERS and macs:
            name = f"layers {kind.__name__}"
            found[name] = found.get(name, 0) + macs
    return found


def bias_additions(costs: Costs) -> dict[str, int]:
    """Return what ptflops' ``aten`` backend adds for biases."""
    found: dict[str, int] = {}
    for op in costs.run.forward_ops:
        packet = op.name.rpartition(".")[0]
        if packet == "aten.addmm" or (packet == "aten.convolution" and op.args[2] is not None):
            found[packet] = found.get(packet, 0) + op.outputs[0].numel
    return found


def compare(name: str) -> list[dict[str, str]]:
    """Return a row per figure that differs."""
    model, args, kwargs = built(name)
    data = inputs_of(model, args, kwargs)
    costs = our_costs(model, data)
    ours, our_params = aten(get_model_complexity_info, model, data)
    assert sum(ours.values()) == costs.total_macs
    layers = original_layers(model, data)
    theirs, params = aten(library("ptflops").get_model_complexity_info, model, data)
    if theirs == {"run": 0}:
        return [
            *differences(name, {"run": "None"}, {"run": "ok"}, lambda what: FAILS),
            *differences(name, layers, our_layers(costs), lambda what: None),
        ]
    biases = bias_additions(costs)
    theirs = {op: macs - biases.get(op, 0) for op, macs in theirs.items()}
    return differences(
        name,
        {**theirs, **layers, "params": params},
        {
            **{op: macs for op, macs in ours.items() if macs},
            **our_layers(costs),
            "params": our_params,
        },
        mechanism,
    )


def mechanism(what: str) -> Mechanism | None:
    if what == "params":
        return FROZEN
    if what == "aten.bmm":
        return KERNELS
    return MISSING if what.startswith("aten.") else None


@pytest.mark.models
@pytest.mark.parametrize("name", MODELS)
def test_parameters_operators_layers(name: str) -> None:
    assert compare(name) == listed("ptflops", name)


def test_the_table_is_complete() -> None:
    rows = all_listed("ptflops")
    assert len(MODELS) >= 40
    assert {row["why"] for row in rows} <= {m.why for m in (MISSING, FROZEN, KERNELS, FAILS)}
