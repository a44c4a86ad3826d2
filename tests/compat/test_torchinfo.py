"""``torchgauge.compat.torchinfo``: figures, rows, columns, settings."""

from __future__ import annotations

import sys
from collections import UserDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

sys.path.insert(0, str(Path(__file__).parent))
import torchinfo_models as tm

import torchgauge as tg
from torchgauge.compat.torchinfo import (
    ColumnSettings,
    Mode,
    ModelStatistics,
    RowSettings,
    Units,
    Verbosity,
    summary,
)
from torchgauge.compat.torchinfo.formatting import HEADER_TITLES

DIGITS = (16, 1, 28, 28)


def quiet(*args: Any, **kwargs: Any) -> ModelStatistics:
    return summary(*args, verbose=0, **kwargs)


def lines(result: ModelStatistics) -> list[str]:
    return str(result).splitlines()


def body(result: ModelStatistics) -> list[str]:
    """Return the lines between the header and the totals."""
    text = lines(result)
    rules = [index for index, line in enumerate(text) if set(line) == {"="}]
    return text[rules[1] + 1 : rules[2]]


def cells(result: ModelStatistics, column: ColumnSettings) -> list[str]:
    """Return a column of the table, read off its text."""
    options = result.formatting
    position = list(options.col_names).index(column)
    start = options.layer_name_width + 1 + position * (options.col_width + 1)
    return [line[start : start + options.col_width].strip() for line in body(result)]


def column_sum(result: ModelStatistics, column: ColumnSettings) -> int:
    numbers = (cell.strip("()").replace(",", "") for cell in cells(result, column))
    return sum(int(number) for number in numbers if number.isdigit())


# ------------------------------------------------------------------------ figures


def test_the_digits_example() -> None:
    result = quiet(tm.SingleInputNet(), DIGITS)
    assert len(result.summary_list) == 6
    assert result.total_params == result.trainable_params == 21840
    assert result.total_param_bytes == 21840 * 4
    assert result.total_input == 16 * 28 * 28 * 4
    macs = 16 * (24 * 24 * 10 * 25 + 8 * 8 * 20 * 250 + 320 * 50 + 50 * 10)
    assert result.total_mult_adds == macs == 7_688_000


def test_the_total_size_is_the_peak_of_a_training_step() -> None:
    model = tm.SingleInputNet()
    result = quiet(model, DIGITS)
    scenario = tg.Scenario(mode="training", optimizer="none")
    peak = tg.analyze(model, DIGITS, scenario=scenario).memory.peak_allocated_bytes
    assert result.total_input + result.total_output_bytes + result.total_param_bytes == peak


def test_eval_shows_the_memory_of_training_too() -> None:
    train = quiet(nn.Linear(8, 8), (4, 8), mode="train")
    assert quiet(nn.Linear(8, 8), (4, 8), mode="eval").total_output_bytes == (
        train.total_output_bytes
    )


def test_without_a_backward_the_memory_is_that_of_inference() -> None:
    frozen = nn.Linear(8, 8).requires_grad_(False)
    assert quiet(frozen, (4, 8)).total_output_bytes == 4 * 8 * 4


TOTALS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "siamese": (tm.SiameseNets, 6_400 + 64 + 401_408 + 128 + 262_144 + 128 + 524_288 + 256
                + 1_052_672 + 4_097),
    "two dtypes": (tm.MultipleInputNetDifferentDtypes, 31_120),
    "one linear": (lambda: nn.Linear(2, 5), 15),
    "recursive": (tm.RecursiveNet, 36_928),
    "nested leftover": (tm.InsideModel, 8),
    "registered": (lambda: tm.RegisterParameter(nn.Linear(2, 2), nn.Linear(2, 2)), 14),
    "half trainable": (tm.MixedTrainableParameters, 20),
    "pruned name": (lambda: tm.PrunedLayerNameModel(8, 4), 32),
    "mask parameter": (lambda: tm.FakePrunedLayerModel(8, 4), 64),
    "lstm": (tm.LSTMNet, 3_784_580),
    "tied": (tm.TiedWeightsModel, 1_600),
    "reused": (tm.ReuseLinear, 110),
    "reused twice": (tm.ReuseLinearExtended, 110),
    "tensor that is no parameter": (tm.EmptyModule, 0),
    "empty list": (nn.ModuleList, 0),
    "attention": (lambda: nn.MultiheadAttention(8, 2), 3 * 72 + 72),
}  # fmt: skip


@pytest.mark.parametrize("name", TOTALS)
def test_listing_alone_counts_every_parameter(name: str) -> None:
    build, expected = TOTALS[name]
    result = quiet(build())
    assert result.total_params == expected
    assert column_sum(result, ColumnSettings.NUM_PARAMS) == expected
    assert "Total mult-adds" not in str(result)


def test_trainable_and_frozen_are_told_apart() -> None:
    result = quiet(tm.MixedTrainableParameters())
    assert (result.trainable_params, result.total_params) == (10, 20)
    assert "Non-trainable params: 10" in lines(result)
    result = quiet(tm.MixedTrainable(), (1, 1, 1), col_names=("trainable", "num_params"))
    assert cells(result, ColumnSettings.TRAINABLE) == ["Partial", "True", "Partial", "False", "--"]
    assert cells(result, ColumnSettings.NUM_PARAMS) == ["--", "2", "2", "(2)", "--"]


def test_a_repeated_layer_has_a_row_per_call() -> None:
    result = quiet(tm.RecursiveNet(), (1, 64, 28, 28), col_names=("num_params", "mult_adds"))
    assert len(result.summary_list) == 7
    assert result.summary_list[1].num_params_to_str(reached_max_depth=False) == "36,928"
    assert result.summary_list[2].num_params_to_str(reached_max_depth=False) == "(recursive)"
    one = 64 * 64 * 9 * 28 * 28
    assert result.total_mult_adds == 6 * one
    assert cells(result, ColumnSettings.MULT_ADDS) == ["--", *[f"{one:,}"] * 6]


def test_a_layer_without_parameters_is_listed_again_without_a_word() -> None:
    act = nn.LeakyReLU()
    result = quiet(nn.Sequential(act, nn.Identity(), act, nn.Identity(), act))
    assert len(result.summary_list) == 6
    assert set(cells(result, ColumnSettings.NUM_PARAMS)) == {"--"}
    assert [row.is_recursive for row in result.summary_list] == [False] * 3 + [True, False, True]


def test_a_pruned_layer_counts_what_its_mask_keeps() -> None:
    model = tm.SingleInputNet()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            prune.l1_unstructured(module, "weight", 0.5)
    result = quiet(model, DIGITS)
    assert result.total_params == 10_965
    assert result.total_mult_adds == 7_688_000, "zeros are multiplied like any number"
    assert result.total_param_bytes == 21_840 * 4
    assert column_sum(result, ColumnSettings.NUM_PARAMS) == 10_965


def test_a_tied_weight_is_shown_where_it_appears_first() -> None:
    result = quiet(tm.TiedWeightsModel(), input_data=torch.zeros(2, 3, dtype=torch.long))
    assert cells(result, ColumnSettings.NUM_PARAMS) == ["--", "1,600", "(recursive)"]
    assert result.total_params == 1_600
    assert result.summary_list[2].num_params == 1_600, "what the layer itself has"


def test_a_layer_that_runs_shows_its_weight_before_one_that_never_does() -> None:
    class Shared(nn.Module):
        """As in T5: a table that only lends its weight to the embedding of the encoder."""

        def __init__(self) -> None:
            super().__init__()
            self.shared, self.embed = nn.Embedding(10, 4), nn.Embedding(10, 4)
            self.embed.weight = self.shared.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.embed(x)

    assert cells(quiet(Shared(), (1, 3)), ColumnSettings.NUM_PARAMS) == ["--", "40"]


def test_attention_is_counted() -> None:
    result = quiet(
        nn.MultiheadAttention(8, 2), [(5, 3, 8)] * 3, col_names=("num_params", "mult_adds")
    )
    assert cells(result, ColumnSettings.NUM_PARAMS) == ["288"]
    projections, products = 4 * 15 * 8 * 8, 2 * 3 * 5 * 5 * 8
    assert cells(result, ColumnSettings.MULT_ADDS) == [f"{projections + products:,}"]


SUMMED: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "digits": (tm.SingleInputNet, torch.zeros(2, 1, 28, 28)),
    "containers": (tm.ContainerModule, torch.zeros(1, 5)),
    "recursive": (tm.RecursiveNet, torch.zeros(1, 64, 8, 8)),
    "reused": (tm.ReuseLinearExtended, torch.zeros(2, 10)),
    "shared lists": (tm.SharedModuleInNestedList, torch.zeros(1, 4)),
    "tied": (tm.TiedWeightsModel, torch.zeros(1, 3, dtype=torch.long)),
    "loop": (lambda: tm.SimpleRNN(repeat_outside_loop=True), torch.zeros(2, 3)),
    "leftover": (tm.InsideModel, torch.zeros(4, 2)),
    "bare": (lambda: tm.ParameterFCNet(16, 8, 4), torch.zeros(3, 16)),
    "list of parameters": (tm.ParameterListModel, torch.zeros(3, 16)),
    "dict": (tm.RecursiveWithMissingLayers, torch.zeros(2, 3, 16, 16)),
    "encoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2),
        torch.zeros(5, 2, 16),
    ),
}


@pytest.mark.parametrize("hide", [False, True])
@pytest.mark.parametrize("depth", [0, 1, 2, 3, 9])
@pytest.mark.parametrize("name", SUMMED)
def test_columns_sum_to_the_totals(name: str, depth: int, hide: bool) -> None:
    build, data = SUMMED[name]
    model = build()
    result = quiet(
        model,
        input_data=data,
        depth=depth,
        col_names=("num_params", "mult_adds"),
        row_settings=("depth", "hide_recursive_layers") if hide else ("depth",),
    )
    assert column_sum(result, ColumnSettings.NUM_PARAMS) == result.total_params
    assert column_sum(result, ColumnSettings.MULT_ADDS) == result.total_mult_adds
    assert result.total_params == sum(p.numel() for p in model.parameters())
    assert result.total_mult_adds == result.report.totals.forward_macs


def test_work_outside_of_every_module_is_in_the_root_s_row() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    model.register_forward_pre_hook(lambda module, args: (args[0] @ torch.ones(4, 4),))
    result = quiet(model, (2, 4), col_names=("num_params", "mult_adds"))
    assert cells(result, ColumnSettings.MULT_ADDS) == ["32", "32"]
    assert result.total_mult_adds == 64


# ------------------------------------------------------------------------ parameters of summary()


def test_input_size_takes_every_form() -> None:
    model = tm.CustomParameter(2, 3)
    for size in ([(2,)], ((2,),), (2,), [2], torch.Size([2]), ([2],)):
        assert [list(item) for item in quiet(model, size).input_size] == [[2]]
    assert quiet(tm.ScalarTensorInputNet(), [(1, 10), []]).total_input == 44
    assert quiet(tm.ScalarTensorInputNet(), [(1, 10), ()]).total_input == 44


def test_input_data_takes_every_form() -> None:
    model = tm.MultipleInputNetDifferentDtypes()
    one, two = torch.zeros(1, 300), torch.zeros(1, 300, dtype=torch.long)
    size = torch.Size([1, 300])
    assert quiet(model, input_data=[one, two]).input_size == [size, size]
    assert quiet(model, input_data=(one, two)).input_size == (size, size)
    assert quiet(model, input_data={"x1": one, "x2": two}).input_size == {"x1": size, "x2": size}
    assert quiet(model, input_data=one, x2=two).input_size == size
    assert quiet(model, x1=one, x2=two).input_size == {"x1": size, "x2": size}


def test_a_mapping_of_any_kind_is_keyword_arguments() -> None:
    encoded = UserDict({"x1": torch.zeros(1, 300), "x2": torch.zeros(1, 300)})
    result = quiet(tm.MultipleInputNetDifferentDtypes(), input_data=encoded)
    assert result.input_size == {"x1": torch.Size([1, 300]), "x2": torch.Size([1, 300])}


def test_one_more_pair_of_brackets_is_taken_off() -> None:
    for size in ([[[2, 4]]], (((2, 4),),), [[torch.Size([2, 4])]]):
        assert quiet(nn.Linear(4, 3), size).summary_list[0].input_size == [2, 4]


def test_dtypes_are_for_sizes_alone() -> None:
    given = {"input_data": torch.zeros(2, 3), "dtypes": [torch.long]}
    assert quiet(nn.Linear(3, 3), **given).total_input == 24


def test_a_dict_in_a_list_is_one_argument() -> None:
    data = {256: torch.ones(10, 1), 512: [torch.ones(10, 1)]}
    for given in (
        {"input_data": {"x": data, "scale_factor": 5}},
        {"input_data": {"x": data}, "scale_factor": 5},
        {"input_data": [data], "scale_factor": 5},
    ):
        result = quiet(tm.DictParameter(), **given)
        assert result.summary_list[0].output_size == [10, 1]
        assert result.total_input == 80


@pytest.mark.parametrize("name", ["a", None])
def test_a_dict_may_hold_what_is_no_tensor(name: str | None) -> None:
    data = [{"x": torch.zeros(1, 10), "name": name}]
    result = quiet(tm.DictWithNonTensorValues(), input_data=data)
    assert result.input_size == [{"x": torch.Size([1, 10]), "name": name}]


def test_batch_dim_adds_a_batch_of_one() -> None:
    result = quiet(tm.SingleInputNet(), (1, 28, 28), batch_dim=0)
    assert result.input_size == [(1, 28, 28)]
    assert result.summary_list[1].input_size == [1, 1, 28, 28]
    assert quiet(tm.LSTMNet(), (100,), batch_dim=1).summary_list[1].output_size == [100, 1, 300]
    assert quiet(nn.Linear(3, 2), (3,), batch_dim=-2).summary_list[0].input_size == [1, 3]
    with pytest.raises(IndexError, match=r"range of \[-2, 1\], but got 4"):
        quiet(nn.Linear(3, 2), (3,), batch_dim=4)


def test_batch_dim_shows_given_data_with_one_there() -> None:
    given = {"input_data": [torch.zeros(7, 3)], "col_names": ("input_size", "output_size")}
    with_one = quiet(nn.Linear(3, 2), batch_dim=0, **given).summary_list[0]
    assert (with_one.input_size, with_one.output_size) == ([1, 3], [7, 2])
    assert quiet(nn.Linear(3, 2), **given).summary_list[0].input_size == [7, 3]


def test_col_names_are_all_there_is() -> None:
    result = quiet(nn.Conv2d(16, 32, 3, groups=4), (7, 16, 28, 28), col_names=list(ColumnSettings))
    row = {column: cells(result, column)[0] for column in ColumnSettings}
    assert row == {
        "kernel_size": "[3, 3]",
        "groups": "4",
        "input_size": "[7, 16, 28, 28]",
        "output_size": "[7, 32, 26, 26]",
        "num_params": "1,184",
        "params_percent": "100.00%",
        "mult_adds": f"{7 * 32 * 26 * 26 * 4 * 9:,}",
        "trainable": "True",
    }
    header = lines(result)[1].split("  ")
    assert [title.strip() for title in header if title][1:] == list(HEADER_TITLES.values())


def test_columns_by_default() -> None:
    assert "Output Shape" in lines(quiet(nn.Linear(1, 1), (1, 1)))[1]
    assert lines(quiet(nn.Linear(1, 1)))[1].split()[-2:] == ["Param", "#"]
    assert "Output" not in lines(quiet(nn.Linear(1, 1)))[1]


def test_col_width_and_the_rules() -> None:
    for width in (12, 25):
        result = quiet(nn.Linear(1, 1), (1, 1), col_width=width)
        assert lines(result)[0] == "=" * (40 + 2 * width)
        assert lines(result)[1].index("Param #") == 42 + width


def test_depth_cuts_and_sums() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4))))
    names = [[row.split(":")[0] for row in body(quiet(model, (1, 4), depth=d))] for d in (0, 1, 2)]
    assert [len(rows) for rows in names] == [1, 2, 4]
    assert cells(quiet(model, (1, 4), depth=1), ColumnSettings.NUM_PARAMS) == ["--", "40"]
    shown = cells(quiet(model, (1, 4), depth=2), ColumnSettings.NUM_PARAMS)
    assert shown == ["--", "--", "20", "20"]


def test_dtypes_reach_the_model() -> None:
    seen: list[torch.dtype] = []

    class Look(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            seen.extend([x.dtype, y.dtype])
            return x.float() + y.float()

    quiet(Look(), [(2,), (2,)], dtypes=[torch.float64, torch.LongTensor])
    assert seen[:2] == [torch.float64, torch.int64]
    seen.clear()
    quiet(Look(), [(2,), (2,)], dtypes=["torch.DoubleTensor", "int32", torch.bool])
    assert seen[:2] == [torch.float64, torch.int32], "what is beyond the inputs is ignored"
    with pytest.raises(ValueError, match="2 dtypes for 3 inputs"):
        quiet(Look(), [(2,), (2,), (2,)], dtypes=[torch.float] * 2)
    with pytest.raises(ValueError, match="unknown dtype 'lang'"):
        quiet(Look(), [(2,), (2,)], dtypes=["lang", "long"])


def test_an_embedding_needs_no_dtype() -> None:
    assert quiet(tm.LSTMNet(), (1, 100)).summary_list[1].output_size == [1, 100, 300]
    assert quiet(tm.LSTMNet(), (1, 100)).total_input == 800


def test_half_precision_works_on_the_cpu_without_a_warning() -> None:
    result = quiet(tm.SingleInputNet().half(), (1, 1, 28, 28), dtypes=[torch.float16])
    assert result.total_param_bytes == 21_840 * 2
    assert result.total_input == 28 * 28 * 2


class Modes(nn.Module):
    """Has another output size in training."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.linear(x)
        return x if self.training else x[:, :1]


def test_mode_says_how_the_model_runs() -> None:
    def width(mode: str | None, training: bool) -> int:
        model = Modes().train(training)
        found = quiet(model, (1, 2), mode=mode).summary_list[0].output_size[1]
        assert model.training is training
        return found

    assert [width(mode, True) for mode in ("train", "eval", "same", None)] == [2, 1, 2, 1]
    assert [width(mode, False) for mode in ("train", "eval", "same", None)] == [2, 1, 1, 1]
    assert quiet(Modes().eval(), (1, 2)).summary_list[0].output_size == [1, 1], "same by default"
    assert quiet(Modes(), (1, 2), mode=Mode.EVAL).summary_list[0].output_size == [1, 1]


def test_a_model_that_cannot_train_on_its_input_runs_in_eval_mode() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    message = "fails in train mode, so it ran in eval mode: Expected"
    with pytest.warns(UserWarning, match=message) as caught:
        result = summary(model, (1, 3), verbose=0)
    assert caught[0].filename == __file__
    assert result.summary_list[2].output_size == [1, 4]
    assert "more than 1 value per channel" in result.notes[0]
    with pytest.raises(RuntimeError, match="Failed to run torchinfo"):
        quiet(model, (1, 3), mode="train")


def test_row_settings() -> None:
    def first(*settings: str) -> str:
        return body(quiet(tm.SingleInputNet(), DIGITS, row_settings=settings))[1].split("  ")[0]

    assert first() == "├─Conv2d"
    assert first("depth") == "├─Conv2d: 1-1"
    assert first("var_names") == "├─Conv2d (conv1)"
    assert first("ascii_only", RowSettings.DEPTH) == "+ Conv2d: 1-1"
    titles = lines(quiet(tm.SingleInputNet(), row_settings=("var_names", "depth")))[1]
    assert titles.startswith("Layer (type (var_name):depth-idx) ")


def test_hidden_repetitions_keep_their_macs() -> None:
    options = {"col_names": ("num_params", "mult_adds")}
    shown = quiet(tm.SimpleRNN(), (2, 3), **options)
    hidden = quiet(tm.SimpleRNN(), (2, 3), row_settings=("hide_recursive_layers",), **options)
    assert (len(body(shown)), len(body(hidden))) == (9, 3)
    assert len(shown.summary_list) == len(hidden.summary_list) == 9
    assert cells(shown, ColumnSettings.MULT_ADDS)[1] == "80"
    assert cells(hidden, ColumnSettings.MULT_ADDS)[1] == "320"


def test_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    result = summary(nn.Linear(2, 3), verbose=0)
    assert capsys.readouterr().out == ""
    summary(nn.Linear(2, 3), verbose=1)
    assert capsys.readouterr().out == f"{result}\n"
    weights = summary(nn.Linear(2, 3), verbose=2, col_names=("kernel_size", "num_params"))
    assert capsys.readouterr().out == f"{weights}\n"
    assert [line.split() for line in body(weights)] == [
        ["Linear", "--", "9"],
        ["├─weight", "[2,", "3]", "├─6"],
        ["├─bias", "[3]", "└─3"],
    ]
    assert str(summary(nn.Linear(2, 3), verbose=Verbosity.QUIET)) == str(result)


def test_an_interactive_interpreter_prints_nothing_by_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    summary(nn.Linear(2, 3))
    assert "Linear" in capsys.readouterr().out
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    summary(nn.Linear(2, 3))
    assert capsys.readouterr().out == ""


def test_keyword_arguments_reach_the_forward() -> None:
    def rows(**kwargs: Any) -> list[str]:
        result = quiet(tm.ModuleDictModel(), input_data=torch.zeros(1, 10, 3, 3), **kwargs)
        return [row.class_name for row in result.summary_list if row.is_leaf_layer]

    assert rows(layer_type="conv", activation_type="lrelu") == ["Conv2d", "LeakyReLU"]
    assert rows(layer_type="pool", activation_type="prelu") == ["MaxPool2d", "PReLU"]


# ------------------------------------------------------------------------ units


def footer(result: ModelStatistics) -> list[str]:
    rules = [index for index, line in enumerate(lines(result)) if set(line) == {"="}]
    return [line for line in lines(result)[rules[2] :] if set(line) != {"="}]


def test_units_are_settings_of_the_result() -> None:
    result = quiet(tm.SingleInputNet(), DIGITS)
    assert footer(result)[0] == "Total params: 21,840"
    assert footer(result)[3:5] == ["Total mult-adds (M): 7.69", "Input size (MB): 0.05"]
    assert footer(result)[6] == "Params size (MB): 0.09"
    result.formatting.macs_units = Units.NONE
    result.formatting.params_size_units = Units.KILOBYTES
    result.formatting.params_count_units = Units.KILOBYTES
    assert footer(result)[0] == "Total params (k): 21.84"
    assert footer(result)[3:5] == ["Total mult-adds: 7,688,000", "Input size (kB): 50.18"]
    result.formatting.macs_units = "T"
    result.formatting.params_units = "M"  # the name of 1.8.0
    assert footer(result)[0] == "Total params (M): 0.02"
    assert footer(result)[3] == "Total mult-adds (T): 0.00"
    result.formatting.params_size_units = "auto"
    assert footer(result)[4] == "Input size (MB): 0.05"


def test_other_settings_act_too() -> None:
    result = quiet(nn.Sequential(nn.Linear(2, 2)), (1, 2))
    result.formatting.max_depth = 0
    result.formatting.col_names = ("num_params",)
    result.formatting.ascii_only = True
    assert [line.split() for line in body(result)] == [["Sequential", "6"]]


@pytest.mark.parametrize(
    ("number", "text", "with_bytes"),
    [(0, " (M): 0", " (MB): 0.00"), (999, " (M): 0.00", " (MB): 0.00"),
     (123_456, " (M): 0.12", " (MB): 0.12"), (5_000_000, " (M): 5", " (MB): 5.00"),
     (2_500_000_000, " (G): 2.50", " (GB): 2.50"), (4 * 10**15, " (T): 4,000", " (TB): 4000.00")],
)  # fmt: skip
def test_a_number_takes_the_unit_that_fits(number: int, text: str, with_bytes: str) -> None:
    assert ModelStatistics.format_output_num(number, Units.AUTO, False) == text
    assert ModelStatistics.format_output_num(number, Units.AUTO, True) == with_bytes


def test_conversions() -> None:
    assert ModelStatistics.float_to_megabytes(250_000) == 1.0
    assert ModelStatistics.to_megabytes(1_500_000) == 1.5
    assert ModelStatistics.to_readable(2_000_000) == (Units.MEGABYTES, 2.0)
    assert ModelStatistics.to_readable(2_000_000, "G") == (Units.GIGABYTES, 0.002)
