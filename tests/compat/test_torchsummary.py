"""torchsummary's names: layout, closed forms, what every argument does, what crashed before."""

from __future__ import annotations

import doctest
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import torchgauge as tg
from small_models import MODELS
from torchgauge.compat.running import run
from torchgauge.compat.torchsummary import summary, summary_string
from torchgauge.errors import InputError, ModelError, UsageError
from torchgauge.trace.copy.kept_copy import KeptCopies
from torchgauge.trace.copy.meta_copy import ModelCopy
from torchgauge.trace.run import prepared
from untouched import Talks

Printed = pytest.CaptureFixture[str]


class Net(nn.Module):
    """The network of torchsummary's first example."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.conv2_drop = nn.Dropout2d()
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(x)), 2))
        x = x.view(-1, 320)
        x = F.relu(self.fc1(x))
        x = F.dropout(x, training=self.training)
        return F.log_softmax(self.fc2(x), dim=1)


class SimpleConv(nn.Module):
    """The network of torchsummary's example of several inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 1, 3, stride=1, padding=1), nn.ReLU())

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.features(x), self.features(y)


class TwoInputs(nn.Module):
    """Two branches; the second input may be of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1a, self.fc1b = nn.Linear(300, 50), nn.Linear(50, 10)
        self.fc2a, self.fc2b = nn.Linear(300, 50), nn.Linear(50, 10)

    def forward(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        x1 = self.fc1b(F.relu(self.fc1a(x1)))
        x2 = self.fc2b(F.relu(self.fc2a(x2.type(torch.FloatTensor))))
        return F.log_softmax(torch.cat((x1, x2), 0), dim=1)


class Returns(nn.Module):
    """A layer whose output is put into a structure."""

    def __init__(self, put: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.put = nn.Linear(4, 8), put

    def forward(self, x: torch.Tensor) -> Any:
        return self.put(self.layer(x))


class Calls(nn.Module):
    """Calls its layers by a function of its own."""

    def __init__(self, call: Callable[..., Any], **layers: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.call = call

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.call(self, *inputs)


SEEN: list[torch.dtype] = []


def _note_dtypes(model: Any, *inputs: torch.Tensor) -> torch.Tensor:
    SEEN.extend(x.dtype for x in inputs)
    return model.layer(sum(x.float() for x in inputs))


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


def rows(text: str) -> list[tuple[str, str, int]]:
    """Return ``(name, output shape, parameters)`` per row of a table."""
    body = text.split("=" * 64)[1].strip("\n")
    found = []
    for line in body.splitlines():
        match = re.fullmatch(r" *(\S+)  +(\S.*?) +([\d,]+)", line)
        assert match is not None, line
        found.append((match[1], match[2], int(match[3].replace(",", ""))))
    return found


def footer(text: str, name: str) -> str:
    """Return a figure of the footer as it is written."""
    return re.search(rf"^{re.escape(name)}: (.*)$", text, re.MULTILINE)[1]  # type: ignore[index]


# ------------------------------------------------------------------------ layout


def test_the_example_of_its_readme(capsys: Printed, golden: Callable[[str, str], None]) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = Net().to(device)
    summary(model, (1, 28, 28))
    golden("compat/torchsummary_mnist.txt", capsys.readouterr().out.removesuffix("\n"))


def test_the_example_of_several_inputs(capsys: Printed, golden: Callable[[str, str], None]) -> None:
    summary(SimpleConv(), [(1, 16, 16), (1, 28, 28)])
    golden("compat/torchsummary_several_inputs.txt", capsys.readouterr().out.removesuffix("\n"))


def test_the_string_has_a_row_for_the_model(golden: Callable[[str, str], None]) -> None:
    text, _ = summary_string(Net(), (1, 28, 28))
    assert text.endswith("-\n")
    golden("compat/torchsummary_string.txt", text.removesuffix("\n"))


def test_transformer_layout(capsys: Printed, golden: Callable[[str, str], None]) -> None:
    summary(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), (10, 32), batch_size=4)
    golden("compat/torchsummary_transformer.txt", capsys.readouterr().out.removesuffix("\n"))


def test_structures_layout(capsys: Printed, golden: Callable[[str, str], None]) -> None:
    def call(model: Any, x: torch.Tensor) -> Any:
        y, states = model.rnn(x)
        return {"tokens": model.head(y), "states": states, "none": None}

    model = Calls(call, rnn=nn.LSTM(8, 12, batch_first=True), head=nn.Linear(12, 3))
    summary(model, (5, 8))
    # What oneDNN's LSTM takes is not the same in each release of PyTorch.
    lines = [line for line in capsys.readouterr().out.splitlines() if "(MB)" not in line]
    golden("compat/torchsummary_structures.txt", "\n".join(lines))


def test_rows_of_the_example_are_those_of_its_readme(capsys: Printed) -> None:
    summary(Net(), (1, 28, 28))
    assert rows(capsys.readouterr().out) == [
        ("Conv2d-1", "[-1, 10, 24, 24]", 260),
        ("Conv2d-2", "[-1, 20, 8, 8]", 5020),
        ("Dropout2d-3", "[-1, 20, 8, 8]", 0),
        ("Linear-4", "[-1, 50]", 16050),
        ("Linear-5", "[-1, 10]", 510),
    ]


def test_every_line_is_64_wide_unless_a_name_is_longer() -> None:
    text, _ = summary_string(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), (3, 4, 4))
    lines = text.splitlines()
    assert lines[0] == "-" * 64 and lines[2] == "=" * 64
    assert lines[1] == "        Layer (type)               Output Shape         Param #"
    assert lines[3] == " AdaptiveAvgPool2d-1              [-1, 3, 1, 1]               0"
    named = type("ALayerWithAVeryLongName", (nn.Identity,), {})()
    text, _ = summary_string(nn.Sequential(named), (3,))
    assert (
        text.splitlines()[3]
        == "ALayerWithAVeryLongName-1                    [-1, 3]               0"
    )


# ------------------------------------------------------------------------ what it returns


def test_totals_of_the_original_tests() -> None:
    """Facts of sksq96/pytorch-summary, torchsummary/tests/unit_tests/torchsummary_test.py."""
    two = [(1, 300), (1, 300)]
    dtypes = [torch.FloatTensor, torch.LongTensor]
    for total, (all_params, trainable) in (
        (21840, summary(Net(), (1, 28, 28), device="cpu")),
        (31120, summary(TwoInputs(), two, device="cpu")),
        (15, summary(nn.Linear(2, 5), (1, 2), device="cpu")),
        (15, summary(nn.Linear(2, 5), (1, 2), device="cuda:0")),
        (31120, summary(TwoInputs(), two, device="cpu", dtypes=dtypes)),
        (21840, summary_string(Net(), (1, 28, 28), device="cpu")[1]),
    ):
        assert all_params == total and trainable == total
        assert all_params.shape == () and all_params.dtype == torch.int64


def test_trainable_is_decided_per_parameter() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    model[0].bias.requires_grad_(False)
    total, trainable = summary(model, (4,))
    assert (int(total), int(trainable)) == (58, 50)
    text, _ = summary_string(model, (4,))
    assert footer(text, "Trainable params") == "50"
    assert footer(text, "Non-trainable params") == "8"


def test_summary_prints_and_the_string_does_not(capsys: Printed) -> None:
    summary_string(nn.Linear(2, 5), (2,))
    assert capsys.readouterr().out == ""
    summary(nn.Linear(2, 5), (2,))
    assert capsys.readouterr().out.count("\n") == 14


# ------------------------------------------------------------------------ sums


# "packed" is for three sequences, torchsummary runs two
@pytest.mark.parametrize("name", [name for name in MODELS if name != "packed"])
@pytest.mark.parametrize("frozen", [False, True])
def test_rows_sum_to_the_total(name: str, frozen: bool, capsys: Printed) -> None:
    build, size = MODELS[name]
    model = build()
    if frozen:
        model.requires_grad_(False)
    expected = sum(p.numel() for p in model.parameters())
    text, (total, trainable) = summary_string(model, size[1:])
    assert sum(params for _, _, params in rows(text)) == expected == total
    assert trainable == (0 if frozen else expected)
    summary(model, size[1:])
    printed = capsys.readouterr().out
    assert sum(params for _, _, params in rows(printed)) == expected
    assert footer(printed, "Total params") == f"{expected:,}"


def test_a_module_called_twice_has_two_rows_and_counts_once() -> None:
    layer = nn.Linear(4, 4)
    model = Calls(lambda m, x: m.layer(m.layer(x)), layer=layer)
    text, (total, _) = summary_string(model, (4,))
    assert [(name, params) for name, _, params in rows(text)] == [
        ("Linear-1", 20), ("Linear-2", 0), ("Calls-3", 0),
    ]  # fmt: skip
    assert total == 20


def test_tied_weights_count_in_the_first_row() -> None:
    embed, head = nn.Embedding(10, 4), nn.Linear(4, 10)
    head.weight = embed.weight
    model = Calls(lambda m, x: m.head(m.embed(x)), embed=embed, head=head)
    text, (total, _) = summary_string(model, (3,))
    assert [params for _, _, params in rows(text)] == [40, 10, 0]
    assert total == 50


def test_the_model_has_a_row_where_sums_need_it(capsys: Printed) -> None:
    call: Callable[..., Any] = lambda m, x: m.used(x)  # noqa: E731
    plain = Calls(call, used=nn.Linear(4, 4))
    own = Calls(call, used=nn.Linear(4, 4), scale=nn.Parameter(torch.ones(3)))
    unused = Calls(call, used=nn.Linear(4, 4), unused=nn.Linear(2, 2))
    listed = Calls(call, used=nn.Linear(4, 4), unused=nn.ModuleList([nn.Linear(2, 2)]))
    for model, expected in (
        (plain, [("Linear-1", 20)]),
        (own, [("Linear-1", 20), ("Calls-2", 3)]),
        (unused, [("Linear-1", 20), ("Calls-2", 6)]),
        (listed, [("Linear-1", 20), ("Calls-2", 6)]),
        (nn.Linear(4, 4), [("Linear-1", 20)]),
        (nn.Sequential(nn.Linear(4, 4)), [("Linear-1", 20)]),
    ):
        summary(model, (4,))
        printed = rows(capsys.readouterr().out)
        assert [(name, params) for name, _, params in printed] == expected


def test_parameters_of_a_sequential_go_to_the_model() -> None:
    class Scaled(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(4, 4))
            self.scale = nn.Parameter(torch.ones(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * self.scale

    text, (total, _) = summary_string(Scaled(), (4,))
    assert [(name, params) for name, _, params in rows(text)] == [("Linear-1", 20), ("Scaled-2", 4)]
    assert total == 24


def test_what_a_container_leaves_over_is_in_its_row() -> None:
    """The projection of nn.MultiheadAttention is never called: the functional form reads it."""
    model = nn.Sequential(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True))
    text, _ = summary_string(model, (5, 16))
    found = {name.split("-")[0]: params for name, _, params in rows(text)}
    assert found["MultiheadAttention"] == 4 * 16 * 16 + 4 * 16
    assert found["TransformerEncoderLayer"] == 0


# ------------------------------------------------------------------------ arguments


def test_input_size_as_tuple_list_or_size() -> None:
    expected, _ = summary_string(Net(), (1, 28, 28))
    for size in ([1, 28, 28], torch.Size([1, 28, 28]), [(1, 28, 28)], [[1, 28, 28]],
                 ((1, 28, 28),)):  # fmt: skip
        assert summary_string(Net(), size)[0] == expected
    two, _ = summary_string(SimpleConv(), [(1, 16, 16), (1, 28, 28)])
    for sizes in ([[1, 16, 16], [1, 28, 28]], ((1, 16, 16), (1, 28, 28))):
        assert summary_string(SimpleConv(), sizes)[0] == two


def test_input_size_of_a_number_per_sample() -> None:
    model = Calls(lambda m, x: m.embed(x), embed=nn.Embedding(10, 4))
    text, _ = summary_string(model, ())
    assert rows(text)[0][:2] == ("Embedding-1", "[-1, 4]")


def test_inputs_sum_in_the_footer() -> None:
    """torchsummary multiplied them: 0.77 MB in its own example."""
    text, _ = summary_string(SimpleConv(), [(1, 256, 512), (1, 256, 512)])
    assert footer(text, "Input size (MB)") == "1.00"


@pytest.mark.parametrize(("given", "shown", "samples"), [(-1, -1, 1), (2, 2, 2), (64, 64, 64)])
def test_batch_size_is_shown_and_what_sizes_are_for(given: int, shown: int, samples: int) -> None:
    model = Net()
    text, _ = summary_string(model, (1, 28, 28), batch_size=given)
    assert rows(text)[0][1] == f"[{shown}, 10, 24, 24]"
    report = tg.analyze(
        model, (samples, 1, 28, 28), scenario=tg.Scenario(mode="training", optimizer="none")
    )
    assert report.memory is not None
    mebibytes = report.memory.peak_allocated_bytes / 2**20
    assert footer(text, "Estimated Total Size (MB)") == f"{mebibytes:.2f}"
    assert footer(text, "Input size (MB)") == f"{samples * 28 * 28 * 4 / 2**20:.2f}"
    assert footer(text, "Params size (MB)") == f"{21840 * 4 / 2**20:.2f}"


def test_batch_size_changes_the_sizes() -> None:
    sizes = [
        float(footer(summary_string(Net(), (1, 28, 28), batch_size=b)[0],
                     "Forward/backward pass size (MB)"))
        for b in (1, 100)
    ]  # fmt: skip
    assert sizes[1] > 20 * sizes[0]


@pytest.mark.parametrize("batch", [0, None, 1.5])
def test_batch_size_of_nothing(batch: Any) -> None:
    message = rf"batch_size={batch} is not a batch size\n  try: give 1 or more, or -1"
    with pytest.raises(InputError, match=message):
        summary(Net(), (1, 28, 28), batch_size=batch)


def test_batch_size_of_numpy() -> None:
    given = summary_string(Net(), (1, 28, 28), batch_size=np.int64(3))
    assert given == summary_string(Net(), (1, 28, 28), batch_size=3)


def test_device() -> None:
    expected, _ = summary_string(Net(), (1, 28, 28))
    for device in ("cuda", "CUDA", "cpu", "cuda:1", "mps", torch.device("cuda", 3), None):
        assert summary_string(Net(), (1, 28, 28), device=device)[0] == expected
    message = "Input device is not valid, please specify 'cuda' or 'cpu'"
    with pytest.raises(AssertionError, match=message):
        summary(Net(), (1, 28, 28), device="gpu")


def test_dtypes() -> None:
    model = Calls(_note_dtypes, layer=nn.Linear(4, 4))
    for dtypes in (
        [torch.long, torch.half],
        [torch.LongTensor, torch.cuda.HalfTensor],
        ["torch.LongTensor", "half"],
        [torch.long, torch.half, torch.float],
    ):
        SEEN.clear()
        text, _ = summary_string(model, [(4,), (4,)], dtypes=dtypes)
        assert set(SEEN[:2]) == {torch.int64, torch.float16}
    assert text
    with pytest.raises(InputError, match="unknown dtype 'lang'"):
        summary(model, (4,), dtypes=["lang"])
    with pytest.raises(InputError, match="3 inputs"):
        summary(model, [(4,)] * 3, dtypes=[torch.long, torch.long])


def test_dtypes_show_in_the_input_size() -> None:
    text, _ = summary_string(nn.Flatten(), (256, 1024), dtypes=[torch.float64])
    assert footer(text, "Input size (MB)") == "2.00"


def test_integers_for_an_embedding_are_found_out() -> None:
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2))
    text, _ = summary_string(model, (7,))
    assert [shape for _, shape, _ in rows(text)] == ["[-1, 7, 4]", "[-1, 7, 2]"]


def test_the_model_runs_in_its_own_mode() -> None:
    model = Calls(lambda m, x: m.train_only(x) if m.training else m.eval_only(x),
                  train_only=nn.Linear(4, 2), eval_only=nn.Linear(4, 3))  # fmt: skip
    assert rows(summary_string(model, (4,))[0])[0][1] == "[-1, 2]"
    assert rows(summary_string(model.eval(), (4,))[0])[0][1] == "[-1, 3]"


# ------------------------------------------------------------------------ outputs


@pytest.mark.parametrize(
    ("put", "shape"),
    [
        (lambda y: y, "[-1, 8]"),
        (lambda y: (y,), "[[-1, 8]]"),
        (lambda y: [y, y[:, :3]], "[[-1, 8], [-1, 3]]"),
        (lambda y: (y, (y, [y])), "[[-1, 8], [-1, 8], [-1, 8]]"),
        (lambda y: {"out": y, "aux": y[:, :2]}, "[[-1, 8], [-1, 2]]"),
        (lambda y: {"out": {"deep": y}, "none": None}, "[[-1, 8]]"),
        (lambda y: Pair(y, y), "[[-1, 8], [-1, 8]]"),
        (lambda y: (y, None, 3, "text"), "[[-1, 8]]"),
        (lambda y: None, "None"),
        (lambda y: y.mean(), "[]"),
        (lambda y: (y.sum(), y), "[[], [-1, 8]]"),
        (lambda y: y.unflatten(1, (2, 4)).flatten(0, 1), "[-1, 4]"),
        (lambda y: y.T, "[8, -1]"),
        (lambda y: y.mean(0, keepdim=True), "[1, 8]"),
    ],
)
def test_output_shapes(put: Callable[[torch.Tensor], Any], shape: str) -> None:
    text, _ = summary_string(Returns(put), (4,))
    name, shown, params = rows(text)[-1]
    assert (name, shown, params) == ("Returns-2", shape, 0)


def test_recurrent_networks() -> None:
    model = nn.Sequential(nn.LSTM(8, 12, 2, batch_first=True))
    text, _ = summary_string(model, (5, 8))
    states = "[[-1, 5, 12], [2, -1, 12], [2, -1, 12]]"
    assert rows(text) == [("LSTM-1", states, 4 * 12 * (8 + 12 + 2) + 4 * 12 * (12 + 12 + 2))]


def test_packed_sequences() -> None:
    def call(model: Any, x: torch.Tensor) -> torch.Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3]), batch_first=True)
        return nn.utils.rnn.pad_packed_sequence(model.rnn(packed)[0])[0]

    text, (total, _) = summary_string(Calls(call, rnn=nn.GRU(8, 12, batch_first=True)), (5, 8), 2)
    assert total == 3 * 12 * (8 + 12 + 2)
    assert rows(text)[0][0] == "GRU-1"


# ------------------------------------------------------------------------ sizes that need care


def test_sizes_of_a_model_without_backward() -> None:
    for model in (Returns(lambda y: y.argmax(-1)), nn.Sequential(nn.ReLU())):
        text, _ = summary_string(model, (4,))
        assert text.splitlines()[-1] == (
            "Sizes are those of a forward alone: the model has no backward."
        )


def test_sizes_of_a_model_that_cannot_train_on_one_sample() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    assert summary_string(model, (4,))[0].splitlines()[-1] == (
        "Sizes are for a batch of 2: the model cannot train on 1."
    )
    assert summary_string(model, (4,), 2)[0].splitlines()[-1] == "-" * 64


# ------------------------------------------------------------------------ failures, side effects


def test_an_error_is_of_both_kinds() -> None:
    with pytest.raises(ModelError, match=r"1 \(Linear\) failed in forward") as raised:
        summary(nn.Sequential(nn.Linear(4, 8), nn.Linear(9, 2)), (4,))
    assert isinstance(raised.value, RuntimeError)
    assert raised.value.report is not None and len(raised.value.report.modules[""].calls) == 1
    for fails, kind in (
        (lambda y: {}["missing"], KeyError),
        (lambda y: 1 / 0, ZeroDivisionError),
        (lambda y: Path("no such file").read_text(), FileNotFoundError),
        (lambda y: b"\xff".decode(), ModelError),  # its class is made of five values
    ):
        with pytest.raises(kind) as raised:
            summary(Returns(fails), (4,))
        assert isinstance(raised.value, ModelError) and "failed in forward" in str(raised.value)


@pytest.mark.parametrize("what", [nn.Linear, 3, None])
def test_what_is_no_model(what: Any) -> None:
    with pytest.raises(UsageError):
        summary(what, (4,))


@pytest.mark.parametrize("size", [5.5, None, {"x": (4,)}, (4, 0), (4, "a")])
def test_sizes_that_are_none(size: Any) -> None:
    with pytest.raises(InputError):
        summary(nn.Linear(4, 4), size)


def test_the_model_is_not_touched() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout())
    model[2].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rng = torch.get_rng_state()
    summary(model, (4,))
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [m.training for m in model] == [True, True, False]
    assert not any(m._forward_hooks for m in model.modules())
    assert torch.equal(torch.get_rng_state(), rng)


def test_a_model_that_is_larger_than_memory(capsys: Printed) -> None:
    with torch.device("meta"):
        model = nn.Sequential(*[nn.Linear(65536, 65536, bias=False) for _ in range(10)])
    total, _ = summary(model, (65536,))
    assert total == 10 * 65536**2
    assert footer(capsys.readouterr().out, "Params size (MB)") == f"{10 * 65536**2 * 4 / 2**20:.2f}"


def test_its_page() -> None:
    page = Path(__file__).parents[2] / "docs" / "coming-from-torchsummary.md"
    result = doctest.testfile(str(page), module_relative=False)
    assert result.failed == 0 and result.attempted > 4


@pytest.mark.parametrize("batch_size", [-1, 2, 16])
def test_a_model_that_prints_is_heard_once(
    batch_size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    summary_string(Talks(), (4,), batch_size)
    assert capsys.readouterr().out == "seen (2, 4)\n", "as in the original: a batch of two"


class Loops(nn.Module):
    """Goes on for as long as its values say; a simulation does not know them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer(x)
        return self.layer(x) if bool((x * 0).sum() == 0) else x


@pytest.mark.parametrize("build", [Net, Loops], ids=["simulated", "run for real"])
def test_a_run_for_calls_alone_has_the_calls_of_a_whole_one(
    build: type[nn.Module],
) -> None:
    def calls(*, alone: bool) -> list[tuple[Any, ...]]:
        size = (2, 1, 28, 28) if build is Net else (2, 4)
        found = run(build(), [size], training=True, forward_only=True, calls_only=alone)
        return [(call.path, call.inputs, call.outputs) for call in found.calls]

    assert calls(alone=True) == calls(alone=False)


class Writes(nn.Sequential):
    """Layers of PyTorch's in a container whose forward gives it an attribute."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = super().forward(x)
        self.last = y if not hasattr(self, "last") else self.last + y
        return y


def _layers() -> list[nn.Module]:
    conv = nn.Conv2d(3, 8, 3)
    return [conv, nn.BatchNorm2d(8), nn.Sequential(nn.ReLU(inplace=True), nn.Flatten())]


def _hooked() -> nn.Module:
    model = nn.Sequential(*_layers())
    model.register_forward_hook(lambda module, args, output: output * 2)
    return model


@pytest.mark.parametrize(
    ("make", "copies"),
    [
        (lambda: nn.Sequential(*_layers()), 1),
        (lambda: nn.Sequential(*_layers()).eval(), 2),  # sizes are those of the other mode
        (lambda: nn.Conv2d(3, 8, 3), 1),
        (lambda: Writes(*_layers()), 2),
        (_hooked, 2),
    ],
)
def test_runs_share_a_copy_where_only_layers_of_pytorch_run(
    make: Callable[[], nn.Module], copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary_string(make(), (3, 16, 16))  # what is imported on the way is there
    made: list[ModelCopy] = []

    class Noted(ModelCopy):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(prepared, "ModelCopy", Noted)
    model = make()
    text = summary_string(model, (3, 16, 16))
    assert len(made) == copies
    monkeypatch.setattr(KeptCopies, "take", lambda *args: None)
    assert summary_string(model, (3, 16, 16)) == text


def test_a_model_that_fails_is_heard_once(capsys: Printed) -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            print("heard")
            return self.layer(x) @ x

    with pytest.raises(ModelError):
        summary(Fails(), (4,), device="cpu")
    assert capsys.readouterr().out.count("heard") == 1
