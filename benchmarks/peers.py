"""Other tools behind one face: model and inputs in, parameters and MACs out.

Each adapter calls the tool's main function as its documentation shows, with positional inputs,
which all of them take. ``FlopCounterMode`` counts FLOPs, given here divided by 2; it runs without
gradients, as inference does.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from torchgauge.models.torchvision_operators import define_missing_operators


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a tool said; ``None`` where it says nothing about that."""

    params: int | None = None
    macs: int | None = None


Peer = Callable[[nn.Module, dict[str, Any]], Answer]


@contextlib.contextmanager
def silence() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def torchgauge(model: nn.Module, inputs: dict[str, Any]) -> Answer:
    import torchgauge as tg

    totals = tg.analyze(model, input_data=inputs).totals
    return Answer(params=totals.params, macs=totals.forward_macs)


def torchinfo(model: nn.Module, inputs: dict[str, Any]) -> Answer:
    import torchinfo

    result = torchinfo.summary(model, input_data=[*inputs.values()], verbose=0)
    return Answer(params=result.total_params, macs=result.total_mult_adds)


def torchsummary(model: nn.Module, inputs: dict[str, Any]) -> Answer:
    import torchsummary

    (tensor,) = inputs.values()
    torchsummary.summary(model, tuple(tensor.shape[1:]), tensor.shape[0], device="cpu")
    return Answer()  # the released version prints and returns nothing


def thop(model: nn.Module, inputs: dict[str, Any]) -> Answer:
    import thop

    macs, params = thop.profile(model, tuple(inputs.values()), verbose=False)
    return Answer(params=int(params), macs=int(macs))


def fvcore(model: nn.Module, inputs: dict[str, Any]) -> Answer:
    from fvcore.nn import FlopCountAnalysis, parameter_count

    analysis = FlopCountAnalysis(_FirstOutput(model), tuple(inputs.values()))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return Answer(params=parameter_count(model)[""], macs=int(analysis.total()))


def ptflops(model: nn.Module, inputs: dict[str, Any]) -> Answer:
    define_missing_operators()  # ptflops imports torchvision
    import ptflops

    (tensor,) = inputs.values()
    macs, params = ptflops.get_model_complexity_info(
        model, (1,), input_constructor=lambda _: tensor, as_strings=False,
        print_per_layer_stat=False, ost=io.StringIO(),
    )  # fmt: skip
    if macs is None:
        raise RuntimeError("ptflops printed an error and returned None")
    return Answer(params=int(params), macs=int(macs))


def calflops(model: nn.Module, inputs: dict[str, Any]) -> Answer:
    define_missing_operators()  # calflops imports transformers, and that torchvision
    from calflops import calculate_flops

    _, macs, params = calculate_flops(
        model, args=[*inputs.values()], print_results=False, output_as_string=False
    )
    return Answer(params=int(params), macs=int(macs))


def flop_counter(model: nn.Module, inputs: dict[str, Any]) -> Answer:
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*inputs.values())
    return Answer(macs=counter.get_total_flops() // 2)


class _FirstOutput(nn.Module):
    """Return the first tensor of the outputs: torch.jit.trace, inside fvcore, takes no others."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: torch.Tensor) -> torch.Tensor:
        result = self.model(*args)
        return result if isinstance(result, torch.Tensor) else result[0]


PEERS: dict[str, Peer] = {
    "torchgauge": torchgauge,
    "torchinfo": torchinfo,
    "torchsummary": torchsummary,
    "thop": thop,
    "fvcore": fvcore,
    "ptflops": ptflops,
    "calflops": calflops,
    "FlopCounterMode": flop_counter,
}

ON_META = ("torchgauge", "torchinfo", "FlopCounterMode")
"""Those that also run where the model has no data."""
