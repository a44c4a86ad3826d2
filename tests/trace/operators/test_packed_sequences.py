"""Packed sequences on the CPU: the peak of a real step, to the byte, and what is refused."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import torchgauge as tg
from real_step import memory_profile
from torchgauge.errors import ModelError
from torchgauge.trace.kernels import packed_recurrent
from torchgauge.trace.torch_internals.profiler import memory_changes

_BATCH, _STEPS, _INPUTS, _SIZE = 8, 16, 24, 48
_MIXED = torch.tensor([16, 3, 9, 9, 12, 1, 16, 5])
_EQUAL = torch.full((_BATCH,), _STEPS)


class _Net(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], output: str, **options: Any) -> None:
        super().__init__()
        self.rnn = kind(_INPUTS, _SIZE, **options)
        self.output = output

    def forward(
        self, x: torch.Tensor, lengths: torch.Tensor, enforce_sorted: bool = False
    ) -> torch.Tensor:
        first = self.rnn.batch_first
        packed = pack_padded_sequence(x, lengths.cpu(), first, enforce_sorted)
        output, hidden = self.rnn(packed)
        if self.output == "state":
            return hidden[0] if isinstance(hidden, tuple) else hidden
        padded: torch.Tensor = pad_packed_sequence(output, first)[0]
        return padded


def _measured(net: nn.Module, x: torch.Tensor, lengths: torch.Tensor) -> int:
    """Return the peak of a training step by the profiler's memory events, and what was before."""

    def step() -> None:
        for parameter in net.parameters():
            parameter.grad = None
        output = net(x, lengths)
        loss = output.mean()
        loss.backward()

    step()
    for parameter in net.parameters():
        parameter.grad = None
    before = [*net.parameters(), x, lengths]
    gc.collect()  # what other tests left would be freed in the step
    with memory_profile() as recorded:
        step()
    now = peak = 0
    for _, size in memory_changes(recorded.profiler):
        now += size
        peak = max(peak, now)
    return peak + sum(tensor.numel() * tensor.element_size() for tensor in before)


@pytest.mark.parametrize("lengths", [_MIXED, _EQUAL], ids=["mixed", "equal"])
@pytest.mark.parametrize("output", ["state", "padded"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (nn.LSTM, {"batch_first": True}),
        (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
        (nn.LSTM, {"bias": False}),
        (nn.LSTM, {"proj_size": 10, "num_layers": 2}),
        (nn.GRU, {}),
        (nn.GRU, {"num_layers": 2, "bidirectional": True, "dropout": 0.5}),
        (nn.RNN, {"batch_first": True}),
        (nn.RNN, {"nonlinearity": "relu", "num_layers": 2}),
    ],
)
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_the_peak_of_training(
    kind: type[nn.RNNBase], options: dict[str, Any], output: str, lengths: torch.Tensor
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        net = _Net(kind, output, **options)
        x = torch.randn(_STEPS, _BATCH, _INPUTS)
        if net.rnn.batch_first:
            x = x.transpose(0, 1).contiguous()
        scenario = tg.Scenario(mode="training", optimizer="none")
        report = tg.analyze(net, input_data=(x, lengths), scenario=scenario)
        assert report.execution == "simulated"
        assert report.memory.peak_allocated_bytes == _measured(net, x, lengths)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("output", ["state", "padded"])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_the_macs_are_those_of_the_tokens(kind: type[nn.RNNBase], output: str) -> None:
    gates = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}[kind]
    x = torch.randn(_STEPS, _BATCH, _INPUTS)
    for lengths in (_MIXED, _EQUAL):
        report = tg.analyze(_Net(kind, output), input_data=(x, lengths))
        tokens = int(lengths.sum())
        assert report.totals.forward_macs == tokens * gates * _SIZE * (_INPUTS + _SIZE)


@pytest.mark.parametrize("enforce_sorted", [True, False])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_lengths_by_size_are_full(kind: type[nn.RNNBase], enforce_sorted: bool) -> None:
    net = _Net(kind, "padded", batch_first=True)
    sizes = {"x": (_BATCH, _STEPS, _INPUTS), "lengths": (_BATCH,)}
    report = tg.analyze(net, sizes, enforce_sorted=enforce_sorted)
    assert report.outputs[0].tensor.shape == (_BATCH, _STEPS, _SIZE)
    (stated,) = [text for text in report.assumptions if "packed sequences" in text]
    assert stated == (
        "the length of packed sequences (16 steps each) was decided on an input that was made "
        "from its size alone"
    )
    assert not any("copy on the CPU" in text for text in report.assumptions)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([16, 3, 3, 1, 1, 1, 1, 0], "Length of all samples has to be greater than 0"),
        ([3, 16, 3, 1, 1, 1, 1, 1], "must be sorted in decreasing order"),
    ],
)
def test_lengths_that_pytorch_refuses(lengths: list[int], message: str) -> None:
    net = _Net(nn.GRU, "padded")
    x = torch.randn(_STEPS, _BATCH, _INPUTS)
    with pytest.raises(RuntimeError, match=message):
        net(x, torch.tensor(lengths), True)
    with pytest.raises(ModelError, match=message):
        tg.analyze(net, input_data=(x, torch.tensor(lengths)), enforce_sorted=True)


def test_the_state_alone_of_padded_sequences() -> None:
    """The backward makes zeros for the gradients that there are none of."""

    class States(nn.Module):
        def __init__(self, **options: Any) -> None:
            super().__init__()
            self.rnn = nn.LSTM(_INPUTS, _SIZE, **options)

        def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            state: torch.Tensor = self.rnn(x)[1][0]
            return state

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for options in ({}, {"batch_first": True}, {"bidirectional": True}, {"bias": False}):
            net, x = States(**options), torch.randn(_STEPS, _BATCH, _INPUTS)
            scenario = tg.Scenario(mode="training", optimizer="none")
            report = tg.analyze(net, input_data=(x, _EQUAL), scenario=scenario)
            assert report.memory.peak_allocated_bytes == _measured(net, x, _EQUAL), options
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    "select",
    [
        lambda x: x.index_select(0, torch.arange(50)),
        lambda x: x.gather(1, torch.zeros(100, 10, dtype=torch.int64)),
        lambda x: x[torch.arange(50)],
        lambda x: x.take(torch.arange(50)),
        lambda x: x.max(1)[0],
    ],
)
def test_gradients_of_selections_are_made_in_place(select: Any) -> None:
    class Selects(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(100, 1000))

        def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> Any:
            return select(self.weight)

    net, x = Selects(), torch.randn(1)
    scenario = tg.Scenario(mode="training", optimizer="none")
    report = tg.analyze(net, input_data=(x, _EQUAL), scenario=scenario)
    assert report.memory.peak_allocated_bytes == pytest.approx(_measured(net, x, _EQUAL), rel=0.01)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("total_length", [None, 9])
@pytest.mark.parametrize(
    "lengths", [[1], [5], [5, 5, 5], [7, 3, 3, 1], [7, 7, 1, 1, 1], [4, 3, 2, 1]]
)
def test_lengths_come_back(lengths: list[int], total_length: int | None, batch_first: bool) -> None:
    packed = nn.utils.rnn.pack_sequence([torch.randn(length, 2) for length in lengths])
    real, of_real = nn.utils.rnn.pad_packed_sequence(packed, batch_first, 0.5, total_length)
    ours, of_ours = packed_recurrent.pad_packed_sequence(
        packed.data, packed.batch_sizes, batch_first, 0.5, total_length or 0
    )
    assert torch.equal(real, ours) and torch.equal(of_real, of_ours)


def test_as_many_sequences_as_fit_a_gpu() -> None:
    """A look at each length for each sequence would take minutes."""
    sizes = torch.cat([torch.full((300,), 1_000_000), torch.arange(999_999, 999_299, -1)])
    data = torch.empty((int(sizes.sum()), 1), device="meta")
    output, lengths = packed_recurrent.pad_packed_sequence(data, sizes, True, 0.0)
    assert output.shape == (1_000_000, 1000, 1)
    assert lengths.tolist()[:2] == [1000, 1000] and lengths.tolist()[-2:] == [301, 300]
