"""Work outside torch: each way in which a tensor leaves is seen, everyday reads are not."""

from __future__ import annotations

import ctypes
import json
import math
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import torchgauge as tg
from torchgauge.cli.main import main
from torchgauge.facts.trace import OUTSIDE
from torchgauge.trace.record.outside import OutsideWork

BATCH, WIDTH = 4, 16


class Layer(nn.Module):
    """A linear layer; subclasses say what comes before it."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(WIDTH, WIDTH)
        self.table = np.ones((WIDTH, WIDTH), dtype=np.float32)
        self.settings = SimpleNamespace(tables=[np.eye(WIDTH, dtype=np.float32)])
        self.register_buffer("basis", torch.ones(WIDTH, WIDTH))
        self.register_buffer("lengths", torch.tensor([4, 3, 2, 1]))

    def forward(self, x):
        return self.fc(self.before(x.detach()))

    def before(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


def layer(before: Any) -> nn.Module:
    return type(before.__name__, (Layer,), {"before": before})()


# ---------------------------------------------------------------------------- what is seen


def product(self, x):
    return torch.from_numpy(x.numpy() @ self.basis.numpy())


def asarray(self, x):
    return torch.as_tensor(np.sin(np.asarray(x)))


def inverse(self, x):
    return x @ torch.as_tensor(np.linalg.pinv(self.basis))


def from_dlpack(self, x):
    return torch.from_numpy(np.from_dlpack(x.contiguous()) * 2)


def to_dlpack(self, x):
    return torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(x))


def loop_over_list(self, x):
    return torch.tensor([[math.sin(value) for value in row] for row in x.tolist()])


def loop_over_items(self, x):
    out = torch.empty_like(x)
    for row in range(len(x)):
        for column in range(WIDTH):
            out[row, column] = math.sin(x[row, column].item())
    return out


def loop_over_floats(self, x):
    return x * math.fsum(float(value) for row in x for value in row)


def address(self, x):
    y = x.clone()
    ctypes.memset(y.data_ptr(), 0, y.numel() * 4)
    return y


def address_of_storage(self, x):
    y = x.clone()
    ctypes.memset(y.untyped_storage().data_ptr(), 0, 64)
    return y


def function_of_each(self, x):
    return x.clone().apply_(math.sin)


def known_values(self, x):
    return x * float(np.cumsum(self.lengths.cpu().numpy())[-1])


def known_values_where_they_are(self, x):
    return x * float(np.cumsum(self.lengths.numpy())[-1])


def computed_table(self, x):
    angles = np.arange(len(x))[:, None] / np.power(1e4, np.arange(WIDTH) / WIDTH)
    return x + torch.from_numpy(np.sin(angles)).float()


SEEN = [
    product, asarray, inverse, from_dlpack, to_dlpack, loop_over_list, loop_over_items,
    loop_over_floats, address, address_of_storage, function_of_each, known_values,
    known_values_where_they_are, computed_table,
]  # fmt: skip


@pytest.mark.parametrize("before", SEEN, ids=lambda before: before.__name__)
def test_work_outside_torch_is_listed(before):
    report = tg.analyze(layer(before), (BATCH, WIDTH))
    entries = [entry for entry in report.not_counted if entry.op.startswith(OUTSIDE)]
    assert entries
    line = before.__code__.co_firstlineno
    places = [entry.op.rpartition(":")[2] for entry in entries]
    assert all(line < int(place) < line + 7 for place in places), entries
    assert all("test_outside_torch.py" in entry.op for entry in entries)
    assert f"{len(report.not_counted)} not counted" in str(report)


# ---------------------------------------------------------------------------- what is no work


def constant_table(self, x):
    return x @ torch.from_numpy(self.table)


TABLES = {"eye": np.eye(WIDTH, dtype=np.float32)}


def table_of_the_file(self, x):
    return x @ torch.as_tensor(TABLES["eye"])


def from_elsewhere(array):
    return torch.from_numpy(array)


def table_in_a_setting(self, x):
    return x @ from_elsewhere(self.settings.tables[0])


def scaled_by_a_number(self, x):
    return x / np.sqrt(x.shape[-1])


def read_a_threshold(self, x):
    return x if x.abs().max().item() < 1e9 else x * 2


def read_lengths(self, x):
    return torch.cat([x[:n] for n in self.lengths.tolist()])[:BATCH]


def split_by_lengths(self, x):
    lengths = [int(length) for length in self.lengths[2:]]
    return torch.cat(x[: sum(lengths)].split(lengths))


def checked(self, x):
    assert not torch.isnan(x).any()
    return x


def constants(self, x):
    return x * torch.tensor([1.0] * WIDTH) * torch.as_tensor(2.0)


NOT_SEEN = [
    constant_table, table_of_the_file, table_in_a_setting, scaled_by_a_number, read_a_threshold,
    read_lengths, split_by_lengths, checked, constants,
]  # fmt: skip


@pytest.mark.parametrize("before", NOT_SEEN, ids=lambda before: before.__name__)
def test_everyday_reads_are_no_work(before):
    report = tg.analyze(layer(before), (BATCH, WIDTH))
    assert report.not_counted == ()


# ---------------------------------------------------------------------------- where it happens


class Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.y = np.tanh(x.detach().numpy())
        return torch.from_numpy(ctx.y)

    @staticmethod
    def backward(ctx, gradient):
        return torch.from_numpy(gradient.numpy() * (1 - ctx.y**2))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return torch.from_numpy(np.multiply(gradient.numpy(), 2))


class After(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.fc, self.function = nn.Linear(WIDTH, WIDTH), function

    def forward(self, x):
        return self.function(self.fc(x))


class Hooked(After):
    def __init__(self):
        super().__init__(None)

    def forward(self, x):
        y = self.fc(x)
        y.register_hook(lambda gradient: torch.from_numpy(gradient.numpy().clip(-1, 1)))
        return y


@pytest.mark.parametrize(
    ("model", "backward"),
    [(After(Tanh.apply), [False, True]), (After(Doubled.apply), [True]), (Hooked(), [True])],
    ids=["function", "backward alone", "hook"],
)
def test_the_backward_of_such_work_is_listed_too(model, backward):
    report = tg.analyze(model, (BATCH, WIDTH), scenario=tg.Scenario(mode="training"))
    assert [entry.op.endswith("(backward)") for entry in report.not_counted] == backward


class Descent(torch.optim.Optimizer):
    """Updates in numpy."""

    def __init__(self, parameters):
        super().__init__(parameters, {})

    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            array = parameter.detach().numpy()
            array -= 0.1 * parameter.grad.numpy()


def test_the_optimizers_and_the_losss_are_listed_as_theirs():
    def loss(output):
        return (output - torch.from_numpy(np.tanh(output.detach().numpy()))).mean()

    report = tg.analyze(
        nn.Linear(WIDTH, WIDTH),
        (BATCH, WIDTH),
        loss=loss,
        scenario=tg.Scenario(mode="training", optimizer=f"{__name__}:Descent"),
    )
    places = [entry.op.partition(" at ")[0] for entry in report.not_counted]
    assert places == ["outside torch in the loss", *["outside torch in the optimizer"] * 2]


@pytest.mark.parametrize("optimizer", ["adamw", "asgd", "torch.optim:Adafactor"])
def test_what_pytorchs_optimizers_read_is_no_work(optimizer):
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(8)))
    scenario = tg.Scenario(mode="training", optimizer=optimizer)
    assert tg.analyze(model, (2, 8), scenario=scenario).not_counted == ()


def test_the_layer_is_named():
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), layer(product))
    (entry,) = tg.analyze(model, (BATCH, WIDTH)).not_counted
    assert entry.op.startswith("outside torch in 1 at ")
    assert entry.calls == 2  # its argument and its buffer
    assert ".numpy() took a tensor out of torch" in entry.why


def test_what_is_written_into_an_array_is_a_value_of_the_tensor():
    def filled(self, x):
        self.lengths.numpy()[:] = 2
        return x[: self.lengths.sum().item() // 2]

    report = tg.analyze(layer(filled), (BATCH, WIDTH))
    assert report.execution == "simulated"
    assert report.outputs[0].tensor.shape == (BATCH, WIDTH)


def test_a_library_is_named_by_the_line_that_calls_it():
    image = pytest.importorskip("PIL.Image")

    def resized(self, x):
        picture = image.fromarray(np.asarray(x)).resize((WIDTH, BATCH))
        return torch.as_tensor(np.array(picture))

    (entry,) = tg.analyze(layer(resized), (BATCH, WIDTH)).not_counted
    assert "test_outside_torch.py" in entry.op


def test_nothing_stays_replaced():
    before = {name: getattr(torch.Tensor, name) for name in ("numpy", "tolist", "data_ptr")}
    own = set(vars(torch.Tensor)), torch.from_numpy
    tg.analyze(layer(product), (BATCH, WIDTH))
    assert own == (set(vars(torch.Tensor)), torch.from_numpy)
    assert all(getattr(torch.Tensor, name) is method for name, method in before.items())


def test_strict_sees_it(tmp_path, monkeypatch, capsys):
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Linear):\n"
        "    def __init__(self):\n"
        "        super().__init__(8, 8)\n"
        "    def forward(self, x):\n"
        "        return super().forward(torch.from_numpy(x.detach().numpy() * 2))\n"
    )
    monkeypatch.chdir(tmp_path)
    command = ["summary", "net.py:Net", "--input-size", "8", "--batch-size", "2"]
    assert main([*command, "--strict", "--format", "json"]) != 0
    printed = capsys.readouterr()
    assert "not counted: outside torch in the model itself at net.py:6" in printed.err
    assert json.loads(printed.out)["not_counted"][0]["op"].startswith(OUTSIDE)


class _Recorder:
    """What ``OutsideWork`` asks a recorder for."""

    phase, simulation, calls = "forward", None, ()

    def __init__(self):
        self.python = type("Python", (), {})()

    def current_call(self):
        return -1


@pytest.mark.parametrize(
    ("module", "document", "listed"),
    [
        ("extension", "twice(arg0: torch.Tensor) -> torch.Tensor", True),
        ("torch._C._nn", "gelu(input: Tensor) -> Tensor", False),
        ("tokenizer", "encode(text: str) -> list", False),
    ],
)
def test_compiled_functions_that_take_tensors_are_listed(module, document, listed):
    def function():
        """Stand for what pybind11 made."""

    function.__module__, function.__doc__ = module, document
    work = OutsideWork(_Recorder())
    work._note_compiled(function, sys._getframe())
    entries = work.not_counted()
    assert len(entries) == listed
    assert all("extension.function" in entry.why for entry in entries)


def test_a_number_in_a_message_needs_no_real_run(capsys):
    def told(self, x):
        print(f"mean {x.mean():.3f}, lengths {self.lengths.sum():d}, {(x > 0).sum():4d} positive")
        return x

    report = tg.analyze(layer(told), (BATCH, WIDTH))
    assert report.execution == "simulated"
    assert capsys.readouterr().out.splitlines()[0] == "mean nan, lengths 10,    0 positive"
    (said,) = [text for text in report.assumptions if "written as text" in text]
    assert "test_outside_torch.py" in said
