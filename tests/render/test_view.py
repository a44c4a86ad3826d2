"""The view: its parts sum to the totals, folding changes no sum, marks say what is special."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import report_builder as build
from torchgauge.facts.query import (
    Cost,
    children,
    has_run,
    leaf_rows,
    never_called,
    own_costs,
    subtree,
    subtree_cost,
    top_by_activation,
    top_by_macs,
    top_by_params,
)
from torchgauge.facts.report import ModuleTable
from torchgauge.render.shapes import shape_of, values_cell
from torchgauge.render.tree.parts import build_parts, innermost
from torchgauge.render.tree.rows import ModuleTable as Modules
from torchgauge.render.tree.rows import TreeOptions

ADDED = ("params", "trainable", "param_bytes", "macs", "backward_flops", "saved", "activation")
DEPTHS = (1, 2, 3, None)


class Shown:
    """A row with its cells and figures by the name of their column."""

    def __init__(self, modules, item, figures):
        row = item.row
        self.name, self.fold, self.level = row.cells[0].full, row.count, row.level
        self.remarks, self.expanded, self.copies = row.remarks, item.expanded, item.part.copies
        names = [column.name for column in modules.columns]
        self.cells = dict(zip(names, row.cells[1:], strict=True))
        self.summed = figures[2]
        self.raw = dict(zip(names, figures[3:-1], strict=True))


def rows_of(report, **options):
    modules = Modules(report, TreeOptions(**options))
    figures = modules.data().rows
    return [
        (item.row.path, Shown(modules, item, row))
        for item, row in zip(modules.rows, figures, strict=True)
    ]


def rows_by_label(report, **options):
    return dict(rows_of(report, **options))


def sums(report, **options):
    rows = [row for _, row in rows_of(report, columns=ADDED, **options) if row.summed]
    return {name: sum(row.raw[name] for row in rows) for name in ADDED}


@pytest.mark.parametrize("expand", [False, True])
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("name", build.ALL)
def test_the_printed_rows_sum_to_the_totals(name, depth, expand):
    report = build.ALL[name]()
    found = sums(report, depth=depth, expand=expand)
    assert found["params"] == report.totals.params
    assert found["trainable"] == report.totals.trainable_params
    assert found["param_bytes"] == report.totals.param_bytes
    assert found["macs"] == report.totals.forward_macs
    assert found["backward_flops"] == report.totals.backward_flops
    assert found == sums(report), "depth and folding change no sum"
    if report.scenario.is_training:
        assert found["saved"] == report.memory.saved_activation_bytes


@given(blocks=st.lists(st.integers(1, 3), max_size=8), depth=st.sampled_from(DEPTHS))
def test_folding_keeps_the_sums_of_any_blocks(blocks, depth):
    built = build.Builder("Random")
    x = build.value("x", (1, 4))
    total = 100 * sum(blocks)
    built.module("", "Random", calls=[build.call([x], [x], parent=None, macs=total)])
    for index, kind in enumerate(blocks):
        path = f"block{index}"
        done = build.call([x], [x], macs=100 * kind)
        built.module(path, f"Block{kind}", calls=[done])
        weight = build.parameter(f"{path}.fc.weight", kind, 4)
        inner = build.call([x], [x], parent=path, macs=60 * kind)
        built.module(f"{path}.fc", "Linear", parameters=[weight], calls=[inner])
    report = built.report([x], [x])
    assert sums(report, depth=depth) == sums(report, expand=True)
    assert sums(report, depth=depth)["params"] == 4 * sum(blocks)
    assert sums(report, depth=depth)["macs"] == total
    copies = [row.fold for _, row in rows_of(report, depth=1) if row.level == 0]
    assert sum(copies) == max(len(blocks), 1)


def test_equal_blocks_are_one_row_and_their_list_is_part_of_its_name():
    rows = rows_by_label(build.transformer(12))
    block = rows["layers.0–11"]
    assert (block.name, block.fold, block.level) == ("layers.0–11", 12, 0)
    assert rows["layers.0–11.qkv"].raw["params"] == 12 * 256 * 64
    assert "layers" not in rows
    expanded = rows_by_label(build.transformer(12), expand=True)
    assert expanded["layers"].raw["params"] == block.raw["params"]
    assert expanded["layers.7.qkv"].raw["params"] == 256 * 64
    assert not any(row.fold > 1 for row in expanded.values())
    calls = rows_by_label(build.transformer(12), columns=("calls",))
    assert calls["layers.0–11"].raw["calls"] == calls["layers.0–11.qkv"].raw["calls"] == 12
    assert calls["layers.0–11.qkv"].copies == 12


@pytest.mark.parametrize(
    "change",
    [{"trainable": False}, {"shape": (64, 256)}, {"dtype": "bfloat16"}, {"is_lazy": True}],
)
def test_blocks_that_differ_in_anything_are_not_folded(change):
    report = build.transformer(4)
    odd = report.modules["layers.2.qkv"]
    other = replace(odd.own_parameters[0], **change)
    modules = {**report.modules, "layers.2.qkv": replace(odd, own_parameters=(other,))}
    rows = rows_by_label(replace(report, modules=ModuleTable(tuple(modules.values()))), depth=2)
    assert [label for label in rows if label.startswith("layers.")] == [
        "layers.0–1",
        "layers.2",
        "layers.3",
    ]


def tied_blocks():
    """Blocks that each tie a weight of their own, and use one of the first block."""
    built = build.Builder("Tied").module("", "Tied").module("blocks", "ModuleList")
    for index in range(3):
        path = f"blocks.{index}"
        first = "blocks.0.scale" if index else None
        own = build.parameter(f"{path}.scale", 4, shared_with=first)
        built.module(path, "Block", parameters=[own])
        built.module(f"{path}.a", "Linear", parameters=[build.parameter(f"{path}.a.weight", 4)])
        tied = build.parameter(f"{path}.b.weight", 4, shared_with=f"{path}.a.weight")
        built.module(f"{path}.b", "Linear", parameters=[tied])
    return built.report()


def test_a_bare_parameter_that_is_shared_counts_once():
    report = tied_blocks()
    assert report.totals.params == 16 == sums(report)["params"]
    rows = rows_by_label(report)
    assert rows["blocks.1–2.scale"].cells["params"].full == "(8)"
    assert [mark.full for mark in rows["blocks.1–2.scale"].remarks] == [
        "shared with blocks.0.scale"
    ]


def test_blocks_that_share_in_the_same_way_are_folded():
    rows = rows_by_label(tied_blocks(), depth=2)
    assert list(rows) == ["blocks", "blocks.0", "blocks.1–2"]


def test_a_list_cut_off_by_depth_shows_its_sum():
    row = rows_by_label(build.transformer(12), depth=1)["layers"]
    assert row.cells["params"].full == "296,448"
    assert not row.expanded


def test_marks_say_what_is_special():
    rows = rows_by_label(build.shared_weights())
    marks = {label: [mark.full for mark in row.remarks] for label, row in rows.items()}
    assert marks == {
        "encoder": [],
        "encoder.embed": ["called × 2"],
        "decoder": [],
        "decoder.embed": ["shared with encoder.embed"],
        "decoder.proj": ["weight shared with encoder.embed.weight", "partly frozen"],
        "cell": ["called × 10", "frozen"],
        "unused": ["not called"],
        "lazy": ["not called", "lazy, no shape yet"],
        "norm": [],
    }


def test_a_frozen_container_is_marked_once():
    report = build.transformer(2)

    def frozen(module):
        if not module.path.startswith("layers"):
            return module
        own = tuple(replace(item, trainable=False) for item in module.own_parameters)
        return replace(module, own_parameters=own, trainable_params=0)

    modules = ModuleTable(tuple(frozen(module) for module in report.modules.values()))
    rows = rows_by_label(replace(report, modules=modules))
    assert [mark.full for mark in rows["layers.0–1"].remarks] == ["frozen"]
    assert rows["layers.0–1.qkv"].remarks == ()


def test_shared_sizes_stand_in_parentheses_and_add_nothing():
    rows = rows_by_label(build.shared_weights())
    assert rows["decoder.embed"].cells["params"].full == "(64)"
    assert rows["decoder.embed"].raw["params"] == 0
    assert rows["decoder.proj"].cells["params"].full == "8"


def test_bare_parameters_and_functional_work_have_rows():
    rows = rows_by_label(build.transformer(2))
    assert rows["positions"].cells["type"].full == "Parameter"
    assert rows["positions"].cells["output"].full == "[16, 64]"
    work = rows["layers.0–1 (functional)"]
    assert work.raw["macs"] == 2 * 2 * 2 * 16 * 16 * 64
    assert not any("(functional)" in label for label in rows_by_label(build.simple_cnn()))


def test_different_calls_are_shown_when_expanded():
    assert [m.full for m in rows_by_label(build.detector())["step"].remarks] == [
        "called × 3, 3 differ"
    ]
    rows = rows_by_label(build.detector(), expand=True)
    shapes = [rows[f"step call {n}"].cells["output"].full for n in (1, 2, 3)]
    assert shapes == [
        "hidden [B, 1, 8], state [B, 8]",
        "hidden [B, 2, 8], state [B, 8]",
        "hidden [B, 3, 8], state [B, 8]",
    ]
    assert rows["step"].raw["macs"] == 600


def test_equal_calls_stay_one_row():
    cell = rows_by_label(build.shared_weights(), expand=True)
    assert [label for label in cell if label.startswith("cell")] == ["cell"]


def test_the_batch_is_named():
    assert shape_of((98, 4), {0: 49}) == "[49B, 4]"
    values = build.detector().outputs
    assert values_cell(values, 2).variants == ("boxes [49B, 4], scores [49B]", "[49B, 4] +1")
    assert values_cell(values, None).variants[1] == "[98, 4] +1"
    assert rows_by_label(build.simple_cnn(8))["classifier"].cells["output"].full == "[B, 1000]"


def test_many_unnamed_outputs_are_counted():
    values = [build.value(str(i), (2, i)) for i in range(1, 5)]
    assert values_cell(values, 2).variants == ("[B, 1] +3",)
    assert values_cell(values, 2, all_of_them=True).full == "[B, 1], [B, 2], [B, 3], [B, 4]"


@pytest.mark.parametrize("name", build.ALL)
def test_the_innermost_parts_sum_to_the_whole(name):
    parts = build_parts(build.ALL[name]())
    assert sum((part.cost for part in innermost(parts)), start=Cost()) == parts.cost


# ---------------------------------------------------------------------------- queries


def test_children_subtree_and_leaves():
    report = build.simple_cnn()
    assert [module.path for module in children(report)] == ["features", "classifier"]
    assert [module.path for module in children(report, "features")] == [
        f"features.{i}" for i in range(6)
    ]
    assert len(subtree(report, "features")) == 7
    assert len(subtree(report)) == len(report.modules)
    assert len(leaf_rows(report)) == 7
    assert "decoder.embed" not in {m.path for m in leaf_rows(build.shared_weights())}
    with pytest.raises(KeyError):
        children(report, "nowhere")


def test_what_costs_most():
    report = build.simple_cnn()
    assert top_by_params(report, 2) == (("classifier", 401_409_000), ("features.3", 73_856))
    assert top_by_macs(report, 9) == (
        ("features.3", 924_844_032), ("classifier", 401_408_000), ("features.0", 86_704_128),
    )  # fmt: skip
    assert top_by_activation(report, 1) == (("features.0", 12_845_056),)
    assert top_by_activation(build.transformer(2, training=True), 1)[0][1] == 8192
    assert top_by_macs(build.structure_only()) == ()


def test_costs_of_a_subtree_add_up():
    report = build.transformer(3)
    assert subtree_cost(report).macs == report.totals.forward_macs
    block = subtree_cost(report, "layers.0").macs
    assert subtree_cost(report, "layers").macs == 3 * block == 3 * report.modules["layers.0"].macs
    assert own_costs(report)["layers.0"].macs == 2 * 2 * 16 * 16 * 64


def test_recomputed_calls_count_in_the_backward_alone():
    report = build.transformer(2, training=True)
    block = report.modules["layers.0"]
    again = replace(block.calls[0], recompute=True, parent=None)
    modules = {**report.modules, "layers.0": replace(block, calls=(*block.calls, again))}
    twice = replace(report, modules=ModuleTable(tuple(modules.values())))
    assert subtree_cost(twice).macs == subtree_cost(report).macs
    more = subtree_cost(twice).backward_flops - subtree_cost(report).backward_flops
    assert more == again.backward_flops


def test_never_called_modules_are_the_topmost_ones():
    assert [m.path for m in never_called(build.shared_weights())] == ["unused", "lazy"]
    built = build.Builder("Outer").module("", "Outer", calls=[build.call([], [], parent=None)])
    for path in ("off", "off.inner", "off.inner.leaf", "offside"):
        built.module(path, "Linear")
    assert [m.path for m in never_called(built.report())] == ["off", "offside"]
    assert never_called(build.structure_only()) == ()
    assert never_called(build.failed()) == ()
    assert not has_run(build.structure_only())
