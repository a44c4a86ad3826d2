"""The table of torchinfo 1.8.0 beside ours: which lines differ, and by what mechanism.

Both see the same model and the same inputs, on meta where the original can be run there.
``python tests/compat/torchinfo_comparison.py`` prints the differences as rows of the CSV file.
"""

from __future__ import annotations

import csv
import importlib
import io
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "models")]

import small_models  # noqa: E402
import torchinfo_models as tm  # noqa: E402
from flop_zoo import PLAIN, ZOO, Entry  # noqa: E402

from torchgauge.compat import torchinfo as ours  # noqa: E402

TABLE = Path(__file__).with_name("torchinfo_differences.csv")
COLUMNS = ("kernel_size", "input_size", "output_size", "num_params", "params_percent", "trainable")
STORAGE_OVERHEAD = sys.getsizeof(torch.empty(0).untyped_storage())
"""Bytes of the Python object, which the original adds to each input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model and what both are asked to summarize."""

    build: Callable[[], nn.Module]
    data: Callable[[], Any] | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def sized(entry: Entry) -> Case:
    """Return a case of the FLOP zoo, on meta."""

    def data() -> Any:
        sizes = entry.sizes
        dtypes = [getattr(torch, name) for name in entry.dtypes or ()]
        if isinstance(sizes, dict):
            return {
                name: torch.zeros(size, dtype=dtype, device="meta")
                for (name, size), dtype in zip(sizes.items(), dtypes, strict=True)
            }
        several = [sizes] if isinstance(sizes[0], int) else sizes
        dtypes = dtypes or [torch.float32] * len(several)
        return [
            torch.zeros(size, dtype=dtype, device="meta")
            for size, dtype in zip(several, dtypes, strict=True)
        ]

    return Case(build=entry.meta_model, data=data, settings=dict(entry.keywords))


def small(name: str) -> Case:
    """Return a case of the small models, on the CPU."""
    build, size = small_models.MODELS[name]
    dtype = torch.int64 if small_models.dtypes_of(name) else torch.float32
    return Case(build=build, data=lambda: [torch.ones(size, dtype=dtype)])


def floats(*sizes: tuple[int, ...]) -> Callable[[], Any]:
    return lambda: [torch.zeros(size) for size in sizes]


def longs(*size: int) -> Callable[[], Any]:
    return lambda: [torch.zeros(size, dtype=torch.long)]


def both_dtypes() -> Any:
    return [torch.zeros(1, 300), torch.zeros(1, 300, dtype=torch.long)]


FEATURES = {
    "digits": Case(build=tm.SingleInputNet, data=floats((2, 1, 28, 28))),
    "digits listed": Case(build=tm.SingleInputNet),
    "digits batch_dim": Case(
        build=tm.SingleInputNet, settings={"input_size": (1, 28, 28), "batch_dim": 0}
    ),
    "identity": Case(build=tm.IdentityModel, data=floats((1, 3))),
    "long name": Case(
        build=tm.LayerWithAnUncommonlyLongNameThatDoesNothing, data=floats((1, 3))
    ),
    "linear": Case(build=tm.LinearModel, data=floats((64, 128))),
    "uninitialized": Case(build=tm.UninitializedParameterModel, data=floats((2, 2))),
    "uninitialized listed": Case(build=tm.UninitializedParameterModel),
    "dtypes": Case(build=tm.MultipleInputNetDifferentDtypes, data=both_dtypes),
    "lstm net": Case(build=tm.LSTMNet, data=longs(1, 100)),
    "lstm net batch_dim": Case(
        build=tm.LSTMNet,
        settings={"input_size": (100,), "dtypes": [torch.long], "batch_dim": 1},
    ),
    "recursive": Case(build=tm.RecursiveNet, data=floats((1, 64, 28, 28))),
    "parameter": Case(build=lambda: tm.CustomParameter(8, 4), data=floats((1,))),
    "parameter list": Case(build=tm.ParameterListModel, data=floats((100, 100))),
    "parameter list listed": Case(build=tm.ParameterListModel),
    "siamese": Case(build=tm.SiameseNets, data=floats((1, 1, 88, 88), (1, 1, 88, 88))),
    "dict out": Case(build=tm.ReturnDict, data=floats((1, 1, 28, 28), (1, 12))),
    "dict out batch_dim": Case(
        build=tm.ReturnDict, settings={"input_size": [(1, 28, 28), (12,)], "batch_dim": 0}
    ),
    "module dict": Case(
        build=tm.ModuleDictModel,
        data=floats((1, 10, 3, 3)),
        settings={"layer_type": "conv", "activation_type": "lrelu"},
    ),
    "module dict listed": Case(build=tm.ModuleDictModel),
    "nested dict": Case(build=tm.HighlyNestedDictModel, data=floats((10,))),
    "edge case": Case(build=tm.EdgecaseInputOutputModel, data=lambda: [{}]),
    "packed lstm": Case(
        build=tm.PackPaddedLSTM,
        data=longs(20, 4),
        settings={"lengths": torch.tensor([13, 12, 11, 4])},
    ),
    "containers": Case(build=tm.ContainerModule, data=floats((1, 5))),
    "containers listed": Case(build=tm.ContainerModule),
    "empty listed": Case(build=tm.EmptyModule),
    "unpool": Case(build=tm.AutoEncoder, data=floats((1, 3, 64, 64))),
    "half trainable": Case(build=tm.MixedTrainable, data=floats((1, 1, 1))),
    "half trainable listed": Case(build=tm.MixedTrainableParameters),
    "reused linear": Case(build=tm.ReuseLinear, data=floats((2, 10))),
    "reused linear twice": Case(build=tm.ReuseLinearExtended, data=floats((2, 10))),
    "reused linear listed": Case(build=tm.ReuseLinearExtended),
    "reused relu": Case(build=tm.ReuseReLU, data=floats((4, 4, 64, 64))),
    "shared list": Case(build=tm.SharedModuleInNestedList, data=floats((1, 4))),
    "tied": Case(build=tm.TiedWeightsModel, data=longs(2, 3)),
    "tied listed": Case(build=tm.TiedWeightsModel),
    "pruned name": Case(build=lambda: tm.PrunedLayerNameModel(8, 4), data=floats((1,))),
    "mask parameter": Case(build=lambda: tm.FakePrunedLayerModel(8, 4), data=floats((1,))),
    "registered": Case(
        build=lambda: tm.RegisterParameter(nn.Linear(2, 2), nn.Linear(2, 2)), data=floats((3, 2))
    ),
    "bare parameters": Case(build=lambda: tm.ParameterFCNet(128, 64, 32), data=floats((3, 128))),
    "bare parameters only": Case(build=lambda: tm.ParameterFCNet(128, 64), data=floats((3, 128))),
    "nested leftover": Case(build=tm.InsideModel, data=floats((100, 2))),
    "missing layers": Case(build=tm.RecursiveWithMissingLayers, data=floats((2, 3, 16, 16))),
    "list a": Case(build=lambda: tm.CNNModuleList(tm.ConvLayerA), data=floats((1, 1, 10))),
    "list b": Case(build=lambda: tm.CNNModuleList(tm.ConvLayerB), data=floats((1, 1, 10))),
    "loop": Case(build=tm.SimpleRNN, data=floats((2, 3))),
    "loop hidden": Case(
        build=lambda: tm.SimpleRNN(repeat_outside_loop=True),
        data=floats((2, 3)),
        settings={"row_settings": ("depth", "hide_recursive_layers")},
    ),
}  # fmt: skip
LIBRARIES = (
    "torchvision-resnet18", "torchvision-resnet50", "torchvision-densenet121",
    "torchvision-squeezenet1_1", "torchvision-mobilenet_v2", "torchvision-mobilenet_v3_small",
    "torchvision-shufflenet_v2_x0_5", "torchvision-efficientnet_b0", "torchvision-convnext_tiny",
    "torchvision-vgg11_bn", "torchvision-googlenet", "torchvision-swin_t", "torchvision-vit_b_32",
    "torchvision-fcn_resnet50", "torchvision-r3d_18", "timm-mixer_s32_224", "timm-repvgg_a0",
    "timm-ghostnet_050", "timm-vit_tiny_patch16_224", "hf-bert", "hf-gpt2", "hf-llama", "hf-t5",
    "hf-vit",
)  # fmt: skip
CASES: dict[str, Case] = {
    **FEATURES,
    **{f"small {name}": small(name) for name in small_models.MODELS},
    **{name: sized(entry) for name, entry in PLAIN.items()},
    **{name: sized(ZOO[name]) for name in LIBRARIES},
}


def original_summary(case: Case) -> Any:
    """Return what torchinfo 1.8.0 makes of a case."""
    torchinfo = importlib.import_module("torchinfo")
    return _summary(torchinfo.summary, case)


def our_summary(case: Case) -> ours.ModelStatistics:
    """Return what ours makes of it, in the original's mode."""
    return _summary(ours.summary, case)


def _summary(function: Callable[..., Any], case: Case) -> Any:
    settings: dict[str, Any] = {
        "depth": 20, "verbose": 0, "col_width": 30, "mode": "eval",
        "row_settings": ("depth", "var_names"),
        "col_names": COLUMNS if _has_input(case) else ("kernel_size", *COLUMNS[3:]),
        **case.settings,
    }  # fmt: skip
    torch.manual_seed(0)
    model = case.build()
    data = None if case.data is None else case.data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(model, input_data=data, **settings)


def _has_input(case: Case) -> bool:
    return case.data is not None or "input_size" in case.settings


def body(result: Any) -> list[str]:
    """Return the lines between the header and the totals."""
    lines = str(result).splitlines()
    rules = [index for index, line in enumerate(lines) if set(line) == {"="}]
    return lines[rules[1] + 1 : rules[2]]


def differences(name: str) -> Iterator[tuple[str, str, str]]:
    """Yield ``(what, original, ours)`` for each line and each figure that is not the same."""
    case = CASES[name]
    theirs, mine = original_summary(case), our_summary(case)
    first, second = body(theirs), body(mine)
    for index in range(max(len(first), len(second))):
        pair = [" ".join(lines[index].split()) if index < len(lines) else "" for lines in (first, second)]
        if pair[0] != pair[1]:
            yield f"row {index}", pair[0], pair[1]
    for what in ("total_params", "trainable_params"):
        yield from _figure(what, getattr(theirs, what), getattr(mine, what))
    if _has_input(case):
        inputs = theirs.total_input - STORAGE_OVERHEAD * _tensors(mine.input_size)
        yield from _figure("total_input", inputs, mine.total_input)
        yield from _figure("total_param_bytes", theirs.total_param_bytes, mine.total_param_bytes)
        yield from _figure("total_mult_adds", theirs.total_mult_adds, mine.total_mult_adds)


def _figure(what: str, original: int, own: int) -> Iterator[tuple[str, str, str]]:
    if original != own:
        yield what, str(original), str(own)


def _tensors(sizes: Any) -> int:
    """Return how many tensors a structure of sizes stands for."""
    if isinstance(sizes, dict):
        return sum(_tensors(value) for value in sizes.values())
    if isinstance(sizes, torch.Size) or (sizes and isinstance(sizes[0], int)):
        return 1
    return sum(_tensors(value) for value in sizes)


if __name__ == "__main__":
    with redirect_stdout(io.StringIO()) as quiet:
        rows = [(name, *found) for name in CASES for found in differences(name)]
    csv.writer(sys.stdout, lineterminator="\n").writerows(rows)
