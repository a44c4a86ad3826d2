"""Members of the kinds in docs/kinds.md that users who had not seen the fixes found to fail."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import torchgauge as tg
from real_step import predicted_peak, real_peak

TRAINING = tg.Scenario(mode="training", optimizer="none")


def test_edge_weights_that_are_learned():
    """A sparse tensor that needs a gradient: its detach called itself without end."""
    indices = torch.randint(0, 50, (2, 200))

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.rand(200))

        def forward(self, x):
            return torch.sparse_coo_tensor(indices, self.weight, (50, 50)) @ x

    report = tg.analyze(Graph(), (50, 8), scenario=TRAINING)
    assert report.totals.forward_macs == 200 * 8
    assert report.totals.backward_flops == 2 * 50 * 50 * 8  # computed densely, then masked


JAGGED = """
import torch, torchgauge as tg
from torch.nn.functional import scaled_dot_product_attention as attend
class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.query = torch.nn.Linear(64, 64)
    def forward(self, values, offsets):
        nested = self.query(torch.nested.nested_tensor_from_jagged(values, offsets))
        heads = nested.unflatten(-1, (4, 16)).transpose(1, 2)
        return attend(heads, heads, heads).transpose(1, 2).flatten(-2).values()
report = tg.analyze(Attention(), input_data=(torch.randn(40, 64), torch.tensor([0, 5, 17, 37, 40])))
print(report.outputs[0].tensor.shape, report.totals.forward_macs)
"""


def test_jagged_attention_in_a_fresh_process():
    """What torch's own file refers to there is imported by nobody."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", JAGGED], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    padded = 2 * 4 * 20 * 20 * 64  # four rows of 20, scores and values
    assert done.stdout.split("\n")[0] == f"(40, 64) {40 * 64 * 64 + padded}"


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning")
@pytest.mark.parametrize("kind", ["expanded", "CSR", "COO"])
def test_fewer_bytes_are_not_yet_quantized(kind):
    class Holds(nn.Linear):
        def __init__(self):
            super().__init__(4, 4)
            made = {
                "expanded": lambda: torch.ones(1).expand(64),
                "CSR": lambda: torch.eye(64).to_sparse_csr(),
                "COO": lambda: torch.eye(64).to_sparse(),
            }
            self.extra = nn.Parameter(made[kind](), requires_grad=False)

    report = tg.analyze(Holds(), (2, 4))
    assert not any("quantized" in said for said in report.assumptions)


class Decoder(nn.Module):
    """Ends where a word is chosen."""

    def __init__(self, end: int) -> None:
        super().__init__()
        self.embedding, self.output, self.end = nn.Embedding(300, 16), nn.Linear(16, 300), end
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.output.bias.data[7] = 1.0  # always the word 7

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        word = ids[:, -1:]
        for _ in range(6):
            word = self.output(self.embedding(word)).argmax(-1)
            if (word == self.end).any():
                break
        return word


@pytest.mark.parametrize(("end", "steps"), [(0, 6), (2, 6), (50, 6), (7, 1)])
def test_a_choice_decides_no_loop_by_an_even_split(end: int, steps: int) -> None:
    report = tg.analyze(Decoder(end), input_data=(torch.randint(3, 300, (3, 5)),))
    assert report.totals.forward_macs == steps * 3 * 16 * 300
    assert report.execution == "real"


def test_numbers_in_the_names_of_layers():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleDict({f"layer{i}": nn.Linear(8, 8) for i in range(3)})

        def forward(self, x):
            for index in torch.arange(3):
                x = self.layers[f"layer{index}"](x)
            return x

    report = tg.analyze(Named(), (6, 8), real_run=False)
    assert (report.execution, report.totals.forward_macs) == ("simulated", 3 * 6 * 64)


class OfPacked(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, packed: nn.utils.rnn.PackedSequence) -> torch.Tensor:
        recurrent = isinstance(self.layer, nn.RNNBase)
        output: torch.Tensor = self.layer(packed)[1] if recurrent else self.layer(packed.data)
        return output


@pytest.mark.parametrize("layer", [nn.Linear(64, 2), nn.GRU(64, 32)], ids=["data", "GRU"])
def test_a_packed_sequence_as_input_counts_once(layer: nn.Module) -> None:
    packed = nn.utils.rnn.pack_sequence([torch.randn(n, 64) for n in (200, 150, 150, 20)])
    report = tg.analyze(OfPacked(layer), input_data=(packed,))
    assert report.memory is not None and report.warnings == ()
    assert report.memory.input_bytes == 520 * 64 * 4 + 200 * 8


@pytest.mark.parametrize("length", [10, 120])
def test_the_backward_of_a_ctc_loss(length: int) -> None:
    class Recognizer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.output = nn.Linear(20, 30)

        def forward(self, x, words, sizes, lengths):
            return F.ctc_loss(self.output(x).log_softmax(-1), words, sizes, lengths)

    steps, batch = 400, 8
    data = (
        torch.randn(steps, batch, 20), torch.randint(1, 30, (batch, length)),
        torch.full((batch,), steps), torch.full((batch,), length),
    )  # fmt: skip
    model = Recognizer()
    report = tg.analyze(model, input_data=data, scenario=TRAINING)
    real_peak(model, *data, training=True)  # the first step loads what later ones find
    assert predicted_peak(report) == real_peak(model, *data, training=True)


def test_a_gradient_that_is_one_number_costs_no_memory() -> None:
    """The gradient of a mean is one number, expanded to the shape of the output: 8 GiB here."""
    start = time.process_time()
    tg.analyze(nn.Linear(64, 128_256), (8, 2048, 64), scenario=TRAINING)
    assert time.process_time() - start < 3


@pytest.mark.parametrize("read", ["item", "tolist", "bool", "nonzero", "index"])
def test_values_in_a_constructor_are_known(read: str) -> None:
    """Rates of stochastic depth, masks: the store of a construction is the one that is asked."""
    with tg.meta_construction():
        rates = torch.linspace(0, 0.5, 6)
        found = {
            "item": lambda: [rate.item() for rate in rates],
            "tolist": rates.tolist,
            "bool": lambda: bool((rates > 1).any()),
            "nonzero": lambda: (rates > 0.25).nonzero().tolist(),
            "index": lambda: rates[rates > 0.25].tolist(),
        }[read]()
    real = torch.linspace(0, 0.5, 6)
    assert (
        found
        == {
            "item": real.tolist(),
            "tolist": real.tolist(),
            "bool": False,
            "nonzero": [[3], [4], [5]],
            "index": real[3:].tolist(),
        }[read]
    )
