"""fvcore's analyses beside the original: modules, parameters, operators, flops of every module."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from typing import Any

import pytest
from flop_zoo import library
from flops_beside import MODELS, Mechanism, Named, all_listed, built, differences, listed
from torch import nn

from torchgauge.compat.fvcore import nn as compat

MISSING = Mechanism(
    who_is_right="ours",
    why="fvcore has no handle for this operator, lists it as unsupported and counts nothing",
)
UNCALLED = Mechanism(
    who_is_right="ours",
    why="fvcore takes a module in which no operator ran for one that was never called",
)
EINSUM = Mechanism(
    who_is_right="ours", why="fvcore takes half of what NumPy calls the optimized FLOP count"
)
FAILS = Mechanism(
    who_is_right="ours", why="fvcore traces with TorchScript, which refuses this model"
)
COUNTED = ("addmm", "bmm", "conv", "linear", "matmul", "mm")
"""Products that fvcore does count: none of them may differ."""


def original() -> Any:
    return library("fvcore.nn")


def model_and_inputs(name: str) -> tuple[nn.Module, tuple[Any, ...]]:
    """Return a model as fvcore takes it: positional tensors in, tensors out."""
    model, args, kwargs = built(name)
    if name.startswith("hf-"):
        model.config.use_cache = False
    return (Named(model, tuple(kwargs)), tuple(kwargs.values())) if kwargs else (model, args)


def analyses(tool: Any, model: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, Any]:
    found = []
    for kind in (tool.FlopCountAnalysis, tool.ActivationCountAnalysis):
        analysis = kind(model, inputs)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        found.append(analysis.tracer_warnings("none"))
    return found[0], found[1]


def figures(flops: Any, activations: Any, model: nn.Module, tool: Any) -> dict[str, Any]:
    """Return everything that is compared as a whole."""
    return {
        "modules": sorted(flops.by_module()),
        "parameters": dict(tool.parameter_count(model)),
        "uncalled": len(flops.uncalled_modules()),
        **{f"flops of {op}": int(count) for op, count in flops.by_operator().items()},
        **{f"activations of {op}": int(n) for op, n in activations.by_operator().items()},
    }


def compare(name: str) -> list[dict[str, str]]:
    """Return a row per figure that differs; by module, operators that agree in total must too."""
    model, inputs = model_and_inputs(name)
    ours = analyses(compat, model, inputs)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = analyses(original(), model, inputs)
            theirs[0].total()
            theirs[1].total()
    except Exception as error:
        ran = {"run": "ok"} if ours[0].total() >= 0 else {}
        return differences(name, {"run": type(error).__name__}, ran, lambda what: FAILS)
    before, after = figures(*theirs, model, original()), figures(*ours, model, compat)
    rows = differences(name, before, after, mechanism)
    assert ours[0].uncalled_modules() <= theirs[0].uncalled_modules()
    differing = {row["what"].removeprefix("flops of ") for row in rows}
    for module, counts in theirs[0].by_module_and_operator().items():
        alike = [
            {op: int(n) for op, n in (+Counter(found)).items() if op not in differing}
            for found in (counts, ours[0].by_module_and_operator()[module])
        ]  # fmt: skip
        rows += differences(name, {module: alike[0]}, {module: alike[1]}, lambda what: None)
    return rows


def mechanism(what: str) -> Mechanism | None:
    if what in ("uncalled", "flops of einsum"):
        return UNCALLED if what == "uncalled" else EINSUM
    operator = what.rpartition(" of ")[2]
    return None if operator == what or operator in COUNTED else MISSING


@pytest.mark.models
@pytest.mark.parametrize("name", MODELS)
def test_modules_parameters_operators(name: str) -> None:
    assert compare(name) == listed("fvcore", name)


def test_the_table_is_complete() -> None:
    rows = all_listed("fvcore")
    assert len(MODELS) >= 40
    assert {row["why"] for row in rows} <= {m.why for m in (MISSING, UNCALLED, EINSUM, FAILS)}


TABLES = ("torchvision-resnet18", "torchvision-swin_t", "small-cnn", "encoder", "multihead")


@pytest.mark.models
@pytest.mark.parametrize("name", TABLES)
def test_tables_have_the_same_rows(name: str) -> None:
    """Names and parameters line by line; the newest tabulate drops the original's indentation."""
    model, inputs = model_and_inputs(name)
    texts = []
    for tool in (original(), compat):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            flops, activations = analyses(tool, model, inputs)
            texts.append((
                tool.flop_count_table(flops, max_depth=4, activations=activations),
                tool.flop_count_str(flops),
                tool.parameter_count_table(model),
            ))  # fmt: skip
    for theirs, ours in zip(*texts, strict=True):
        first, second = (columns(text) for text in (theirs, ours))
        assert [names(row) for row in first] == [names(row) for row in second]
        if name in ("torchvision-resnet18", "small-cnn"):
            assert first == second


def names(row: list[str]) -> list[str]:
    """Return what does not depend on who counts more: a table's first two cells, a layer's name.

    In the text form a layer without operators of its own is ``N/A`` to the original, which does
    not see that it was called.
    """
    if row[0] == "":  # a line of a table begins with its border
        return row[:3]
    return [re.split(r"\(#params|\(\)|#params", row[0])[0].strip()]


def columns(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.split("|" if line.startswith("|") else ",")]
        for line in text.splitlines()
        if not line.startswith("|:") and not line.startswith("N/A")
    ]
