"""``torchgauge.compat.torchinfo``: rows, errors, the cache, what crashes the original."""

from __future__ import annotations

import importlib
import pickle
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

sys.path.insert(0, str(Path(__file__).parent))
import torchinfo_models as tm

from torchgauge.compat import torchinfo
from torchgauge.compat.torchinfo import ModelStatistics, summary
from torchgauge.compat.torchinfo.layer_info import LayerInfo
from torchgauge.errors import ModelError
from torchgauge.facts.codec.wire import to_json
from untouched import Talks

DIGITS = (16, 1, 28, 28)


def quiet(*args: Any, **kwargs: Any) -> ModelStatistics:
    return summary(*args, verbose=0, **kwargs)


# ------------------------------------------------------------------------ rows


def test_attributes_of_a_row() -> None:
    model = tm.SingleInputNet()
    row = quiet(model, DIGITS).summary_list[1]
    assert row.module is model.conv1, "the user's own module"
    assert row.layer_id == id(model.conv1)
    assert (row.var_name, row.class_name) == ("conv1", "Conv2d")
    assert (row.depth, row.depth_index) == (1, 1)
    assert (row.is_leaf_layer, row.is_recursive, row.executed) == (True, False, True)
    assert row.input_size == [16, 1, 28, 28]
    assert row.output_size == [16, 10, 24, 24]
    assert (row.kernel_size, row.groups) == ([5, 5], 1)
    assert (row.num_params, row.trainable_params, row.param_bytes) == (260, 260, 1040)
    assert row.output_bytes == 16 * 10 * 24 * 24 * 4
    assert row.macs == 16 * 10 * 24 * 24 * 25
    assert row.trainable == "True"
    assert list(row.inner_layers) == ["weight", "bias"]
    assert row.contains_lazy_param is False
    assert repr(row) == "Conv2d: 1"
    assert row.num_params_to_str(reached_max_depth=False) == "260"
    assert row.macs_to_str(reached_max_depth=False) == "2,304,000"
    assert row.params_percent(21_840, reached_max_depth=False) == "  1.19%"
    assert row.get_layer_name(True, True) == "Conv2d (conv1): 1-1"


def test_a_row_is_connected_with_those_above_and_below() -> None:
    rows = quiet(tm.InsideModel(), (5, 2)).summary_list
    root, first, inside, inner = rows
    assert root.children == [first, inside, inner]
    assert inside.children == [inner]
    assert (root.parent_info, inner.parent_info) == (None, inside)
    assert root.leftover_params() == 2
    assert inside.leftover_params() == inside.leftover_trainable_params() == 1
    assert root.num_params == 8


def test_a_container_has_the_macs_of_its_call() -> None:
    root, *leaves = quiet(tm.LinearModel(), (2, 128)).summary_list
    assert root.macs == sum(row.macs for row in leaves if row.is_leaf_layer) == 2 * 32_896
    assert root.own_macs == 0
    assert root.macs_to_str(reached_max_depth=False) == "--"
    assert root.macs_to_str(reached_max_depth=True) == "65,792"


def test_all_shapes_of_a_row() -> None:
    rows = quiet(tm.LSTMNet(), (1, 100)).summary_list
    assert rows[2].output_size == [1, 100, 512], "the table has one"
    assert rows[2].output_sizes == {
        "0": [1, 100, 512],
        "1.0": [2, 100, 512],
        "1.1": [2, 100, 512],
    }
    assert rows[2].input_sizes == {"input": [1, 100, 300]}
    rows = quiet(tm.ReturnDict(), [(1, 1, 28, 28), (1, 12)]).summary_list
    assert rows[0].output_size == [1, 10], "of a dict the last value"
    assert list(rows[0].output_sizes) == ["conv1", "conv2", "output"]


def test_a_container_that_is_never_called_is_listed_above_its_first_layer() -> None:
    rows = quiet(tm.ContainerModule(), (1, 5)).summary_list
    assert [(row.depth, row.class_name) for row in rows[:5]] == [
        (0, "ContainerModule"), (1, "ModuleList"), (2, "Linear"), (2, "ContainerChildModule"),
        (3, "Sequential"),
    ]  # fmt: skip
    assert (rows[1].executed, rows[1].output_size) == (False, [])


def test_each_place_of_a_container_is_a_row_of_its_own() -> None:
    rows = quiet(tm.SharedModuleInNestedList(), (1, 4)).summary_list
    lists = [row for row in rows if row.class_name == "ModuleList" and row.depth == 3]
    assert [row.is_recursive for row in lists] == [False, True] * 3
    assert [row.depth_index for row in lists] == [1, 3, 5, 7, 9, 11]


def test_a_module_that_one_holds_repeatedly_stands_at_its_last_place() -> None:
    rows = quiet(tm.ReuseLinearExtended(), (2, 10)).summary_list
    assert [row.depth for row in rows if row.class_name == "Linear"] == [2] * 4
    assert [row.var_name for row in rows if row.class_name == "Linear"] == ["6"] * 4


def test_lazy_parameters() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.ReLU())
    listed = quiet(model)
    assert listed.total_params == 0
    assert listed.summary_list[1].contains_lazy_param
    ran = quiet(model, (3, 5))
    assert ran.total_params == 24
    assert ran.summary_list[1].class_name == "Linear", "what it becomes"
    assert type(model[0]) is nn.LazyLinear, "and still is not"
    assert quiet(tm.UninitializedParameterModel(), (2, 2)).total_params == 128


def test_kernel_sizes() -> None:
    kernel = LayerInfo.get_kernel_size
    assert kernel(nn.Conv2d(1, 1, (3, 5))) == [3, 5]
    assert kernel(nn.MaxPool2d(2)) == 2
    assert kernel(nn.Linear(1, 1)) is None
    assert kernel(tm.TensorKernelSizeConv()) == 3
    odd = nn.Identity()
    odd.kernel_size = [torch.tensor(3), np.int64(5)]  # type: ignore[assignment]
    assert kernel(odd) == [3, 5]
    odd.kernel_size = "same"  # type: ignore[assignment]
    assert kernel(odd) is None


def test_existing_hooks_run() -> None:
    model = tm.ReuseLinearExtended()
    plain = str(quiet(model, (2, 10)))
    model.linear.register_forward_hook(lambda module, args, output: output + 0)
    model.linear.register_forward_pre_hook(lambda module, args: (args[0] + 0,))
    assert str(quiet(model, (2, 10))).splitlines()[:-6] == plain.splitlines()[:-6]
    model.model.register_forward_hook(lambda module, args, output: output[:1])
    assert quiet(model, (2, 10)).summary_list[0].output_size == [1, 10]


def test_a_module_dict_with_a_forward_of_its_own_is_a_layer() -> None:
    class Steps(nn.ModuleDict):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for step in self.values():
                x = step(x)
            return x

    result = quiet(nn.Sequential(Steps({"a": nn.Linear(3, 4), "b": nn.ReLU()})), (2, 3))
    assert result.summary_list[1].output_size == [2, 4]
    assert result.report.modules["0"].calls[0].outputs[0].tensor.shape == (2, 4)


# ------------------------------------------------------------------------ result


def test_the_report_comes_along() -> None:
    result = quiet(tm.SingleInputNet(), DIGITS)
    assert result.report.totals.params == 21_840
    assert result.report.scenario.mode == "training"
    assert quiet(tm.SingleInputNet(), DIGITS, mode="eval").report.scenario.mode == "inference"
    assert quiet(tm.SingleInputNet()).report.totals.params == 21_840


def test_str_and_repr_are_the_table() -> None:
    result = quiet(tm.SingleInputNet(), DIGITS)
    assert str(result) == repr(result) == f"{result}"
    assert str(result).startswith("=" * 90 + "\nLayer (type:depth-idx) ")


def test_names_and_submodules_of_the_original() -> None:
    package = "torchgauge.compat.torchinfo"
    expected = {
        package: ("summary", "clear_cached_forward_pass", "ModelStatistics", "ColumnSettings",
                  "RowSettings", "Mode", "Units", "Verbosity", "__version__"),
        f"{package}.torchinfo": ("summary", "clear_cached_forward_pass"),
        f"{package}.enums": ("ColumnSettings", "RowSettings", "Mode", "Units", "Verbosity"),
        f"{package}.formatting": ("HEADER_TITLES", "FormattingOptions"),
        f"{package}.layer_info": ("LayerInfo",),
        f"{package}.model_statistics": ("ModelStatistics",),
    }  # fmt: skip
    for module, names in expected.items():
        assert all(hasattr(importlib.import_module(module), name) for name in names)


# ------------------------------------------------------------------------ the cache


def test_the_cache_goes_by_the_name_of_the_class() -> None:
    small, large = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    first = quiet(small, (1, 2), cache_forward_pass=True)
    assert len(quiet(large, (1, 2), cache_forward_pass=True).summary_list) == 2, "as it was kept"
    again = quiet(small, (1, 2), cache_forward_pass=True, col_names=("num_params",))
    assert again.summary_list is first.summary_list
    assert again.total_mult_adds == first.total_mult_adds
    assert len(quiet(large, (1, 2)).summary_list) == 3, "without the cache, what is there"
    torchinfo.clear_cached_forward_pass()
    assert len(quiet(large, (1, 2), cache_forward_pass=True).summary_list) == 3
    torchinfo.clear_cached_forward_pass()


def test_nothing_is_kept_unasked() -> None:
    quiet(nn.Sequential(nn.Linear(2, 2)), (1, 2))
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert len(quiet(model, (1, 2), cache_forward_pass=True).summary_list) == 3
    torchinfo.clear_cached_forward_pass()


# ------------------------------------------------------------------------ errors


def error_of(error: type[Exception], **given: Any) -> str:
    with pytest.raises(error) as caught:
        quiet_or_not = {"verbose": 0, **given}
        summary(tm.IdentityModel(), **quiet_or_not)
    return str(caught.value)


def test_what_makes_no_sense_is_said_as_in_the_original() -> None:
    assert error_of(ValueError, verbose=4) == (
        "Verbose must be either 0 (quiet), 1 (default), or 2 (verbose)."
    )
    assert error_of(ValueError, col_width=0) == ("Column width must be greater than 0: col_width=0")
    assert error_of(ValueError, input_size=(1,), col_names=("nonsense",)) == (
        "'nonsense' is not a valid ColumnSettings"
    )
    assert error_of(ValueError, row_settings=("nonsense",)) == (
        "'nonsense' is not a valid RowSettings"
    )
    assert error_of(ValueError, mode="nonsense") == "'nonsense' is not a valid Mode"
    assert error_of(ValueError, col_names=("output_size",)).startswith(
        "You must pass input_data or input_size in order to use columns: {"
    )
    assert error_of(RuntimeError, input_size=(1,), input_data=torch.zeros(1)) == (
        "Only one of (input_data, input_size) should be specified."
    )
    assert error_of(TypeError, input_size="hello").startswith(
        "Input_size is not a recognized type. Please ensure input_size is valid.\n"
    )
    assert error_of(TypeError, input_size={0: 1}).startswith("Input_size is not")
    for size in ([(3, 0)], (2, -1), [], ()):
        assert error_of(ValueError, input_size=size) == (
            "Input_data is invalid, or negative size found in input_data."
        )
    assert "nonsense" in error_of(RuntimeError, device="nonsense")


def test_a_class_is_no_model() -> None:
    with pytest.raises(TypeError, match=r"Linear is a class, not a model\n  try: create one"):
        summary(nn.Linear, (1, 2))  # type: ignore[arg-type]


def test_a_failure_names_the_layer_and_keeps_the_table() -> None:
    with pytest.raises(RuntimeError) as caught:
        quiet(tm.EdgeCaseModel(throw_error=True), (5, 1, 28, 28))
    error = caught.value
    text = str(error)
    name = "LayerWithAnUncommonlyLongNameThatDoesNothing"
    assert text.startswith(
        "Failed to run torchinfo. See above stack traces for more details. "
        f"Executed layers up to: [Conv2d: 1, {name}: 1, Identity: 2]\n"
        "conv1 (Conv2d) failed in forward: RuntimeError: "
    )
    assert "try: Conv2d takes 1 channels, got 10" in text
    assert isinstance(error, ModelError)
    assert isinstance(error.__cause__, ModelError)
    assert isinstance(error.__cause__.__cause__, RuntimeError), "the model's own"
    assert error.report.failure.path == "conv1"
    rows = error.statistics.summary_list
    assert [row.executed for row in rows] == [False, True, True, True, False]
    assert rows[-1].input_size == [5, 10, 24, 24]
    assert "[5, 10, 24, 24]" in str(error.statistics)
    assert "Conv2d: 1-3" in str(error.statistics)


# ------------------------------------------------------------------------ crashes of the original


class Returns(nn.Module):
    """Returns what a function makes of its input, which goes through a layer first."""

    def __init__(self, make: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.make = make

    def forward(self, x: torch.Tensor) -> Any:
        return self.make(self.linear(x))


OUTPUTS: dict[str, tuple[Callable[[torch.Tensor], Any], list[int]]] = {
    "none": (lambda x: None, []),
    "text": (lambda x: "done", []),
    "number": (lambda x: 3, []),
    "class": (lambda x: nn.Linear, []),
    "object": (lambda x: types.SimpleNamespace(x=x), []),
    "empty tuple": (lambda x: (), []),
    "empty dict": (lambda x: {}, []),
    "nested": (lambda x: ((x, x[:1]), None), [2, 3]),
    "none first": (lambda x: (None, x), []),
    "dict": (lambda x: {"a": x[:1], "b": x}, [2, 3]),
    "dict in a dict": (lambda x: {"a": {"b": x[:1], "c": x}}, [1, 3]),
    "dict in a list": (lambda x: [{"b": x[:1], "c": x}], [1, 3]),
    "normal": (lambda x: torch.distributions.Normal(x, x.exp()), [2, 3]),
    "categorical": (lambda x: torch.distributions.Categorical(logits=x), [2]),
    "scalar": (lambda x: x.sum(), []),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_any_output_is_fine(name: str) -> None:
    make, size = OUTPUTS[name]
    result = quiet(Returns(make), (2, 3))
    assert result.summary_list[0].output_size == size
    assert result.total_mult_adds == 18


def test_text_between_layers() -> None:
    for settings in ({"return_str": True}, {"return_class": True}):
        assert quiet(tm.EdgeCaseModel(**settings), (5, 1, 28, 28)).total_params == 260


def test_packed_sequences_and_their_lengths() -> None:
    lengths = torch.tensor([13, 12, 11, 4])
    data = torch.ones(20, 4, dtype=torch.long)
    result = quiet(tm.PackPaddedLSTM(), input_data=data, lengths=lengths)
    assert result.summary_list[2].output_size == [40, 32], "40 steps in all"
    assert result.total_mult_adds == 40 * 4 * 32 * (128 + 32) + 4 * 32 * 18
    assert result.total_input == 20 * 4 * 8 + 4 * 8


def test_a_packed_sequence_is_one_input() -> None:
    packed = pack_sequence([torch.ones(3, 4), torch.ones(2, 4)])
    for data in (packed, [packed], {"input": packed}):
        result = quiet(nn.LSTM(4, 5), input_data=data)
        assert result.summary_list[0].output_size == [5, 5], "5 steps in all"
        assert result.total_mult_adds == 5 * (4 + 5) * 4 * 5
    assert quiet(nn.LSTM(4, 5), input_data=packed).input_size == torch.Size([5, 4])


def test_arrays_as_input() -> None:
    data = np.ones((2, 3), dtype=np.float32)
    assert quiet(nn.Linear(3, 3), input_data=data).input_size == torch.Size([2, 3])
    result = quiet(tm.NumpyModel(), input_data=data)
    assert result.summary_list[0].output_size == [2, 3]
    assert result.total_input == 24
    assert quiet(tm.NumpyModel(), input_data={"inp": data}).total_input == 24
    assert quiet(tm.NumpyModel(), input_data=[data]).total_mult_adds == 18


def test_nested_and_odd_values() -> None:
    assert quiet(tm.HighlyNestedDictModel(), input_data=torch.ones(10)).summary_list[
        0
    ].output_size == [10]
    assert quiet(tm.EdgecaseInputOutputModel(), input_data=[{}]).total_params == 4
    point = tm.NamedTuple.Point((2, 1), (2, 1))
    named = quiet(tm.NamedTuple(), [(2, 1), (2, 1)], z=point)
    assert named.summary_list[0].output_size == [2, 1]


def test_a_scalar_as_input() -> None:
    result = quiet(nn.Identity(), input_data=torch.tensor(1.0))
    assert result.input_size == torch.Size([])
    assert "Total mult-adds (M): 0" in str(result), "it ran, so the costs are shown"


def test_wrapped_models_show_the_wrapper() -> None:
    for model in (
        torch.compile(tm.LinearModel(), backend="eager"),
        nn.DataParallel(tm.LinearModel()),
    ):
        result = quiet(model, (4, 128))
        assert [row.class_name for row in result.summary_list[:3]] == [
            type(model).__name__,
            "LinearModel",
            "Sequential",
        ]
        assert result.summary_list[0].output_size == [4, 1]
        assert result.total_params == 33_153


def test_models_without_weights_and_on_several_devices() -> None:
    with torch.device("meta"):
        model = tm.SingleInputNet()
    assert quiet(model, DIGITS).total_mult_adds == 7_688_000
    assert model.conv1.weight.is_meta
    assert quiet(tm.MultiDeviceModel("cpu", "meta"), (1, 10)).total_params == 165


def test_a_device_that_is_not_here_is_no_error() -> None:
    model = tm.SingleInputNet()
    for device in ("cuda", "cuda:3", torch.device("mps")):
        assert quiet(model, DIGITS, device=device).total_params == 21_840
    assert model.conv1.weight.device.type == "cpu"


def test_scripted_models() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(tm.LinearModel())
        half = tm.PartialJITModel()
        listed, ran = quiet(scripted), quiet(scripted, (64, 128))
        plain = quiet(tm.LinearModel(), (64, 128))
        partial = quiet(half, (2, 1, 28, 28))
    assert len(listed.summary_list) == len(ran.summary_list) == len(plain.summary_list)
    assert ran.total_mult_adds == plain.total_mult_adds
    assert [row.var_name for row in partial.summary_list[1:]] == [
        "conv1", "conv2", "conv2_drop", "fc1", "fc2",
    ]  # fmt: skip
    assert partial.total_params == 21_840


def test_a_module_that_contains_itself() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    model[0].parent = model
    assert quiet(model, (1, 3)).total_params == 12
    assert len(quiet(model).summary_list) == 2


def test_an_exported_program() -> None:
    program = torch.export.export(nn.Linear(3, 4), (torch.ones(2, 3),))
    assert quiet(program, (2, 3)).total_mult_adds == 24


def test_quantized_layers_have_their_weights() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 16)), {nn.Linear})
        result = quiet(model, (1, 8))
    assert (result.total_params, result.total_mult_adds) == (144, 128)
    assert result.total_param_bytes == 8 * 16 + 16 * 4


# ------------------------------------------------------------------------ side effects


def test_the_model_is_left_alone() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5))
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    for mode in ("train", "eval", "same"):
        quiet(model, (4, 1, 8, 8), mode=mode, device="cuda")
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model] == [True, False, True]
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_model_that_prints_is_heard_once(mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    quiet(Talks(), (2, 4), mode=mode)
    assert capsys.readouterr().out == "seen (2, 4)\n"


# ------------------------------------------------------------------------ nested tensors


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.first(x)))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
@pytest.mark.parametrize("given", ["tensor", "list", "mapping"])
def test_nested_inputs_are_shown_by_their_values(given: str, layout: torch.layout) -> None:
    rows = [torch.ones(3, 8), torch.ones(5, 8)]
    nested = torch.nested.nested_tensor(rows, layout=layout)
    data = {"tensor": nested, "list": [nested], "mapping": {"x": nested}}[given]
    statistics = quiet(Encoder(), input_data=data, batch_dim=None)
    first = statistics.summary_list[1]
    assert (first.input_size, first.output_size) == ([8, 8], [8, 8])
    assert statistics.summary_list[3].output_bytes == 8 * 4 * 4
    assert [row.macs for row in statistics.summary_list[1::2]] == [8 * 8 * 8, 8 * 8 * 4]


def test_a_pickled_result_has_its_report() -> None:
    result = quiet(nn.Sequential(nn.Linear(4, 4)), (2, 4))
    loaded = pickle.loads(pickle.dumps(result))
    assert to_json(loaded.report) == to_json(result.report)
    assert str(loaded) == str(result)
