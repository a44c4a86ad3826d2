"""The table of torchinfo 1.8.0 beside ours: which lines differ, and by what mechanism.

Both see the same model and the same inputs, on meta where the original can be run there.
``python tests/compat/torchinfo_comparison.py`` prints the differences as rows of the CSV file.
"""

from __future__ import annotations

import csv
import importlib
import io
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "models")]

import torchinfo_models as tm
from flop_zoo import PLAIN, ZOO, Entry

import small_models
from torchgauge.compat import torchinfo as ours

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
    why: str = ""
    """What explains every difference of this case, where there is one thing alone."""


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


def pruned() -> nn.Module:
    """Return the digits model with half of each weight masked."""
    model = tm.SingleInputNet()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            prune.l1_unstructured(module, "weight", 0.5)
    return model


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
    "mask parameter": Case(
        build=lambda: tm.FakePrunedLayerModel(8, 4),
        data=floats((1,)),
        why="a parameter named like a mask",
    ),
    "registered": Case(
        build=lambda: tm.RegisterParameter(nn.Linear(2, 2), nn.Linear(2, 2)), data=floats((3, 2))
    ),
    "bare parameters": Case(build=lambda: tm.ParameterFCNet(128, 64, 32), data=floats((3, 128))),
    "bare parameters only": Case(build=lambda: tm.ParameterFCNet(128, 64), data=floats((3, 128))),
    "nested leftover": Case(build=tm.InsideModel, data=floats((100, 2))),
    "missing layers": Case(build=tm.RecursiveWithMissingLayers, data=floats((2, 3, 16, 16))),
    "list a": Case(build=lambda: tm.CNNModuleList(tm.ConvLayerA), data=floats((1, 1, 10))),
    "list b": Case(build=lambda: tm.CNNModuleList(tm.ConvLayerB), data=floats((1, 1, 10))),
    "lazy": Case(
        build=lambda: nn.Sequential(nn.LazyConv1d(4, 3), nn.ReLU(), nn.LazyLinear(2)),
        data=floats((3, 5, 9)),
    ),
    "lazy listed": Case(build=lambda: nn.Sequential(nn.LazyLinear(4), nn.ReLU())),
    "scripted": Case(
        build=lambda: torch.jit.script(tm.LinearModel()),
        data=floats((64, 128)),
        why="scripted modules",
    ),
    "scripted listed": Case(build=lambda: torch.jit.script(tm.LinearModel())),
    "half scripted": Case(
        build=tm.PartialJITModel, data=floats((2, 1, 28, 28)), why="scripted modules"
    ),
    "pruned": Case(build=pruned, data=floats((2, 1, 28, 28)), why="masked weights"),
    "frozen": Case(
        build=lambda: tm.SingleInputNet().requires_grad_(False), data=floats((2, 1, 28, 28))
    ),
    "compiled": Case(
        build=lambda: torch.compile(tm.LinearModel(), backend="eager"), data=floats((4, 128))
    ),
    "wrapped": Case(build=lambda: nn.DataParallel(tm.LinearModel()), data=floats((4, 128))),
    "quantized": Case(
        build=lambda: torch.ao.quantization.quantize_dynamic(
            nn.Sequential(nn.Linear(8, 16), nn.ReLU()), {nn.Linear}
        ),
        data=floats((2, 8)),
        why="packed weights",
    ),
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = case.build()
        data = None if case.data is None else case.data()
        return function(model, input_data=data, **settings)


def _has_input(case: Case) -> bool:
    return case.data is not None or "input_size" in case.settings


def body(result: Any) -> list[str]:
    """Return the lines between the header and the totals."""
    lines = str(result).splitlines()
    rules = [index for index, line in enumerate(lines) if set(line) == {"="}]
    return lines[rules[1] + 1 : rules[2]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One line or figure that is not the same, with the mechanisms that explain it."""

    model: str
    what: str
    original: str
    ours: str
    why: str


def differences(name: str) -> list[Difference]:
    """Return what is not the same of a case."""
    case = CASES[name]
    theirs, mine = original_summary(case), our_summary(case)
    figures = {}
    for what in ("total_params", "trainable_params"):
        figures[what] = (getattr(theirs, what), getattr(mine, what))
    if _has_input(case):
        overhead = STORAGE_OVERHEAD * _tensors(mine.input_size)
        figures["total_input"] = (theirs.total_input - overhead, mine.total_input)
        for what in ("total_param_bytes", "total_mult_adds"):
            figures[what] = (getattr(theirs, what), getattr(mine, what))
    counted_otherwise = theirs.total_params != mine.total_params
    if counted_otherwise:  # then each percentage is another
        for result in (theirs, mine):
            names = result.formatting.col_names
            result.formatting.col_names = tuple(n for n in names if n != "params_percent")
    found = [
        Difference(
            model=name, what=f"row {index}", original=first, ours=second,
            why="shared parameters" if counted_otherwise else "containers listed again",
        )
        for index, (first, second) in enumerate(_lines(theirs, mine))
        if first != second
    ]  # fmt: skip
    for what, (original, own) in figures.items():
        if original != own:
            why = _why(what, theirs, mine)
            found.append(
                Difference(model=name, what=what, original=str(original), ours=str(own), why=why)
            )
    return [replace(item, why=case.why or item.why) for item in found]


def _why(what: str, theirs: Any, mine: Any) -> str:
    """Return the mechanisms behind a figure that is not the same."""
    if what == "total_input":
        return "tensors among the keyword arguments"
    if what == "total_mult_adds":
        return " + ".join(mac_mechanisms(theirs, mine))
    if what == "total_param_bytes" and theirs.total_param_bytes < mine.total_param_bytes:
        return "bytes of leaves"
    return "shared parameters"


def _lines(theirs: Any, mine: Any) -> Iterator[tuple[str, str]]:
    first, second = body(theirs), body(mine)
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        yield (one, other) if one == other else (" ".join(one.split()), " ".join(other.split()))


def mac_mechanisms(theirs: Any, mine: Any) -> list[str]:
    """Return what explains the rows whose MACs are not the same, each by its exact formula."""
    found = set()
    for original, own in zip(theirs.summary_list, mine.summary_list, strict=True):
        counted = original.macs if original.is_leaf_layer else 0
        if counted != own.own_macs:
            found.add(_mac_mechanism(original.module, original, counted, own.own_macs))
    return sorted(found)


def _mac_mechanism(module: nn.Module, row: Any, counted: int, own: int) -> str:
    size = row.output_size
    parameters = dict(module.named_parameters(recurse=False))
    weights = sum(p.numel() for name, p in parameters.items() if "weight" in name)
    biases = sum(p.numel() for name, p in parameters.items() if "bias" in name)
    if isinstance(module, nn.modules.conv._ConvNd):
        positions = math.prod(size[:1] + size[2:])
        if isinstance(module, nn.modules.conv._ConvTransposeNd):
            inputs = math.prod(row.input_size[:1] + row.input_size[2:])
            right = counted == positions * (weights + biases) and own == inputs * weights
            return "transposed convolutions" if right else "unexplained"
        right = counted == positions * (weights + biases) and own == positions * weights
        return "biases" if right else "unexplained"
    if isinstance(module, nn.Linear):
        right = counted == size[0] * (weights + biases) and own == math.prod(size[:-1]) * weights
        if not right:
            return "unexplained"
        return "biases" if len(size) == 2 else "positions of Linear"
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        positions = math.prod(size[:2])
        return "biases" if (counted, own) == (
            positions * (weights + biases), positions * weights
        ) else "recurrent layers"  # fmt: skip
    if own == 0:  # no product of matrices, but something called weight
        return "weights without a product"
    return "work outside of layers" if counted == 0 else "layers with other formulas"


def _tensors(sizes: Any) -> int:
    """Return how many tensors a structure of sizes stands for."""
    if isinstance(sizes, dict):
        return sum(_tensors(value) for value in sizes.values())
    if isinstance(sizes, torch.Size) or (sizes and isinstance(sizes[0], int)):
        return 1
    return sum(_tensors(value) for value in sizes)


def rows() -> list[dict[str, str]]:
    """Return the rows of the CSV file."""
    return [
        {**asdict(found), "who_is_right": "ours"} for name in CASES for found in differences(name)
    ]


if __name__ == "__main__":
    with redirect_stdout(io.StringIO()):
        lines = rows()
    fields = ("model", "what", "original", "ours", "who_is_right", "why")
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
